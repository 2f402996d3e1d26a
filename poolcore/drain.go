package poolcore

import "time"

// DrainOutcome says how a drain ended.
type DrainOutcome struct {
	Forced     bool          // the deadline came before everything was idle
	Duration   time.Duration // from the request to the end
	ActiveLeft int           // requests that ran at the deadline, as far as is known
}

// drain takes a pool out of service until what runs there has ended.
type drain struct {
	on        bool
	asked     bool // by a caller: undrain lifts it
	node      bool // by the scheduler, with all of the node: its next word lifts it
	sick      bool // by an unhealthy device: its recovery lifts it
	leave     bool // engines go when everything is idle
	ending    bool // engines are going
	over      bool
	since, by time.Duration
	ops       []op
	outcome   DrainOutcome
}

func (d *decision) drainAsked(e evDrain) {
	switch {
	case d.s.phase == stopped || d.s.phase == stopping || !d.s.keep && d.s.op == 0:
		d.refuse(e.op, PoolUnready)
	case d.s.engaged():
		d.refuse(e.op, PoolBusy)
	default:
		d.beginDrain(e.within)
		d.s.drain.asked = true
		d.s.drain.ops = append(d.s.drain.ops, e.op)
		if d.s.drain.over {
			d.answerDrain(nil)
		}
	}
}

// beginDrain makes the pool not placeable at once, or joins a drain that is under
// way: the earlier deadline wins.
func (d *decision) beginDrain(within time.Duration) {
	by := d.now + min(within, longest)
	if d.s.drain.on {
		d.s.drain.by = min(d.s.drain.by, by)
		return
	}
	d.s.drain = drain{on: true, leave: d.s.edition.stopAfterDrain, since: d.now, by: by}
	for i := range d.s.places {
		d.drainPlace(&d.s.places[i])
	}
}

func (d *decision) drainPlace(p *place) {
	p.again = false
	switch {
	case p.serving():
		p.quiet, p.drainAt = false, d.now
		if !p.asking {
			p.probeAt = d.now // an idle report of before says nothing
		}
		d.move(p, "drain", draining)
	case p.coming():
		d.end(p, "drain", 0) // nothing new
	case p.status == failed:
		p.dueAt = never
	}
}

// isIdle reports whether nothing runs in the places any more, by the slots that were
// taken here, by the engines themselves, and by a scheduler that knows that they
// take no work. Where it has fallen silent, an engine that cannot tell is not
// believed.
func (d *decision) isIdle(which func(place) bool) bool {
	for i := range d.s.places {
		p := &d.s.places[i]
		if !which(*p) || p.status != draining {
			continue
		}
		if p.held > 0 || !p.quiet || !d.s.work.knew(p.drainAt) || d.s.work.stale && p.reported < 0 {
			return false
		}
	}
	return true
}

func anyPlace(place) bool { return true }

// stepDrain brings a drain forward; it is part of every step.
func (d *decision) stepDrain() {
	r := &d.s.drain
	if !r.on || r.over {
		return
	}
	if !r.ending {
		idle := d.s.work.known() == 0 && d.isIdle(anyPlace)
		if !idle && d.now < r.by {
			return
		}
		r.outcome = DrainOutcome{Forced: !idle, ActiveLeft: d.s.work.known() + d.s.held()}
		if idle {
			r.outcome.ActiveLeft = 0
		}
		r.ending = true
		if !idle || r.leave || r.sick {
			d.endAll("drained", d.s.edition.stopGrace)
		}
	}
	for i := range d.s.places {
		if p := &d.s.places[i]; p.status != draining && !p.over() {
			return
		}
	}
	r.over = true
	r.outcome.Duration = d.now - r.since
	d.emit(effDrained{outcome: r.outcome})
	d.answerDrain(nil)
}

func (d *decision) answerDrain(fail *failure) {
	for _, op := range d.s.drain.ops {
		d.emit(effDone{op: op, fail: fail, drained: d.s.drain.outcome})
	}
	d.s.drain.ops = nil
}

// endDrain forgets a drain whose pool goes another way.
func (d *decision) endDrain(fail *failure) {
	d.answerDrain(fail)
	d.s.drain = drain{}
}

// obey drains a pool while its node is closed, as soon as no operation is under way.
func (d *decision) obey() {
	r := &d.s.drain
	switch {
	case d.s.closed == r.node:
	case r.node:
		r.node = false
		d.liftDrain("undrain")
	case d.s.keep && !d.s.engaged() && d.s.phase != stopped:
		d.beginDrain(max(d.s.closeBy-d.now, 0))
		r.node = true
	}
}

func (d *decision) undrain(op op) {
	if d.s.purge.on {
		d.refuse(op, PoolBusy)
		return
	}
	if d.s.drain.on {
		d.s.drain.asked = false
		d.liftDrain("undrain")
	}
	d.done(op, nil)
}

// liftDrain restores what was taken out of service, once no reason is left:
// engines that still run serve again, others are started anew.
func (d *decision) liftDrain(why string) {
	if r := d.s.drain; r.asked || r.sick || r.node {
		return
	}
	d.endDrain(&failure{code: Cancelled, message: "the drain was undone"})
	for i := range d.s.places {
		d.restore(&d.s.places[i], why)
	}
	d.launchMissingReplicas(why)
}

func (d *decision) restore(p *place, why string) {
	switch {
	case p.status == draining:
		p.probeAt = d.now
		if p.asking {
			p.probeAt = never
		}
		d.move(p, why, ready)
		d.forgive(p, d.s.edition.timing) // what came due meanwhile
	case p.status == stuck || p.gone || p.coming():
	case !p.over():
		p.again = true // it is on its way out
	default:
		d.launch(p, why)
	}
}

// launchMissingReplicas starts the places that a fresh pool never got.
func (d *decision) launchMissingReplicas(why string) {
	if !d.s.bound {
		d.launchMissing(d.s.edition, why)
	}
}
