// Package queue is the one bounded queue between admission and placement. It is
// pure: no clock, no randomness, no goroutine; the caller owns it and passes
// the time. Classes are strict; inside a class tenants share by virtual time
// (start-time fair queueing, ORC-210); inside a tenant the earliest Due goes
// first, then arrival. A task whose key has no free slot never holds up one
// whose key has (ORC-214), and what waited long goes first now and then (ORC-213).
package queue

import (
	"container/list"
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

// Item is a task in the queue. Push brings numbers outside their range into it.
type Item struct {
	ID       ID      `json:"id"`
	Tenant   Tenant  `json:"tenant"`
	Class    Class   `json:"class"`              // an unknown one counts as Batch
	Promoted bool    `json:"promoted,omitempty"` // set by Pick: the aging guard chose it
	Key      KeyID   `json:"key"`
	Cost     int64   `json:"cost"`    // milli-tokens, 0…2⁴⁰; charged by Pick (ORC-210)
	Bytes    int64   `json:"bytes"`   // of its sealed body, ≥ 0
	Service  int64   `json:"service"` // expected time on a slot, 0…2⁴⁴ ns; for predictions
	Arrived  Instant `json:"arrived"`
	Due      Instant `json:"due"`              // its deadline, else arrival + queue timeout; 0 = none, after all others
	Latest   Instant `json:"latest,omitempty"` // start after which even the best case misses the deadline; 0 = none
	Seq      uint64  `json:"seq"`              // order of arrival; set by Push
}

// Bounds of an item's numbers, so that sums of them stay far from overflow.
const (
	maxCost    = 1 << 40
	maxService = 1 << 44
)

func (it *Item) bound() {
	it.Class, it.Promoted = min(it.Class, classes-1), false
	it.Cost, it.Service, it.Bytes = min(max(0, it.Cost), maxCost), min(max(0, it.Service), maxService), max(0, it.Bytes)
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
	// ErrTenantFull reports that the tenant holds its share of the places already (ORC-203).
	ErrTenantFull = errors.New("queue: the tenant holds its share of the places")
	// ErrBytes reports that the bodies waiting would exceed the byte bound.
	ErrBytes = errors.New("queue: too many bytes")
	// ErrDuplicate reports that the id waits already.
	ErrDuplicate = errors.New("queue: duplicate id")
)

// Queue is the queue. It is not safe for concurrent use: one goroutine owns it.
type Queue struct {
	cfg     Config
	now     Instant // the latest that a call has told
	byID    map[ID]*entry
	peak    int // most places taken since byID was made
	ranks   [classes]*rank
	tenants map[Tenant]*tenant
	busy    *list.List // tenants with places
	idle    *list.List // tenants without, the longest idle first
	weights int64      // of busy tenants
	bytes   int64
	seq     uint64
	turn    uint64 // number of the Pick for which groups remember whether they are open
	picks   int    // since the last promotion, at most promoteEvery
}

// New returns an empty queue; it fails only on a Config that [Config.Validate] refuses.
func New(cfg Config) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	q := &Queue{
		cfg: cfg.withDefaults(), byID: make(map[ID]*entry), tenants: make(map[Tenant]*tenant),
		busy: list.New(), idle: list.New(), picks: promoteEvery,
	}
	for c := range q.ranks {
		q.ranks[c] = new(rank)
	}
	return q, nil
}

// Push takes a place for it and returns its [Queue.Position]. The item can not
// be picked before [Queue.Open]. Victims of the full policy are appended to
// out; each of them has left the queue.
func (q *Queue) Push(now Instant, it Item, out []Victim) (ahead int, victims []Victim, err error) {
	q.see(now)
	it.bound()
	switch {
	case q.byID[it.ID] != nil:
		return 0, out, ErrDuplicate
	case q.cfg.Bytes >= 0 && len(q.byID) > 0 && it.Bytes > q.cfg.Bytes-q.bytes:
		return 0, out, ErrBytes
	case q.crowded(it.Tenant):
		return 0, out, ErrTenantFull
	}
	if out, err = q.makeRoom(it.Class, out); err != nil {
		return 0, out, err
	}
	q.seq++
	it.Seq = q.seq
	return q.position(q.add(it)), out, nil
}

// Open lets the item be picked; unknown and open ids change nothing.
func (q *Queue) Open(id ID) {
	if e := q.byID[id]; e != nil && !e.open {
		e.lane.unshut(e)
		e.lane.flow.activate()
	}
}

// Pick removes and returns the item that goes next: one that waited too long
// (ORC-213), else of the highest class with an open key the first item of the
// tenant with the lowest virtual time. It charges the tenant. open is asked at
// most once per key and class.
func (q *Queue) Pick(now Instant, open func(KeyID) bool) (Item, bool) {
	q.see(now)
	q.turn++
	e := q.aged(open)
	promoted := e != nil
	for c := 0; e == nil && c < len(q.ranks); c++ {
		e = q.fairest(q.ranks[c], open)
	}
	if e == nil {
		return Item{}, false
	}
	f := e.lane.flow
	if promoted {
		q.picks = 0
	} else {
		q.picks = min(q.picks+1, promoteEvery)
		f.rank.clock = max(f.rank.clock, f.virtual)
	}
	it := e.item
	it.Promoted = promoted
	q.charge(f, it.Cost)
	q.remove(e)
	return it, true
}

// Return puts a picked item back at its old place and refunds its charge,
// whatever the capacity says: it was admitted once (ORC-217). It can not be
// picked before Open.
func (q *Queue) Return(it Item) {
	if q.byID[it.ID] != nil {
		return
	}
	it.bound()
	f := q.add(it).lane.flow
	f.set(max(0, f.virtual-f.share(it.Cost)))
}

// Restore takes a place for an item that was admitted before a restart: at the
// end, whatever the capacity says. It can not be picked before Open.
func (q *Queue) Restore(it Item) Item {
	if q.byID[it.ID] != nil {
		return it
	}
	it.bound()
	q.seq++
	it.Seq = q.seq
	q.add(it)
	return it
}

// Remove takes an item out, wherever it is; false if it is not here.
func (q *Queue) Remove(id ID) (Item, bool) {
	e := q.byID[id]
	if e == nil {
		return Item{}, false
	}
	q.remove(e)
	return e.item, true
}

// add takes a place.
func (q *Queue) add(it Item) *entry {
	t := q.tenant(it.Tenant)
	f := &t.flows[it.Class]
	e := &entry{item: it}
	f.lane(it.Key).add(e)
	q.byID[it.ID] = e
	q.peak = max(q.peak, len(q.byID))
	q.bytes += it.Bytes
	if f.places == 0 {
		f.rank.weights += t.weight
	}
	f.rank.grow(f.places)
	f.places++
	if t.places++; t.places == 1 {
		q.move(t, q.busy)
		q.weights += t.weight
	}
	return e
}

// remove gives a place back.
func (q *Queue) remove(e *entry) {
	f := e.lane.flow
	t := f.tenant
	e.lane.remove(e)
	if !f.pickable() {
		f.deactivate()
	}
	f.refresh()
	q.bytes -= e.item.Bytes
	f.places--
	f.rank.shrink(f.places)
	if f.places == 0 {
		f.rank.weights -= t.weight
	}
	if t.places--; t.places == 0 {
		q.weights -= t.weight
		q.rest(t)
	}
	delete(q.byID, e.item.ID)
	if len(q.byID) == 0 && q.peak > 4096 {
		q.byID, q.peak = make(map[ID]*entry), 0 // maps never give memory back
	}
}

// All returns every item, reserved places included, by class and arrival.
func (q *Queue) All() []Item {
	out := make([]Item, 0, len(q.byID))
	for c := range q.ranks {
		from := len(out)
		for _, g := range q.ranks[c].groups {
			for e := g.head; e != nil; e = e.next {
				out = append(out, e.item)
			}
		}
		slices.SortFunc(out[from:], func(a, b Item) int { return compare(a.Seq, b.Seq) })
	}
	return out
}

// Len returns the places taken in all classes.
func (q *Queue) Len() int { return len(q.byID) }

// Count returns the places taken in a class.
func (q *Queue) Count(c Class) int { return q.ranks[min(c, classes-1)].count }

// Bytes returns the sum of the bodies waiting.
func (q *Queue) Bytes() int64 { return q.bytes }

// Empty reports whether nothing can be picked, whatever keys are open.
func (q *Queue) Empty() bool {
	for c := range q.ranks {
		if len(q.ranks[c].active) > 0 {
			return false
		}
	}
	return true
}

func compare[T uint64 | KeyID](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
