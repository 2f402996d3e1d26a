package queue

import (
	"errors"
	"fmt"
)

// Policy says what happens when the queue is full (ORC-202).
type Policy string

// The policies. The zero value is Reject.
const (
	Reject  Policy = "reject"            // the newcomer is refused
	DropLRU Policy = "drop-lru"          // the oldest item of the lowest class goes, unless it is above the newcomer's
	Shed    Policy = "shed-low-priority" // the newest item of the lowest class strictly below the newcomer's goes
)

// Values of [Config.Capacity] beside a number of places.
const (
	Unbounded = -1
	RejectAll = -2
)

// Config bounds a queue. The zero value holds 100 items and 256 MiB of bodies
// and rejects what comes on top.
type Config struct {
	Capacity int    // places of all classes together; 0 = 100; Unbounded; RejectAll
	Policy   Policy // "" = Reject
	Bytes    int64  // of sealed bodies; 0 = 256 MiB; −1 = no bound. One body always fits an empty queue
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	if c.Capacity < RejectAll {
		errs = append(errs, fmt.Errorf("queue: capacity %d: want ≥ 0, Unbounded or RejectAll", c.Capacity))
	}
	switch c.Policy {
	case "", Reject, DropLRU, Shed:
	default:
		errs = append(errs, errors.New("queue: policy: want reject, drop-lru or shed-low-priority"))
	}
	if c.Bytes < -1 {
		errs = append(errs, fmt.Errorf("queue: bytes %d: want ≥ 0 or −1", c.Bytes))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Capacity == 0 {
		c.Capacity = 100
	}
	if c.Policy == "" {
		c.Policy = Reject
	}
	if c.Bytes == 0 {
		c.Bytes = 256 << 20
	}
	return c
}

// makeRoom applies the full policy for a newcomer of class c.
func (q *Queue) makeRoom(c Class, out []Victim) ([]Victim, error) {
	switch {
	case q.cfg.Capacity == Unbounded:
		return out, nil
	case q.cfg.Capacity == RejectAll:
		return out, ErrFull
	case len(q.byID) < q.cfg.Capacity:
		return out, nil
	}
	victim, ok := q.victim(c)
	if !ok {
		return out, ErrFull
	}
	q.Remove(victim.ID)
	return append(out, Victim{Item: victim, Policy: q.cfg.Policy}), nil
}

// victim finds who makes room for a newcomer of class c. Items whose place is
// only reserved are being stored at this moment and are left alone.
func (q *Queue) victim(c Class) (Item, bool) {
	lowest := int(classes) - 1
	for ; lowest >= 0 && len(q.lanes[lowest]) == 0; lowest-- {
	}
	if lowest < 0 {
		return Item{}, false
	}
	switch q.cfg.Policy {
	case DropLRU:
		if Class(lowest) < c {
			return Item{}, false
		}
		return q.extreme(Class(lowest), func(a, b uint64) bool { return a < b }), true
	case Shed:
		if Class(lowest) <= c {
			return Item{}, false
		}
		return q.extreme(Class(lowest), func(a, b uint64) bool { return a > b }), true
	}
	return Item{}, false
}

// extreme returns the first item of a class by the given order of arrival.
func (q *Queue) extreme(c Class, before func(a, b uint64) bool) Item {
	var best *entry
	for _, l := range q.lanes[c] {
		for _, e := range l.items {
			if best == nil || before(e.item.Seq, best.item.Seq) {
				best = e
			}
		}
	}
	return best.item
}
