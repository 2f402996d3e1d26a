package poolregistry

import "slices"

// Schedule says what an operator wants of a node. The zero value reads as open.
type Schedule string

// The schedule axis of a node, mildest first.
const (
	Open     Schedule = "open"
	Cordoned Schedule = "cordoned" // no new work, nothing else
	Draining Schedule = "draining" // no new work, and what runs has until a deadline
	Drained  Schedule = "drained"  // nothing runs there any more
)

// scheduling is the state table of the schedule axis; the package comment shows
// it and a test compares the two.
func scheduling() [][3]string {
	return [][3]string{
		{"open", "cordon", "cordoned"},
		{"cordoned", "cordon", "cordoned"},
		{"open", "drain", "draining"},
		{"cordoned", "drain", "draining"},
		{"draining", "drain", "draining"},
		{"drained", "drain", "drained"},
		{"draining", "idle", "drained"},
		{"draining", "deadline", "drained"},
		{"open", "uncordon", "open"},
		{"cordoned", "uncordon", "open"},
		{"draining", "uncordon", "open"},
		{"drained", "uncordon", "open"},
	}
}

// next returns the schedule after event, or false where the table has no row.
func (s Schedule) next(event string) (Schedule, bool) {
	for _, row := range scheduling() {
		if row[0] == string(s) && row[1] == event {
			return Schedule(row[2]), true
		}
	}
	return s, false
}

// strictness orders schedules, mildest first.
func (s Schedule) strictness() int {
	return slices.Index([]Schedule{Open, Cordoned, Draining, Drained}, s)
}
