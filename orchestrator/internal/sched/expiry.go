package sched

import (
	"math"
	"time"
)

// expiry returns the instant at which the task's time is over in its phase.
func (t *task) expiry() Instant {
	at := t.arrived + Instant(t.Total)
	if t.phase != running && t.QueueFor > 0 {
		at = min(at, t.arrived+Instant(t.QueueFor))
	}
	if t.Due > 0 {
		at = min(at, t.Due)
	}
	return max(1, at)
}

// expired says why the time is over.
func (t *task) expired(now Instant) (Reason, string) {
	switch {
	case t.Due > 0 && t.Due <= now:
		return Deadline, "DEADLINE_UNMET"
	case t.phase == running:
		return Watchdog, "TIMEOUT"
	}
	return Watchdog, "QUEUE_TIMEOUT"
}

// left is the time until the task must have ended.
func (t *task) left(now Instant) time.Duration {
	at := t.arrived + Instant(t.Total)
	if t.Due > 0 {
		at = min(at, t.Due)
	}
	if at <= now {
		return 0
	}
	return time.Duration(min(at-now, math.MaxInt64))
}
