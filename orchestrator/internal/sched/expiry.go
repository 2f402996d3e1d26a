package sched

import (
	"cmp"
	"math"
	"time"
)

// expiry returns the instant at which the task's time is over in its phase.
func (t *task) expiry() Instant {
	at := t.end()
	if t.phase != running && t.QueueFor > 0 {
		at = min(at, t.arrived+Instant(t.QueueFor))
	}
	if t.phase != running && t.Due > 0 { // later it could not end in time (ORC-218)
		at = min(at, t.Due-Instant(t.fastest()))
	}
	if t.phase != running && t.hold > 0 {
		at = min(at, t.hold)
	}
	return max(1, at)
}

// end is the instant by which the task must have ended.
func (t *task) end() Instant {
	at := t.arrived + Instant(t.Total)
	if t.Due > 0 {
		at = min(at, t.Due)
	}
	return at
}

// warning is the instant at which most of the task's time is over (ORC-570).
func (t *task) warning() Instant { return t.arrived + (t.end()-t.arrived)/5*4 }

// arm sets the task's timer to what comes first.
func (c *Core) arm(t *task) {
	at := t.expiry()
	if !t.warned {
		at = min(at, max(1, t.warning()))
	}
	switch {
	case t.phase == backoff:
		at = min(at, t.resume)
	case t.phase == running && t.gone:
		at = min(at, t.seen+Instant(silence))
	}
	c.timers.set(t, at)
}

// expired says why the time is over.
func (c *Core) expired(now Instant, t *task) (Reason, string) {
	switch {
	case t.Due > 0 && t.Due <= now:
		return Deadline, "DEADLINE_UNMET"
	case t.phase == running:
		return Watchdog, "TIMEOUT"
	case t.Due > 0 && t.Due <= now+Instant(t.fastest()):
		return Deadline, "DEADLINE_UNMET"
	case t.hold > 0 && t.hold <= now:
		code, _, _ := c.unservable(c.need(t))
		return Watchdog, cmp.Or(code, "POOL_UNAVAILABLE")
	}
	return Watchdog, "QUEUE_TIMEOUT"
}

// left is the time until the task must have ended.
func (t *task) left(now Instant) time.Duration {
	at := t.end()
	if at <= now {
		return 0
	}
	return time.Duration(min(at-now, math.MaxInt64))
}
