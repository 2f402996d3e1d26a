package placement

import (
	"cmp"
	"slices"
)

// Decision is the outcome of one choice.
type Decision struct {
	Worker *Worker // nil: no capacity now
	Reason string  // without a worker: the binding filter, or "empty"
}

// Decide picks a worker for r: of those that pass every filter the one with
// most free slots, then most free VRAM, then the smallest key (least-loaded,
// ORC-303). Workers that failed this task before are taken only if no other is
// feasible.
func Decide(v *View, r Request, p Policy) Decision {
	var best candidate
	furthest := avoid
	for i := range v.rows {
		w := &v.rows[i]
		if at := failing(w, &r); at != passed {
			furthest = max(furthest, at)
			continue
		}
		c := candidate{worker: w.Worker, free: w.free, tried: slices.Contains(r.Tried, w.Key)}
		if best.worker == nil || c.compare(best) < 0 {
			best = c
		}
	}
	if best.worker != nil {
		return Decision{Worker: best.worker}
	}
	if len(v.rows) == 0 {
		return Decision{Reason: "empty"}
	}
	return Decision{Reason: filterNames[furthest]}
}

// candidate is a feasible worker with what orders it.
type candidate struct {
	worker *Worker
	free   int
	tried  bool
}

// compare orders candidates, the better one first; it is a total order.
func (c candidate) compare(o candidate) int {
	return cmp.Or(
		compareBool(c.tried, o.tried),
		cmp.Compare(o.free, c.free),
		cmp.Compare(o.worker.VRAMFree, c.worker.VRAMFree),
		c.worker.Key.Compare(o.worker.Key),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
