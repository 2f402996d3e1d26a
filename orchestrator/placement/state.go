package placement

import (
	"bytes"
	"cmp"
	"slices"
)

// State is a view as plain data (ORC-124).
type State struct {
	Gen     uint64
	Workers []*Worker
	Slots   []SlotState
	Held    []HeldState
}

// SlotState is what is taken on one worker.
type SlotState struct {
	Key                 Key
	Ours, Peak, Foreign int
}

// HeldState is one reservation.
type HeldState struct {
	Task    [16]byte
	Attempt int
	Key     Key
}

// State returns the view as plain data.
func (v *View) State() State {
	s := State{Gen: v.gen, Workers: slices.Collect(v.Workers()), Slots: []SlotState{}, Held: []HeldState{}}
	for k, x := range v.slots {
		s.Slots = append(s.Slots, SlotState{k, x.ours, x.peak, x.foreign})
	}
	slices.SortFunc(s.Slots, func(a, b SlotState) int { return a.Key.Compare(b.Key) })
	for r, k := range v.held {
		s.Held = append(s.Held, HeldState{r.task, r.attempt, k})
	}
	slices.SortFunc(s.Held, func(a, b HeldState) int {
		return cmp.Or(bytes.Compare(a.Task[:], b.Task[:]), cmp.Compare(a.Attempt, b.Attempt))
	})
	return s
}

// LoadState fills an empty view.
func (v *View) LoadState(s State) error {
	for _, x := range s.Slots {
		v.slots[x.Key] = slot{x.Ours, x.Peak, x.Foreign}
	}
	for _, h := range s.Held {
		v.held[reservation{h.Task, h.Attempt}] = h.Key
	}
	v.gen = s.Gen
	for _, w := range s.Workers {
		r := row{w, free(w, v.slots[w.Key])}
		v.rows = append(v.rows, r)
		if w.open() {
			v.total += w.SlotsTotal
			v.spare += r.free
		}
	}
	return nil
}
