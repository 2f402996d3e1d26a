package poolcore

import "time"

// States of a breaker, as the node contract writes them.
const (
	breakerClosed   = "closed"
	breakerOpen     = "open"
	breakerHalfOpen = "half_open"
)

// breaker keeps a pool that fails again and again from burning the machine. Its
// methods return the next value; it is part of a pool's state.
type breaker struct {
	state    string
	strikes  int           // failures in a row
	struckAt time.Duration // the last of them
	until    time.Duration // while open
	length   time.Duration // of the present or the last open time
}

// fail counts one failure.
func (b breaker) fail(now time.Duration, t Timing) breaker {
	b.strikes++
	b.struckAt = now
	switch {
	case b.state == breakerHalfOpen:
		b.length = min(2*b.length, t.BreakerMax)
	case b.state == breakerClosed && b.strikes >= t.BreakerAfter:
		b.length = t.BreakerOpen
	default:
		return b
	}
	b.state, b.until = breakerOpen, now+b.length
	return b
}

// healthy: a worker has been ready for long enough.
func (b breaker) healthy() breaker { return breaker{state: breakerClosed} }

// untried: nothing runs. A start that was admitted and ended without a verdict, by a
// drain or an unbinding, is not the last.
func (b breaker) untried(now time.Duration) breaker {
	if b.state == breakerHalfOpen {
		b.state, b.until = breakerOpen, now
	}
	return b
}

// gate returns when a start that is due at t may happen; never while another
// start is being tried.
func (b breaker) gate(t time.Duration) time.Duration {
	switch b.state {
	case breakerOpen:
		return max(t, b.until)
	case breakerHalfOpen:
		return never
	}
	return t
}

// admit reports whether a start may happen now; an open breaker whose time is over
// admits exactly one and becomes half open.
func (b breaker) admit(now time.Duration) (breaker, bool) {
	switch b.state {
	case breakerOpen:
		if now < b.until {
			return b, false
		}
		b.state = breakerHalfOpen
		return b, true
	case breakerHalfOpen:
		return b, false
	}
	return b, true
}

// backoff returns the pause before restart n (from 1): first, doubled up to most,
// changed by up to a tenth; jitter is −1…1. It is the suite's schedule for
// restarts and registrations.
func backoff(n int, first, most time.Duration, jitter float64) time.Duration {
	d := first
	for range n - 1 {
		if d >= most {
			break
		}
		d *= 2
	}
	d = min(d, most)
	return d + time.Duration(float64(d)*0.1*min(max(jitter, -1), 1))
}
