package deadline

import (
	"context"
	"fmt"
	"time"
)

// Stages of an [Exceeded]; a closed set, fit for a metric label.
const (
	StageArrival  = "arrival"  // nothing, or less than Config.Min, was left on arrival
	StageHandler  = "handler"  // passed while the request was being worked on
	StageDispatch = "dispatch" // passed before or during a call to the next hop
)

// Sources of a [FormatError]; a closed set, fit for a metric label.
const (
	SourceDeadline = "X-Deadline"
	SourceTimeout  = "X-Request-Timeout-Ms"
	SourceGRPC     = "grpc-timeout"
	SourceBody     = "deadline_ms"
)

// Exceeded says that a deadline has passed. It is the cause of every context
// made here and matches [context.DeadlineExceeded] with errors.Is.
type Exceeded struct {
	Stage  string        // one of the Stage constants
	Hop    string        // where the call went, "" if none was made
	Budget time.Duration // what there was in all, counted from arrival
	At     time.Time     // the deadline
}

// Error names the stage, the hop and the budget.
func (e *Exceeded) Error() string {
	hop := ""
	if e.Hop != "" {
		hop = ", hop " + e.Hop
	}
	return fmt.Sprintf("deadline exceeded (stage %s%s, budget %v)", e.Stage, hop, e.Budget)
}

// Is reports whether target is [context.DeadlineExceeded].
func (e *Exceeded) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout is true, so that url.Error and net.Error callers see a timeout.
func (e *Exceeded) Timeout() bool { return true }

// Over returns how long ago the deadline was; negative if it is still ahead,
// which happens where a margin was left for the next hop.
func (e *Exceeded) Over() time.Duration { return time.Since(e.At) }

// Insufficient says that less time is left than the work needs. Asking again
// with more time may succeed.
type Insufficient struct {
	Need, Remaining time.Duration
}

// Error names both durations.
func (e *Insufficient) Error() string {
	return fmt.Sprintf("deadline too close: %v needed, %v left", e.Need, e.Remaining)
}

// FormatError refuses a statement that is malformed or given twice. It never
// holds the value.
type FormatError struct {
	Source string // one of the Source constants
	Reason string // a fixed phrase
}

// Error names the field and the fault.
func (e *FormatError) Error() string { return e.Source + ": " + e.Reason }
