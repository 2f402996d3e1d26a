package store

import "slices"

// State is where a task stands. The set is closed.
type State string

// The states of a task (ORC-101). On the wire a running task without a
// published token is called dispatched.
const (
	Queued     State = "queued"
	Running    State = "running"
	Cancelling State = "cancelling"
	Completed  State = "completed"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	Deleted    State = "deleted"
)

// moves is the one table of allowed moves; engine, stores, suite and docs use it.
// Running to running is the next attempt, allowed only while nothing was published.
var moves = [...]struct {
	from State
	to   []State
}{
	{Queued, []State{Running, Failed, Cancelled}},
	{Running, []State{Running, Cancelling, Completed, Failed}},
	{Cancelling, []State{Cancelled, Completed, Failed}},
	{Completed, []State{Deleted}},
	{Failed, []State{Deleted}},
	{Cancelled, []State{Deleted}},
}

// CanMove reports whether a task may go from one state to another.
func CanMove(from, to State) bool {
	for _, m := range moves {
		if m.from == from {
			return slices.Contains(m.to, to)
		}
	}
	return false
}

// Terminal reports whether s is an end: the outcome is known and never changes.
func (s State) Terminal() bool {
	return s == Completed || s == Failed || s == Cancelled || s == Deleted
}

// States lists every state, for suites and documents.
func States() []State {
	return []State{Queued, Running, Cancelling, Completed, Failed, Cancelled, Deleted}
}
