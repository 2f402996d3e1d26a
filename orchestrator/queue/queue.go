// Package queue is the one bounded queue between admission and placement. It is
// pure: no clock, no randomness, no goroutine; the caller owns it and passes
// the time. Classes are strict, inside a class order is arrival; a task whose
// key has no free slot never holds up one whose key has (ORC-214).
package queue

import (
	"container/heap"
	"errors"
	"slices"
)

// ID is the identity of a task: all 16 bytes count (ORC-200).
type ID [16]byte

// KeyID names a set of static requirements; tasks of one key fit the same workers.
type KeyID uint64

// Instant is nanoseconds since the caller's start, on its monotonic clock.
type Instant int64

// Tenant names who shares fairly with whom: 16 bytes without a spelling (ORC-123).
type Tenant [16]byte

// Item is a task in the queue.
type Item struct {
	ID      ID      `json:"id"`
	Tenant  Tenant  `json:"tenant"`
	Class   Class   `json:"class"`
	Key     KeyID   `json:"key"`
	Cost    int64   `json:"cost"`    // milli-tokens, ≥ 0; charged by Pick (ORC-210)
	Bytes   int64   `json:"bytes"`   // of its sealed body
	Service int64   `json:"service"` // expected time on a slot, in ns; for predictions
	Arrived Instant `json:"arrived"`
	Due     Instant `json:"due"` // its deadline, else arrival + queue timeout; 0 = none
	Seq     uint64  `json:"seq"` // order of arrival; set by Push
}

// Victim is an item that was pushed out, and the policy that did it.
type Victim struct {
	Item   Item
	Policy Policy
}

// Conditions of Push.
var (
	// ErrFull reports that the capacity is reached and the policy found no victim.
	ErrFull = errors.New("queue: full")
	// ErrBytes reports that the bodies waiting would exceed the byte bound.
	ErrBytes = errors.New("queue: too many bytes")
	// ErrDuplicate reports that the id waits already.
	ErrDuplicate = errors.New("queue: duplicate id")
)

// entry is an item with its place in a heap; place −1 = its place is reserved
// but it may not be picked yet.
type entry struct {
	item  Item
	place int
}

// lane holds the pickable items of one key in one class, oldest first.
type lane struct {
	key   KeyID
	items []*entry
}

func (l *lane) Len() int           { return len(l.items) }
func (l *lane) Less(i, j int) bool { return l.items[i].item.Seq < l.items[j].item.Seq }
func (l *lane) Swap(i, j int) {
	l.items[i], l.items[j] = l.items[j], l.items[i]
	l.items[i].place, l.items[j].place = i, j
}

func (l *lane) Push(x any) {
	e := x.(*entry)
	e.place = len(l.items)
	l.items = append(l.items, e)
}

func (l *lane) Pop() any {
	last := len(l.items) - 1
	e := l.items[last]
	l.items[last] = nil
	l.items = l.items[:last]
	e.place = -1
	return e
}

// Queue is the queue. It is not safe for concurrent use: one goroutine owns it.
type Queue struct {
	cfg   Config
	byID  map[ID]*entry
	lanes [classes][]*lane // per class, sorted by key, none empty
	count [classes]int     // places taken, reserved ones included
	bytes int64
	seq   uint64
}

// New returns an empty queue; it fails only on a Config that [Config.Validate] refuses.
func New(cfg Config) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Queue{cfg: cfg.withDefaults(), byID: make(map[ID]*entry)}, nil
}

// Push takes a place for it and returns the number of items ahead. The item
// can not be picked before [Queue.Open]. Victims of the full policy are
// appended to out; each of them has left the queue.
func (q *Queue) Push(now Instant, it Item, out []Victim) (ahead int, victims []Victim, err error) {
	if _, ok := q.byID[it.ID]; ok {
		return 0, out, ErrDuplicate
	}
	if q.cfg.Bytes >= 0 && len(q.byID) > 0 && q.bytes+it.Bytes > q.cfg.Bytes {
		return 0, out, ErrBytes
	}
	out, err = q.makeRoom(it.Class, out)
	if err != nil {
		return 0, out, err
	}
	q.seq++
	it.Seq = q.seq
	q.byID[it.ID] = &entry{item: it, place: -1}
	q.bytes += it.Bytes
	ahead = q.above(it.Class) + q.count[it.Class]
	q.count[it.Class]++
	return ahead, out, nil
}

// Open lets the item be picked; unknown and open ids change nothing.
func (q *Queue) Open(id ID) {
	e, ok := q.byID[id]
	if !ok || e.place >= 0 {
		return
	}
	lanes := q.lanes[e.item.Class]
	at, found := slices.BinarySearchFunc(lanes, e.item.Key, func(l *lane, k KeyID) int { return compare(l.key, k) })
	if !found {
		lanes = slices.Insert(lanes, at, &lane{key: e.item.Key})
		q.lanes[e.item.Class] = lanes
	}
	heap.Push(lanes[at], e)
}

// Pick removes and returns the oldest item of the highest class whose key is
// open; open is asked at most once per key and class.
func (q *Queue) Pick(now Instant, open func(KeyID) bool) (Item, bool) {
	for class := range q.lanes {
		best := -1
		for i, l := range q.lanes[class] {
			if best >= 0 && l.items[0].item.Seq > q.lanes[class][best].items[0].item.Seq {
				continue // an older one is open already
			}
			if open(l.key) {
				best = i
			}
		}
		if best >= 0 {
			it := q.lanes[class][best].items[0].item
			q.Remove(it.ID)
			return it, true
		}
	}
	return Item{}, false
}

// Return puts a picked item back at its old place, whatever the capacity says:
// it was admitted once (ORC-217). It can not be picked before Open.
func (q *Queue) Return(it Item) {
	if _, ok := q.byID[it.ID]; ok {
		return
	}
	q.byID[it.ID] = &entry{item: it, place: -1}
	q.bytes += it.Bytes
	q.count[it.Class]++
}

// Restore takes a place for an item that was admitted before a restart: at the
// end, whatever the capacity says. It can not be picked before Open.
func (q *Queue) Restore(it Item) Item {
	q.seq++
	it.Seq = q.seq
	q.Return(it)
	return it
}

// Remove takes an item out, wherever it is; false if it is not here.
func (q *Queue) Remove(id ID) (Item, bool) {
	e, ok := q.byID[id]
	if !ok {
		return Item{}, false
	}
	if e.place >= 0 {
		q.leaveLane(e)
	}
	delete(q.byID, id)
	q.bytes -= e.item.Bytes
	q.count[e.item.Class]--
	return e.item, true
}

func (q *Queue) leaveLane(e *entry) {
	lanes := q.lanes[e.item.Class]
	at, _ := slices.BinarySearchFunc(lanes, e.item.Key, func(l *lane, k KeyID) int { return compare(l.key, k) })
	heap.Remove(lanes[at], e.place)
	if lanes[at].Len() == 0 {
		q.lanes[e.item.Class] = slices.Delete(lanes, at, at+1)
	}
}

// Ahead returns how many items would go before this one if every key were
// open; false if it does not wait here. It looks at every item, unless this one
// came last.
func (q *Queue) Ahead(id ID) (int, bool) {
	e, ok := q.byID[id]
	if !ok {
		return 0, false
	}
	n := q.above(e.item.Class)
	if e.item.Seq == q.seq {
		return n + q.count[e.item.Class] - 1, true
	}
	for _, other := range q.byID {
		if other.item.Class == e.item.Class && other.item.Seq < e.item.Seq {
			n++
		}
	}
	return n, true
}

// All returns every item, reserved places included, by class and arrival.
func (q *Queue) All() []Item {
	out := make([]Item, 0, len(q.byID))
	for _, e := range q.byID {
		out = append(out, e.item)
	}
	slices.SortFunc(out, func(a, b Item) int {
		if c := compare(a.Class, b.Class); c != 0 {
			return c
		}
		return compare(a.Seq, b.Seq)
	})
	return out
}

// Len returns the places taken in all classes.
func (q *Queue) Len() int { return len(q.byID) }

// Count returns the places taken in a class.
func (q *Queue) Count(c Class) int { return q.count[c] }

// Bytes returns the sum of the bodies waiting.
func (q *Queue) Bytes() int64 { return q.bytes }

// Empty reports whether nothing can be picked, whatever keys are open.
func (q *Queue) Empty() bool {
	for _, lanes := range q.lanes {
		if len(lanes) > 0 {
			return false
		}
	}
	return true
}

// above counts the items of higher classes.
func (q *Queue) above(c Class) int {
	n := 0
	for _, k := range q.count[:c] {
		n += k
	}
	return n
}

func compare[T Class | uint64 | KeyID](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
