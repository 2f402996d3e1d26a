package queue

import (
	"bytes"
	"container/list"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// ErrState reports a State that no queue has; the text names the field.
var ErrState = errors.New("queue: invalid state")

// State is all that decides about the future of a queue but its Config. It is
// made of sorted slices, so that equal queues have equal JSON (ORC-124).
type State struct {
	Now     Instant        `json:"now"`
	Seq     uint64         `json:"seq"`
	Picks   int            `json:"picks"`   // since the last promotion
	Clocks  [classes]int64 `json:"clocks"`  // virtual time by class
	Items   []Waiting      `json:"items"`   // by class and arrival
	Tenants []TenantState  `json:"tenants"` // with places by id, then the others, longest idle first
}

// Waiting is an item with whether it may be picked.
type Waiting struct {
	Item
	Open bool `json:"open"`
}

// TenantState is what the queue knows of a tenant.
type TenantState struct {
	ID      Tenant         `json:"id"`
	Weight  int            `json:"weight"`
	Held    bool           `json:"held,omitempty"`
	Places  int            `json:"places,omitempty"`
	Virtual [classes]int64 `json:"virtual"` // by class
	Since   Instant        `json:"since"`   // without places since
}

// Tenants returns what the queue knows of every tenant, those with places by
// id, then the others, longest idle first.
func (q *Queue) Tenants() []TenantState {
	out := make([]TenantState, 0, len(q.tenants))
	for e := q.busy.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*tenant).state())
	}
	slices.SortFunc(out, func(a, b TenantState) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for e := q.idle.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*tenant).state())
	}
	return out
}

func (t *tenant) state() TenantState {
	s := TenantState{ID: t.id, Weight: int(t.weight), Held: t.held, Places: t.places, Since: t.since}
	for c := range t.flows {
		s.Virtual[c] = t.flows[c].virtual
	}
	return s
}

// State returns a copy of the queue's state.
func (q *Queue) State() State {
	s := State{Now: q.now, Seq: q.seq, Picks: q.picks, Items: make([]Waiting, 0, len(q.byID)), Tenants: q.Tenants()}
	for c := range q.ranks {
		s.Clocks[c] = q.ranks[c].clock
	}
	for _, it := range q.All() {
		s.Items = append(s.Items, Waiting{it, q.byID[it.ID].open})
	}
	return s
}

// maxLedger bounds the tenants of a ledger.
const maxLedger = 16_384

// Ledger returns the part of the state that outlives a restart of the program:
// the virtual times of those who are ahead of newcomers, and their weights; not
// the items (they come back by Restore) and no instants.
func (q *Queue) Ledger() State {
	s := State{Picks: q.picks, Items: []Waiting{}, Tenants: []TenantState{}}
	for c := range q.ranks {
		s.Clocks[c] = q.ranks[c].clock
	}
	for _, l := range []*list.List{q.busy, q.idle} {
		for e := l.Back(); e != nil && len(s.Tenants) < maxLedger; e = e.Prev() {
			if t := e.Value.(*tenant).state(); t.ahead(s.Clocks) {
				s.Tenants = append(s.Tenants, TenantState{ID: t.ID, Weight: t.Weight, Virtual: t.Virtual})
			}
		}
	}
	slices.SortFunc(s.Tenants, func(a, b TenantState) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return s
}

func (t *TenantState) ahead(clocks [classes]int64) bool {
	for c, v := range t.Virtual {
		if v > clocks[c] {
			return true
		}
	}
	return false
}

// Load replaces the queue's content by s; from then on it behaves as the queue
// that s was taken from, if the Config is the same. An error is an ErrState and
// changes nothing. Capacity is not checked: what s holds was admitted once.
func (q *Queue) Load(s State) error {
	n, err := New(q.cfg)
	if err != nil {
		return err
	}
	if s.Now < 0 || s.Picks < 0 || s.Picks > promoteEvery {
		return fmt.Errorf("%w: now or picks", ErrState)
	}
	n.now, n.seq, n.picks = s.Now, s.Seq, s.Picks
	if err := n.loadTenants(s); err != nil {
		return err
	}
	for c, clock := range s.Clocks {
		if clock < 0 || clock > maxVirtual {
			return fmt.Errorf("%w: clocks", ErrState)
		}
		n.ranks[c].clock = clock
	}
	if err := n.loadItems(s.Items); err != nil {
		return err
	}
	for i, t := range s.Tenants { // last: becoming active moves virtual times
		x := n.tenants[t.ID]
		if x.places != t.Places {
			return fmt.Errorf("%w: tenants[%d].places", ErrState, i)
		}
		for c, v := range t.Virtual {
			x.flows[c].set(v)
		}
	}
	*q = *n
	return nil
}

func (q *Queue) loadTenants(s State) error {
	if len(s.Tenants) > maxTenants+len(s.Items)+1 {
		return fmt.Errorf("%w: tenants: too many", ErrState)
	}
	for i, t := range s.Tenants {
		bad := t.Weight < 1 || t.Weight > MaxWeight || t.Since < 0 || t.Since > s.Now || q.tenants[t.ID] != nil
		for _, v := range t.Virtual {
			bad = bad || v < 0 || v > maxVirtual
		}
		if bad {
			return fmt.Errorf("%w: tenants[%d]", ErrState, i)
		}
		x := q.tenant(t.ID)
		x.weight, x.held, x.since = int64(t.Weight), t.Held, t.Since
	}
	return nil
}

func (q *Queue) loadItems(items []Waiting) error {
	seen := make(map[uint64]bool, len(items))
	for i, w := range items {
		it := w.Item
		it.bound()
		if it != w.Item || it.Seq == 0 || it.Seq > q.seq || seen[it.Seq] || q.byID[it.ID] != nil {
			return fmt.Errorf("%w: items[%d]", ErrState, i)
		}
		seen[it.Seq] = true
		q.add(it)
		if w.Open {
			q.Open(it.ID)
		}
	}
	return nil
}

// MarshalText writes the id as 32 hexadecimal digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads 32 hexadecimal digits.
func (id *ID) UnmarshalText(text []byte) error { return unhex((*[16]byte)(id), text) }

// MarshalText writes the id as 32 hexadecimal digits.
func (t Tenant) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, t[:]), nil }

// UnmarshalText reads 32 hexadecimal digits.
func (t *Tenant) UnmarshalText(text []byte) error { return unhex((*[16]byte)(t), text) }

func unhex(out *[16]byte, text []byte) error {
	if len(text) != 32 {
		return fmt.Errorf("queue: id: want 32 hexadecimal digits")
	}
	if _, err := hex.Decode(out[:], text); err != nil {
		return fmt.Errorf("queue: id: want 32 hexadecimal digits")
	}
	return nil
}
