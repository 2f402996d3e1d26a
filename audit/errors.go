package audit

import (
	"errors"

	"github.com/llorch/llorch/audit/internal/vfs"
)

// Conditions that callers branch on. No message holds event content.
var (
	// ErrClosed: the log was closed; the event was refused. Only one that was
	// waiting for room at that moment is counted, in the last gap record.
	ErrClosed = errors.New("audit: log is closed")
	// ErrLocked: another process, or another Log of this one, owns the directory.
	ErrLocked = vfs.ErrLocked
	// ErrDropped: a routine event found no room or no disk. It is counted and
	// will appear in a gap record.
	ErrDropped = errors.New("audit: event dropped")
	// ErrQueueFull: a critical event found no room within its bound. It is
	// counted and will appear in a gap record; do not perform the operation.
	ErrQueueFull = errors.New("audit: queue is full")
	// ErrUnavailable: the log cannot write at present, so the event is not known
	// to be durable. It may still be recorded when the disk recovers.
	ErrUnavailable = errors.New("audit: log is unavailable")
	// ErrUnsafePath: the directory or a file in it is not ours alone: a link, a
	// foreign owner, a mode open to others, or not a regular file.
	ErrUnsafePath = vfs.ErrUnsafePath
	// ErrNoSubjectKey: the subject has no key, or it was destroyed.
	ErrNoSubjectKey = errors.New("audit: no such subject key")
)

// FieldError names the field of an event or of the configuration that is
// wrong, and the rule it breaks; never the content.
type FieldError struct {
	Type  string // the event type; "" for the configuration
	Field string // dotted path of JSON names, or the name of a Config field
	Rule  string // what the field must be, for people
}

func (e *FieldError) Error() string {
	if e.Type == "" {
		return "audit: " + e.Field + " " + e.Rule
	}
	return "audit: " + e.Type + ": " + e.Field + " " + e.Rule
}

// TamperError says that the stored log contradicts itself where no crash can
// have done it. Nothing was changed: the directory is evidence, and work goes
// on in a new one.
type TamperError struct {
	Report *Report // what was found; see also [Verify]
}

func (e *TamperError) Error() string {
	if e.Report == nil || len(e.Report.Findings) == 0 {
		return "audit: the stored log was changed"
	}
	return "audit: the stored log was changed: " + e.Report.Findings[0].String()
}
