package poolcore

import (
	"slices"
	"time"
)

func (d *decision) start(e evStart) {
	refuse := func(c Code) { d.emit(effAccept{op: e.op, code: c}) }
	same := !d.s.bound && e.edition.cfg.same(d.s.edition.cfg)
	switch {
	case d.s.last:
		refuse(HostStopped)
	case d.s.engaged():
		refuse(PoolBusy)
	case d.s.fresh() && d.survivor():
		refuse(WorkerStuck) // its port and memory are not free
	case d.s.fresh() && d.s.closed && !e.keep:
		refuse(Draining)
	case d.s.fresh() && e.sick && !e.keep:
		refuse(GPUUnhealthy)
	case d.s.fresh():
		d.begin(e)
	case d.s.drain.on && !d.s.drain.asked && !d.s.drain.node:
		refuse(GPUUnhealthy)
	case d.s.drain.on:
		refuse(Draining)
	case same && d.s.serving() == 0 && d.s.breaker.state == breakerOpen:
		refuse(BreakerOpen)
	case same:
		d.emit(effAccept{op: e.op, done: true})
	default:
		refuse(PoolExists)
	}
}

// begin gives the pool a configuration. A preload proves it first; who retries for
// ever waits for nothing.
func (d *decision) begin(e evStart) {
	d.emit(effAccept{op: e.op, done: e.keep})
	d.renew(e.edition)
	d.s.keep, d.s.sick = e.keep, e.sick // the devices may be other ones than before
	if !e.keep {
		d.s.op, d.s.staging = e.op, true
		d.emit(effStage{op: e.op, edition: e.edition})
		return
	}
	for _, f := range e.found {
		d.adopt(f)
	}
	if e.resume != nil {
		d.resume(e.resume)
	}
	switch {
	case d.s.sick: // started when the device is healthy
		d.fallSick("")
	case d.s.closed: // started when the node is open
	case e.resume == nil:
		d.launchMissing(e.edition, "start")
	}
}

// launchMissing starts a worker in every place that has none with the edition.
func (d *decision) launchMissing(edition *edition, why string) {
	for at := range edition.replicas {
		if !slices.ContainsFunc(d.s.places, func(p place) bool { return p.at == at && p.edition == edition && !p.gone }) {
			d.add(at, edition, why)
		}
	}
}

func (d *decision) add(at int, edition *edition, why string) {
	d.s.places = append(d.s.places, place{at: at, edition: edition, reported: -1})
	d.launch(&d.s.places[len(d.s.places)-1], why)
}

// adopt takes over an engine that an earlier run left alive. It has adoptionProof
// to answer with its own identity.
func (d *decision) adopt(f found) {
	d.s.nextGen++
	p := place{
		at: f.at, edition: f.edition, gen: d.s.nextGen, alive: true, adopted: true, slots: f.edition.slots,
		reported: -1, startedAt: d.now, progressAt: d.now, probeAt: d.now, dueAt: never,
	}
	d.s.places = append(d.s.places, p)
	d.emit(effAdopt{gen: p.gen, worker: f.worker})
	d.move(&d.s.places[len(d.s.places)-1], "adopted", starting)
}

// staged takes the answer to the proof of a preload or of a reload.
func (d *decision) staged(e evStaged) {
	if d.s.reload.on && e.op == d.s.reload.op && d.s.reload.phase == phaseStaging {
		d.reloadStaged(e.fail)
		return
	}
	if d.s.op != e.op || !d.s.staging {
		return
	}
	d.s.staging = false
	if e.fail != nil {
		d.s.opFail, d.s.lastErr = e.fail, e.fail
		return
	}
	d.launchMissing(d.s.edition, "start")
}

// abandon undoes a preload of which one worker failed.
func (d *decision) abandon(f failure) {
	if d.s.opFail == nil {
		d.s.opFail = &f
	}
	d.s.staging = false
	d.endAll("undo", d.s.edition.stopGrace)
}

// endAll asks every process to go.
func (d *decision) endAll(why string, grace time.Duration) {
	for i := range d.s.places {
		d.s.places[i].again = false
		d.end(&d.s.places[i], why, grace)
	}
}

// cancel ends an accepted preload or reload early; of others nothing is known.
func (d *decision) cancel(op op) {
	f := failure{code: Cancelled, message: "cancelled"}
	switch {
	case op == 0 || d.s.phase == stopping:
	case op == d.s.op:
		d.abandon(f)
	case d.s.reload.on && op == d.s.reload.op:
		d.reloadCancelled(f)
	}
}

func (d *decision) stop(e evStop) {
	d.s.stops = append(d.s.stops, e.op)
	d.s.last = d.s.last || e.last
	if d.s.phase == stopped {
		return
	}
	grace := d.s.edition.stopGrace
	if e.grace > 0 {
		grace = e.grace
	}
	if e.most > 0 {
		grace = min(grace, e.most)
	}
	d.halt(grace)
}

// halt ends everything; whatever waits for something else is told.
func (d *decision) halt(grace time.Duration) {
	d.s.phase, d.s.keep, d.s.staging = stopping, false, false
	off := &failure{code: HostStopped, message: "stopped meanwhile"}
	if d.s.op != 0 && d.s.opFail == nil {
		d.s.opFail = off
	}
	d.restarted(off)
	d.endDrain(off)
	if d.s.reload.on {
		d.s.reload.fail = off
	}
	d.endAll("stop", grace)
}

// restartAsked replaces all workers by new ones and forgets what failed.
func (d *decision) restartAsked(op op) {
	switch {
	case d.s.engaged():
		d.refuse(op, PoolBusy)
	case d.s.drain.on:
		d.refuse(op, Draining)
	case !d.s.keep || d.s.phase == stopped:
		d.refuse(op, PoolUnready)
	default:
		d.renewWorkers(op)
	}
}

func (d *decision) renewWorkers(op op) {
	d.s.restart = op
	d.forget()
	for i := range d.s.places {
		p := &d.s.places[i]
		switch {
		case p.status == stuck:
			d.restarted(&failure{code: WorkerStuck})
			return
		case p.alive && p.status != failed:
			d.end(p, "restart", p.edition.stopGrace)
			p.again = true
		case p.alive: // its end is under way
			p.again = true
		case !p.pending:
			d.s.restarts++
			d.launch(p, "restart")
		}
	}
}

// restarted answers a restart.
func (d *decision) restarted(f *failure) {
	d.done(d.s.restart, f)
	d.s.restart = 0
}

// reset lets supervision try again at once.
func (d *decision) reset() {
	d.forget()
	for i := range d.s.places {
		if p := &d.s.places[i]; p.status == failed {
			p.dueAt = d.now
			d.restartDue(p)
		}
	}
}

// forget closes the breaker.
func (d *decision) forget() {
	d.s.breaker = breaker{state: breakerClosed}
	for i := range d.s.places {
		d.s.places[i].failures, d.s.places[i].configErrors, d.s.places[i].portTries = 0, 0, 0
	}
}

// bind puts an external server into its place; one that is there already gives way.
func (d *decision) bind(e evBind) {
	fresh := d.s.fresh()
	switch {
	case d.s.last:
		d.refuse(e.op, HostStopped)
	case d.s.engaged():
		d.refuse(e.op, PoolBusy)
	case fresh && d.survivor():
		d.refuse(e.op, WorkerStuck)
	case !fresh && !d.s.bound:
		d.refuse(e.op, PoolExists)
	case fresh && d.s.closed || d.s.drain.on:
		d.refuse(e.op, Draining)
	default:
		if fresh {
			d.renew(e.edition)
			d.s.keep, d.s.bound, d.s.sick = true, true, false // it is on no device of ours
		}
		d.takeOut(e.at)
		d.s.edition = e.edition
		d.add(e.at, e.edition, "start")
		d.done(e.op, nil)
	}
}

// renew forgets what the pool ran before.
func (d *decision) renew(to *edition) {
	restarts, around := d.s.restarts, d.s.around
	d.s = emptyPool()
	d.s.edition, d.s.phase, d.s.restarts, d.s.around = to, starting, restarts, around
}

func (d *decision) unbind(e evUnbind) {
	if !d.s.bound || !d.takeOut(e.at) {
		d.refuse(e.op, WorkerUnknown)
		return
	}
	d.done(e.op, nil)
	if !slices.ContainsFunc(d.s.places, func(p place) bool { return !p.gone }) {
		d.halt(0) // the last one: the pool is empty
	}
}

// takeOut ends the worker and the place with it, and reports whether there was one.
func (d *decision) takeOut(at int) (any bool) {
	for i := range d.s.places {
		if p := &d.s.places[i]; p.at == at && !p.gone {
			d.end(p, "unbind", 0)
			p.gone, any = true, true
		}
	}
	return any
}
