package poolcore

import "strconv"

// acquire takes a slot of the worker with the most free ones; of equals, of the one
// whose id comes first.
func (d *decision) acquire(op op) {
	s := &d.s
	var best *place
	total := 0
	for i := range s.places {
		p := &s.places[i]
		if !p.serving() {
			continue
		}
		total += p.slots
		if best == nil || before(p, best) {
			best = p
		}
	}
	switch {
	case s.drain.on:
		d.refuse(op, Draining)
	case best == nil:
		d.refuse(op, PoolUnready)
	case best.held >= best.slots || s.held()+s.work.known() >= total:
		d.refuse(op, NoSlots)
	default:
		best.held++
		d.emit(effDone{op: op, worker: best.gen})
	}
}

// before reports whether a is the better choice.
func before(a, b *place) bool {
	if fa, fb := a.slots-a.held, b.slots-b.held; fa != fb {
		return fa > fb
	}
	return strconv.Itoa(a.at)+"-" < strconv.Itoa(b.at)+"-" // the order of worker ids
}

// release gives a slot back. The slots of a worker that is gone went with it.
func (d *decision) release(gen gen) {
	if p := d.place(gen); p != nil && p.held > 0 {
		p.held--
	}
}
