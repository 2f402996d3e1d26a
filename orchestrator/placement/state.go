package placement

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// ID is 16 bytes, in JSON 32 hex digits.
type ID [16]byte

// MarshalText writes hex digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return errors.New("placement: id: length")
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return errors.New("placement: id: not hex")
	}
	return nil
}

// State is all of a view that later decisions depend on, in sorted lists. The
// rates and scorers are not in it: who loads it sets them again.
type State struct {
	Gen     uint64        `json:"gen"`
	Seq     uint64        `json:"seq"`
	Workers []WorkerState `json:"workers"` // by key
	Gone    []WorkerState `json:"gone,omitempty"`
	Held    []Held        `json:"held,omitempty"` // by task and attempt
	Turns   []Turn        `json:"turns,omitempty"`
	Broken  []string      `json:"scorers_removed,omitempty"`
}

// WorkerState is a worker with what the view knows of it besides.
type WorkerState struct {
	Worker      Worker `json:"worker"`
	Peak        int    `json:"peak,omitempty"`
	Foreign     int    `json:"foreign,omitempty"`
	Last        uint64 `json:"last,omitempty"`
	Quarantined bool   `json:"quarantined,omitempty"`
	Pinned      bool   `json:"pinned,omitempty"`
}

// Held is a reservation.
type Held struct {
	Task    ID    `json:"task"`
	Attempt int   `json:"attempt"`
	Worker  Key   `json:"worker"`
	Session ID    `json:"session,omitzero"`
	Tokens  int64 `json:"tokens,omitempty"`
}

// Turn is where round-robin stands for one set of requirements.
type Turn struct {
	Key  uint64 `json:"key"`
	Last Key    `json:"last"`
	Used uint64 `json:"used"`
}

// State returns a copy of the view's state.
func (v *View) State() State {
	s := State{Gen: v.gen, Seq: v.seq, Workers: states(v.rows), Gone: states(v.gone), Broken: slices.Clone(v.broken)}
	for _, h := range v.held {
		s.Held = append(s.Held, Held{h.task, h.attempt, h.key, h.session, h.tokens})
	}
	slices.SortFunc(s.Held, compareHeld)
	for _, c := range v.cursors {
		s.Turns = append(s.Turns, Turn{c.key, c.last, c.used})
	}
	return s
}

func compareHeld(a, b Held) int {
	return cmp.Or(bytes.Compare(a.Task[:], b.Task[:]), cmp.Compare(a.Attempt, b.Attempt))
}

func states(rows []row) []WorkerState {
	out := make([]WorkerState, len(rows))
	for i, r := range rows {
		out[i] = WorkerState{*r.Worker, r.peak, r.foreign, r.last, r.quarantined, r.pinned}
	}
	return out
}

// LoadState replaces the whole state of v; future decisions are those of the view
// that it was taken from. A state that is not sorted, names something twice or
// reserves without a worker is refused, and v stays as it was.
func (v *View) LoadState(s State) error {
	n := NewView()
	n.rates, n.scorers, n.gen, n.seq, n.broken = v.rates, v.scorers, s.Gen, s.Seq, slices.Clone(s.Broken)
	var err error
	if n.rows, err = loadRows("workers", s.Workers); err != nil {
		return err
	}
	if n.gone, err = loadRows("gone", s.Gone); err != nil {
		return err
	}
	for i, h := range s.Held {
		if i > 0 && compareHeld(s.Held[i-1], h) >= 0 || h.Tokens < 0 || n.row(h.Worker) == nil {
			return fmt.Errorf("placement: state: held[%d]", i)
		}
		n.hold(hold{reservation{h.Task, h.Attempt}, h.Worker, h.Session, h.Tokens})
	}
	for i, t := range s.Turns {
		if i > 0 && s.Turns[i-1].Key >= t.Key || i >= cursors {
			return fmt.Errorf("placement: state: turns[%d]", i)
		}
		n.cursors = append(n.cursors, cursor{t.Key, t.Last, t.Used})
	}
	for i := range n.gone {
		if n.gone[i].ours == 0 {
			return fmt.Errorf("placement: state: gone[%d]", i)
		}
	}
	restore(n.rows, s.Workers)
	restore(n.gone, s.Gone)
	n.settle()
	*v = *n
	return nil
}

func loadRows(field string, list []WorkerState) ([]row, error) {
	out := make([]row, len(list))
	for i := range list {
		if i > 0 && list[i-1].Worker.Key.Compare(list[i].Worker.Key) >= 0 || list[i].Foreign < 0 || list[i].Peak < 0 {
			return nil, fmt.Errorf("placement: state: %s[%d]", field, i)
		}
		out[i].Worker = new(list[i].Worker)
	}
	return out, nil
}

// restore sets what the reservations do not tell.
func restore(rows []row, list []WorkerState) {
	for i, w := range list {
		s := &rows[i].slot
		s.peak, s.foreign, s.last, s.quarantined, s.pinned = max(w.Peak, s.ours), w.Foreign, w.Last, w.Quarantined, w.Pinned
	}
}
