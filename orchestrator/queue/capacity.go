package queue

import (
	"errors"
	"fmt"
	"time"
)

// Policy says what happens when the queue is full (ORC-202).
type Policy string

// The policies. The zero value is Reject.
const (
	Reject  Policy = "reject"            // the newcomer is refused
	DropLRU Policy = "drop-lru"          // the oldest item of the lowest class goes, unless it is above the newcomer's
	Shed    Policy = "shed-low-priority" // the newest item of the lowest class strictly below the newcomer's goes
)

// DefaultCapacity is the Capacity of a zero Config.
const DefaultCapacity = 100

// Values of [Config.Capacity] beside a number of places.
const (
	Unbounded = -1
	RejectAll = -2
)

// Config bounds a queue. The zero value holds 100 items and 256 MiB of bodies
// and rejects what comes on top.
type Config struct {
	Capacity       int           // places of all classes together; 0 = 100; Unbounded; RejectAll
	TenantCapacity int           // places of one tenant; 0 = no bound of its own
	Policy         Policy        // "" = Reject
	Bytes          int64         // of sealed bodies; 0 = 256 MiB; −1 = no bound. One body always fits an empty queue
	AgingAfter     time.Duration // wait after which an item goes first, at one pick in four; 0 = 5 min; −1 = never
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
	if c.TenantCapacity < 0 {
		errs = append(errs, fmt.Errorf("queue: tenant capacity %d: want ≥ 0", c.TenantCapacity))
	}
	if c.AgingAfter < -1 {
		errs = append(errs, fmt.Errorf("queue: aging after %v: want ≥ 0 or −1", c.AgingAfter))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Capacity == 0 {
		c.Capacity = DefaultCapacity
	}
	if c.Policy == "" {
		c.Policy = Reject
	}
	if c.Bytes == 0 {
		c.Bytes = 256 << 20
	}
	if c.AgingAfter == 0 {
		c.AgingAfter = 5 * time.Minute
	}
	return c
}

// crowded reports whether the tenant may take no further place: it holds
// TenantCapacity, or, in a queue that is 80 % full, more than twice its share
// (ORC-203). A lone tenant has no share to keep to.
func (q *Queue) crowded(id Tenant) bool {
	t := q.tenants[id]
	if t == nil {
		return false
	}
	if q.cfg.TenantCapacity > 0 && t.places >= q.cfg.TenantCapacity {
		return true
	}
	places := q.cfg.Capacity
	if places < 0 || len(q.byID) < places-places/5 || q.weights == t.weight {
		return false
	}
	return t.places > 4 && int64(t.places) > mulDiv(2*min(int64(places), 1<<40), t.weight, q.weights)
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
	victim := q.victim(c)
	if victim == nil {
		return out, ErrFull
	}
	q.remove(victim)
	return append(out, Victim{Item: victim.item, Policy: q.cfg.Policy}), nil
}

// victim finds who makes room for a newcomer of class c in the lowest class
// that has one. Items that may not be picked are being stored at this moment or
// come back from a worker, and are left alone.
func (q *Queue) victim(c Class) *entry {
	for low := classes - 1; low < classes; low-- {
		shed := q.cfg.Policy == Shed
		if low < c || (low == c && shed) || q.cfg.Policy == Reject {
			return nil
		}
		var best *entry
		for _, g := range q.ranks[low].groups {
			if e := g.end(shed); e != nil && (best == nil || (e.item.Seq > best.item.Seq) == shed) {
				best = e
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

// end returns the newest or the oldest item of the group that may be picked.
func (g *group) end(newest bool) *entry {
	if newest {
		e := g.tail
		for ; e != nil && !e.open; e = e.prev {
		}
		return e
	}
	e := g.head
	for ; e != nil && !e.open; e = e.next {
	}
	return e
}
