package queue

import (
	"container/heap"
	"math"
	"slices"
)

// entry is an item with its places in the lists that hold it.
type entry struct {
	item       Item
	lane       *lane
	prev, next *entry // by arrival in the lane's group
	place      int32  // in lane.items if open, else in lane.shut
	open       bool   // may be picked
}

// lane holds the items of one tenant and key in one class.
type lane struct {
	flow  *flow
	group *group
	items []*entry // heap: may be picked
	shut  []*entry // any order: a place is taken, may not be picked
	work  int64    // expected ns on a slot, of both
	due   Instant  // no item is due later
	seq   uint64   // no item came later
}

// group holds the items of one key in one class by arrival.
type group struct {
	rank       *rank
	key        KeyID
	head, tail *entry
	work       int64  // expected ns on a slot
	turn       uint64 // the Pick that asked for open
	open       bool
}

// rank is one class.
type rank struct {
	groups  []*group // sorted by key, none empty
	active  []turn   // those with something to pick that are not held, in any order: ties end by arrival
	count   int
	levels  []int // tenants that hold more than so many places; no zero at the end
	weights int64 // of tenants with places
	clock   int64 // virtual time of the last fair pick: where tenants start that had nothing to pick
}

// turn is a flow with what Pick reads of all flows.
type turn struct {
	virtual int64
	seq     uint64 // the least of the first items of its lanes
	flow    *flow
}

func (t *turn) before(virtual int64, seq uint64) bool {
	return t.virtual < virtual || t.virtual == virtual && t.seq < seq
}

// before orders the items of one tenant (ORC-212).
func before(a, b *Item) bool {
	if x, y := due(a), due(b); x != y {
		return x < y
	}
	return a.Seq < b.Seq
}

func due(it *Item) Instant {
	if it.Due == 0 {
		return math.MaxInt64
	}
	return it.Due
}

func (l *lane) Len() int           { return len(l.items) }
func (l *lane) Less(i, j int) bool { return before(&l.items[i].item, &l.items[j].item) }
func (l *lane) Swap(i, j int) {
	l.items[i], l.items[j] = l.items[j], l.items[i]
	l.items[i].place, l.items[j].place = int32(i), int32(j)
}

func (l *lane) Push(x any) {
	e := x.(*entry)
	e.place = int32(len(l.items))
	l.items = append(l.items, e)
}

func (l *lane) Pop() any {
	last := len(l.items) - 1
	e := l.items[last]
	l.items[last] = nil
	l.items = l.items[:last]
	return e
}

// add takes a place for an item that may not be picked yet.
func (l *lane) add(e *entry) {
	e.lane, e.open, e.place = l, false, int32(len(l.shut))
	l.shut = append(l.shut, e)
	l.work += e.item.Service
	l.due, l.seq = max(l.due, due(&e.item)), max(l.seq, e.item.Seq)
	l.group.add(e)
}

// unshut lets an item be picked.
func (l *lane) unshut(e *entry) {
	l.dropShut(e)
	e.open = true
	heap.Push(l, e)
}

func (l *lane) dropShut(e *entry) {
	last := len(l.shut) - 1
	l.shut[e.place] = l.shut[last]
	l.shut[e.place].place = e.place
	l.shut[last] = nil
	l.shut = l.shut[:last]
}

// remove takes an item out; an empty lane leaves its flow, an empty group its rank.
func (l *lane) remove(e *entry) {
	if e.open {
		heap.Remove(l, int(e.place))
	} else {
		l.dropShut(e)
	}
	l.work -= e.item.Service
	l.group.remove(e)
	if len(l.items)+len(l.shut) == 0 {
		lanes := l.flow.lanes
		at, _ := slices.BinarySearchFunc(lanes, l.group.key, laneKey)
		l.flow.lanes = slices.Delete(lanes, at, at+1)
	}
}

func laneKey(l *lane, k KeyID) int   { return compare(l.group.key, k) }
func groupKey(g *group, k KeyID) int { return compare(g.key, k) }

// add puts an item at its place by arrival: the end, or near the front for one that comes back.
func (g *group) add(e *entry) {
	g.work += e.item.Service
	g.rank.count++
	next := g.head
	if g.tail != nil && g.tail.item.Seq < e.item.Seq {
		next = nil
	}
	for next != nil && next.item.Seq < e.item.Seq {
		next = next.next
	}
	e.next, e.prev = next, g.tail
	if next != nil {
		e.prev, next.prev = next.prev, e
	} else {
		g.tail = e
	}
	if e.prev != nil {
		e.prev.next = e
	} else {
		g.head = e
	}
}

func (g *group) remove(e *entry) {
	g.work -= e.item.Service
	g.rank.count--
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		g.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		g.tail = e.prev
	}
	e.prev, e.next = nil, nil
	if g.head == nil {
		at, _ := slices.BinarySearchFunc(g.rank.groups, g.key, groupKey)
		g.rank.groups = slices.Delete(g.rank.groups, at, at+1)
	}
}

// ask reports whether the key has a free slot, once per Pick.
func (g *group) ask(turn uint64, open func(KeyID) bool) bool {
	if g.turn != turn {
		g.turn, g.open = turn, open(g.key)
	}
	return g.open
}

// group returns the group of a key, a new one if there is none.
func (r *rank) group(k KeyID) *group {
	at, found := slices.BinarySearchFunc(r.groups, k, groupKey)
	if !found {
		r.groups = slices.Insert(r.groups, at, &group{rank: r, key: k})
	}
	return r.groups[at]
}

// grow notes that a tenant with n places takes one more.
func (r *rank) grow(n int) {
	if n == len(r.levels) {
		r.levels = append(r.levels, 0)
	}
	r.levels[n]++
}

// shrink notes that a tenant with n+1 places gives one back.
func (r *rank) shrink(n int) {
	if r.levels[n]--; r.levels[n] == 0 {
		r.levels = r.levels[:n] // no tenant holds more
	}
}
