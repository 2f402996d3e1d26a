package poolcore

import "slices"

// settle brings forward what several events together make possible, derives the
// pool's phase from its places and answers who waits for it.
func (d *decision) settle() {
	for range 2 { // the end of an operation lets a drain or a purge begin
		d.sweep()
		d.obey()
		d.stepDrain()
		d.stepReload()
		d.sweep()
		d.setBusy()
		d.stepPurge()
		d.setPhase()
	}
	if !slices.ContainsFunc(d.s.places, func(p place) bool { return p.alive || p.pending }) {
		d.s.breaker = d.s.breaker.untried(d.now)
	}
}

// setBusy tells which workers have work: by the slots taken here, by the engine's
// own report, and, where one worker serves, by the scheduler's count, which is one
// number per pool.
func (d *decision) setBusy() {
	only := d.s.serving() == 1 && d.s.work.known() > 0
	for i := range d.s.places {
		p := &d.s.places[i]
		if !p.serving() {
			continue
		}
		p.status = ready
		if only || p.used() > 0 {
			p.status = busy
		}
	}
}

func (d *decision) setPhase() {
	var serving, coming, left, all int
	surviving, sound := false, true
	for i := range d.s.places {
		p := &d.s.places[i]
		if !p.over() {
			left++
		}
		switch {
		case p.status == stuck:
			surviving = true
		case p.serving():
			serving++
			sound = sound && p.misses < missesToFail
		case p.coming() || p.again:
			coming++
		}
		if !p.gone {
			all++
		}
	}
	if d.s.phase == stopping || d.s.phase == stopped {
		if left == 0 {
			d.finishStop(surviving)
		}
		return
	}
	switch {
	case d.s.staging:
		d.s.phase = staging
	case d.s.drain.on && !d.s.drain.over:
		d.s.phase = draining
	case d.s.drain.on && d.s.drain.sick:
		d.s.phase = failed
	case d.s.drain.on:
		d.s.phase = drained
	case d.s.reload.on:
		d.s.phase = reloading
	case serving > 0 && serving == all && sound:
		d.s.phase = ready
	case serving > 0:
		d.s.phase = degraded
	case coming > 0:
		d.s.phase = starting
	default:
		d.s.phase = failed
	}
	d.finishStart(serving, left)
	if d.s.restart != 0 && serving == all {
		d.restarted(nil)
	}
}

// finishStop answers every stop once the last process is gone. A process that
// cannot be ended is the answer, not a reason to wait for ever.
func (d *decision) finishStop(surviving bool) {
	if r := &d.s.reload; r.on {
		if r.phase != phaseAborting && r.phase != phaseClosing {
			r.phase = phaseAborting
			d.dropJournal()
		}
		return // until the journal is gone
	}
	d.s.phase, d.s.bound = stopped, false
	var fail *failure
	if surviving {
		d.s.phase = failed
		fail = &failure{code: WorkerStuck, message: "a process survives SIGKILL"}
	}
	for _, op := range d.s.stops {
		d.done(op, fail)
	}
	d.s.stops = nil
	d.done(d.s.op, d.s.opFail)
	d.s.op, d.s.opFail = 0, nil
}

// finishStart answers a preload: with success once all workers are ready, with its
// failure once nothing of it is left.
func (d *decision) finishStart(serving, left int) {
	if d.s.op == 0 || d.s.staging {
		return
	}
	switch {
	case d.s.opFail != nil:
		if left > 0 {
			return
		}
	case serving < d.s.edition.replicas:
		return
	default:
		d.s.keep = true
	}
	d.done(d.s.op, d.s.opFail)
	d.s.op, d.s.opFail = 0, nil
}

// purge removes what a pool leaves on disk, once its engines are gone.
type purge struct {
	on      bool
	op      op
	work    purgeWork
	running bool
}

func (d *decision) purgeAsked(e evPurge) {
	if d.s.engaged() {
		d.emit(effAccept{op: e.op, code: PoolBusy})
		return
	}
	d.emit(effAccept{op: e.op})
	d.s.purge = purge{on: true, op: e.op, work: e.work}
	if e.work.engine && e.within > 0 && d.s.phase != stopped {
		d.beginDrain(e.within)
		d.s.drain.asked = true
	}
}

func (d *decision) stepPurge() {
	r := &d.s.purge
	if !r.on || r.running || r.work.engine && d.s.drain.on && !d.s.drain.over {
		return
	}
	switch {
	case !r.work.engine || d.s.phase == stopped:
		r.running = true
		d.emit(effPurge{op: r.op, work: r.work})
	case d.s.phase == stopping:
	case !d.s.keep && d.s.phase == failed && d.survivor():
		d.done(r.op, &failure{code: WorkerStuck})
		d.s.purge = purge{}
	default:
		d.halt(d.s.edition.stopGrace)
	}
}

// survivor reports whether a process of the pool could not be ended so far.
func (d *decision) survivor() bool {
	return slices.ContainsFunc(d.s.places, func(p place) bool { return p.alive })
}

func (d *decision) purged(e evPurged) {
	if d.s.purge.on && d.s.purge.op == e.op {
		d.done(e.op, e.fail)
		d.s.purge = purge{}
	}
}
