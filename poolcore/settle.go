package poolcore

// setBusy spreads the scheduler's count, which is one number per pool: it tells
// which worker is busy only where there is one.
func (d *decision) setBusy() {
	only := -1
	for i := range d.s.places {
		if d.s.places[i].serving() {
			if only >= 0 {
				only = -1
				break
			}
			only = i
		}
	}
	for i := range d.s.places {
		p := &d.s.places[i]
		switch {
		case p.status == ready && i == only && d.s.active > 0:
			p.status = busy
		case p.status == busy && (i != only || d.s.active == 0):
			p.status = ready
		}
	}
}

// settle derives the pool's phase from its places and answers who waits for it.
func (d *decision) settle() {
	var serving, coming, left int
	surviving := false
	for i := range d.s.places {
		p := &d.s.places[i]
		switch {
		case p.serving():
			serving++
		case p.status == starting || p.status == spawning:
			coming++
		case p.status == stuck:
			surviving = true
		}
		if !p.over() {
			left++
		}
	}
	if d.s.phase == stopping || d.s.phase == stopped {
		if left == 0 {
			d.finishStop(surviving)
		}
		return
	}
	switch {
	case serving > 0 && serving == len(d.s.places):
		d.s.phase = ready
	case serving > 0:
		d.s.phase = degraded
	case coming > 0:
		d.s.phase = starting
	default:
		d.s.phase = failed
	}
	d.finishStart(serving, left)
}

// finishStop answers every stop once the last process is gone. A process that
// cannot be ended is the answer, not a reason to wait for ever.
func (d *decision) finishStop(surviving bool) {
	d.s.phase = stopped
	var fail *failure
	if surviving {
		d.s.phase = failed
		fail = &failure{code: WorkerStuck, message: "a process survives SIGKILL"}
	}
	for _, op := range d.s.stops {
		d.emit(effDone{op: op, fail: fail})
	}
	d.s.stops = nil
	if d.s.op != 0 {
		d.emit(effDone{op: d.s.op, fail: d.s.opFail})
		d.s.op, d.s.opFail = 0, nil
	}
}

// finishStart answers a preload: with success once all workers are ready, with its
// failure once nothing of it is left.
func (d *decision) finishStart(serving, left int) {
	if d.s.op == 0 {
		return
	}
	switch {
	case d.s.opFail != nil:
		if left > 0 {
			return
		}
	case serving < len(d.s.places):
		return
	default:
		d.s.keep = true
	}
	d.emit(effDone{op: d.s.op, fail: d.s.opFail})
	d.s.op, d.s.opFail = 0, nil
}
