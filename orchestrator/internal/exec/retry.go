// Package exec decides what follows an attempt. It is pure: plain values in, a
// verdict out.
package exec

import (
	"time"

	"github.com/llorch/llorch/orchestrator/internal/backoff"
)

// Class says how an attempt failed; the values are those of package worker, and
// two of our own. The empty class is success.
type Class string

// The classes (ORC-402).
const (
	OK       Class = ""
	Connect  Class = "connect"
	Overload Class = "overload"
	Rejected Class = "rejected"
	Denied   Class = "denied"
	Server   Class = "server"
	Reset    Class = "reset"
	Timeout  Class = "timeout"
	Protocol Class = "protocol"
	Store    Class = "store"   // the store could not begin the attempt
	Erased   Class = "erased"  // the body can not be opened any more
	Load     Class = "load"    // the model could not be loaded
	Startup  Class = "startup" // its load stood still
	Region   Class = "region"  // the worker is outside the allowed regions
	RegionEU Class = "region_eu"
)

// Unsupported is of an engine that does not do this kind of work.
const Unsupported Class = "unsupported"

// MaxAttempts bounds the attempts of one task.
const MaxAttempts = 5

// Attempt is what is known when an attempt has failed.
type Attempt struct {
	N          int // 1 for the first
	Class      Class
	Emitted    bool          // a token may have reached a reader
	Others     bool          // a worker that was not tried yet is feasible now
	RetryAfter time.Duration // as the worker asked; 0 none
	Left       time.Duration // until the task's deadline or total time
	Seed       uint64        // spreads the waits; derived from the task id
}

// Verdict is what follows.
type Verdict struct {
	Retry bool
	After time.Duration // wait before the next attempt
	Code  string        // wire code of the end, when not Retry
	Spent bool          // it could have run again, but for its attempts or its time
}

// codes are the ends of the classes: when nothing was published, and after the
// first token. A class without an entry ends with INTERNAL.
var codes = [...]struct {
	class         Class
	before, after string
	retry         bool // may run again while nothing was published
}{
	{Connect, "WORKER_UNREACHABLE", "WORKER_RESET", true},
	{Overload, "POOL_UNAVAILABLE", "WORKER_RESET", true},
	{Server, "ENGINE_ERROR", "WORKER_RESET", true},
	{Reset, "WORKER_RESET", "WORKER_RESET", true},
	{Timeout, "DECODE_TIMEOUT", "DECODE_TIMEOUT", true},
	{Protocol, "ENGINE_ERROR", "WORKER_RESET", true},
	{Store, "STORE_UNAVAILABLE", "STORE_UNAVAILABLE", true},
	{Rejected, "INVALID_PARAMS", "WORKER_RESET", false},
	{Unsupported, "MODEL_INCOMPATIBLE", "MODEL_INCOMPATIBLE", false},
	{Denied, "INTERNAL", "WORKER_RESET", false},
	{Erased, "SUBJECT_ERASED", "SUBJECT_ERASED", false},
	{Load, "MODEL_LOAD_FAILED", "MODEL_LOAD_FAILED", true},
	{Startup, "STARTUP_TIMEOUT", "STARTUP_TIMEOUT", true},
	{Region, "NO_REGION_WORKER_AVAILABLE", "NO_REGION_WORKER_AVAILABLE", false},
	{RegionEU, "NO_EU_WORKER_AVAILABLE", "NO_EU_WORKER_AVAILABLE", false},
}

// Next decides after a failed attempt (ORC-403): at most MaxAttempts, never
// after the first published token, never past the deadline; the first retry at
// once when another worker is feasible, then on the request schedule, and not
// before the worker's own Retry-After.
func Next(a Attempt) Verdict {
	for _, c := range codes {
		if c.class != a.Class {
			continue
		}
		if a.Emitted {
			return Verdict{Code: c.after}
		}
		after := wait(a)
		if !c.retry || a.N >= MaxAttempts || after >= a.Left {
			return Verdict{Code: c.before, Spent: c.retry}
		}
		return Verdict{Retry: true, After: after}
	}
	return Verdict{Code: "INTERNAL"}
}

func wait(a Attempt) time.Duration {
	if a.N == 1 && a.Others && a.Class != Store {
		return 0
	}
	d := backoff.Request(a.N, a.Seed)
	if a.Class == Overload && !a.Others {
		d = max(d, a.RetryAfter)
	}
	return d
}
