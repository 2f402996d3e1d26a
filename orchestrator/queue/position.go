package queue

import (
	"iter"
	"math"
	"slices"
)

// Position estimates how many items go before this one if every key is open:
// all of higher classes, the tenant's own that come first, and of each other
// tenant at most that many and one more (ORC-216). The order at which tenants
// take turns, later arrivals and promotions are not foreseen. False if the item
// does not wait here.
func (q *Queue) Position(id ID) (int, bool) {
	e := q.byID[id]
	if e == nil {
		return 0, false
	}
	return q.position(e), true
}

func (q *Queue) position(e *entry) int {
	f, n := e.lane.flow, 0
	for c := range e.item.Class {
		n += q.ranks[c].count
	}
	own := 0
	for _, l := range f.lanes {
		ahead, _ := l.ahead(&e.item)
		own += ahead
	}
	n += own
	if own+1 >= len(f.rank.levels) {
		return n + f.rank.count - f.places // nobody holds more
	}
	for _, tenants := range f.rank.levels[:own+1] {
		n += tenants
	}
	return n - own - 1
}

// ahead counts the lane's items that go before it, and their work. The usual
// newcomer comes after all; else it walks that part of the heap.
func (l *lane) ahead(it *Item) (n int, work int64) {
	if d := due(it); d > l.due || (d == l.due && it.Seq >= l.seq) {
		n, work = len(l.items)+len(l.shut), l.work
		if it.Key == l.group.key && it.Seq == l.seq && n > 0 {
			n, work = n-1, work-it.Service
		}
		return n, work
	}
	for _, e := range l.shut {
		if before(&e.item, it) {
			n, work = n+1, work+e.item.Service
		}
	}
	inHeap, w := l.below(0, it)
	return n + inHeap, work + w
}

// below counts what goes before it in the heap under place i.
func (l *lane) below(i int, it *Item) (n int, work int64) {
	if i >= len(l.items) || !before(&l.items[i].item, it) {
		return 0, 0
	}
	a, x := l.below(2*i+1, it)
	b, y := l.below(2*i+2, it)
	return a + b + 1, x + y + l.items[i].item.Service
}

// Line is the work that stands before an item, in expected ns on one slot.
type Line struct {
	Above   int64 // of higher classes
	Others  int64 // of other tenants in its class
	Own     int64 // of its tenant in its class, what goes before it
	Behind  int64 // of its tenant in its class, what goes after it
	Service int64 // its own
	Weight  int64
	Weights int64 // of all tenants with places in its class, its own included
}

// Line returns the work before an item that waits, or would be pushed now. Only keys that compete for the same slots count; nil = all do.
func (q *Queue) Line(it Item, competes func(KeyID) bool) Line {
	it.bound()
	e := q.byID[it.ID]
	if e != nil {
		it.Seq, it.Service = e.item.Seq, e.item.Service
	} else {
		it.Seq = math.MaxUint64
	}
	out := Line{Service: it.Service, Weight: 1}
	for c := range it.Class + 1 {
		for _, g := range q.ranks[c].groups {
			switch {
			case competes != nil && !competes(g.key):
			case c < it.Class:
				out.Above += g.work
			default:
				out.Others += g.work
			}
		}
	}
	out.Weights = q.ranks[it.Class].weights
	t := q.tenants[it.Tenant]
	if t == nil {
		out.Weights++
		return out
	}
	f := &t.flows[it.Class]
	out.Weight = t.weight
	if f.places == 0 {
		out.Weights += t.weight
	}
	if e != nil {
		out.Behind -= it.Service
	}
	for _, l := range f.lanes {
		if competes == nil || competes(l.group.key) {
			_, work := l.ahead(&it)
			out.Own, out.Others, out.Behind = out.Own+work, out.Others-l.work, out.Behind+l.work-work
		}
	}
	return out
}

// maxAfter bounds what [Queue.After] lists.
const maxAfter = 1024

// After lists what the tenant of an item has in its class that goes after it, in
// order; false if that is more than 1,024 items. Keys count as for Line.
func (q *Queue) After(it Item, competes func(KeyID) bool) (out []Item, ok bool) {
	it.bound()
	if e := q.byID[it.ID]; e != nil {
		it.Seq = e.item.Seq
	} else {
		it.Seq = math.MaxUint64
	}
	t := q.tenants[it.Tenant]
	if t == nil {
		return nil, true
	}
	for _, l := range t.flows[it.Class].lanes {
		if competes != nil && !competes(l.group.key) {
			continue
		}
		for _, list := range [...][]*entry{l.items, l.shut} {
			for _, e := range list {
				if before(&it, &e.item) {
					out = append(out, e.item)
				}
			}
			if len(out) > maxAfter {
				return nil, false
			}
		}
	}
	slices.SortFunc(out, func(a, b Item) int { return order(&a, &b) })
	return out, true
}

// Work is what has to be done before the item starts: all that stands before
// it, but while its tenant does what it has, its own start included, the others
// do at most their share (ORC-250).
func (l Line) Work() int64 {
	shared := mulDiv(l.Own+l.Service, l.Weights, l.Weight) - l.Service
	return l.Above + min(l.Own+l.Others, shared)
}

// Drain is Work if what its tenant has later went first, too: an item that can
// wait for that takes no time from those that were admitted before.
func (l Line) Drain() int64 {
	l.Own += l.Behind
	return l.Work()
}

// Pushed yields the items that go after the one of the line, each with the Work
// before it once that one stands before them.
func (l Line) Pushed(after []Item) iter.Seq2[Item, int64] {
	return func(yield func(Item, int64) bool) {
		for _, e := range after {
			l.Own, l.Service = l.Own+l.Service, e.Service
			if !yield(e, l.Work()) {
				return
			}
		}
	}
}
