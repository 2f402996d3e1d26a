package queue

import "math"

// Before returns the [Queue.Position] that an item would get if it were pushed
// now and nobody had to make room for it.
func (q *Queue) Before(it Item) int {
	it.bound()
	it.Seq = math.MaxUint64
	n, own, places := 0, 0, 0
	for c := range it.Class {
		n += q.ranks[c].count
	}
	if t := q.tenants[it.Tenant]; t != nil {
		f := &t.flows[it.Class]
		places = f.places
		for _, l := range f.lanes {
			ahead, _ := l.ahead(&it)
			own += ahead
		}
	}
	levels := q.ranks[it.Class].levels
	for _, tenants := range levels[:min(own+1, len(levels))] {
		n += tenants
	}
	return n + own - min(places, own+1) // the tenant itself is in as many levels as it has places
}
