package orchestrator

import (
	"time"

	"golang.org/x/time/rate"
)

// limits are the rates of one tenant (ORC-242). The lock of the table of tenants
// guards them.
type limits struct {
	requests, tokens *rate.Limiter // nil = no limit
	credit           int           // tokens that were reserved and not used; at most those of a minute
	told             time.Time     // when the observer last heard of a refusal
	refused          int           // refusals since
}

// set applies a policy; what was used of the old rate stays used.
func (l *limits) set(p TenantPolicy, now time.Time) {
	l.requests, l.tokens = perMinute(l.requests, p.RPM, now), perMinute(l.tokens, p.TPM, now)
	l.credit = min(l.credit, max(0, p.TPM))
}

// perMinute is a limiter of n events a minute, of which a sixth may come at once.
func perMinute(l *rate.Limiter, n int, now time.Time) *rate.Limiter {
	if n <= 0 {
		return nil
	}
	per, burst := rate.Limit(float64(n)/60), max(1, n/6)
	if l == nil {
		return rate.NewLimiter(per, burst)
	}
	if l.Limit() != per || l.Burst() != burst {
		l.SetLimitAt(now, per)
		l.SetBurstAt(now, burst)
	}
	return l
}

// request takes one request; else it says after which time there is one.
func (l *limits) request(now time.Time) (wait time.Duration) {
	return takeNow(l.requests, 1, now)
}

// missing is the wait that request would answer now.
func (l *limits) missing(now time.Time) time.Duration { return waitFor(l.requests, 1, now) }

// reserve takes the estimate of a request, or nothing and says after which time it
// would. More than a burst is let in when the bucket is full, and owed.
func (l *limits) reserve(n int, now time.Time) (wait time.Duration) {
	if l.tokens == nil || n <= 0 {
		return 0
	}
	paid := min(l.credit, n)
	part := min(n-paid, l.tokens.Burst())
	if wait = takeNow(l.tokens, part, now); wait > 0 {
		return wait
	}
	l.credit -= paid
	l.owe(n-paid-part, now)
	return 0
}

// short is the wait that reserve would answer now.
func (l *limits) short(n int, now time.Time) time.Duration {
	if l.tokens == nil {
		return 0
	}
	return waitFor(l.tokens, min(n-min(l.credit, n), l.tokens.Burst()), now)
}

// settle replaces a reservation by what was used.
func (l *limits) settle(reserved, used int, now time.Time) {
	switch {
	case l.tokens == nil:
	case used > reserved:
		l.owe(used-reserved, now)
	default:
		l.credit = min(l.credit+reserved-used, int(float64(l.tokens.Limit())*60+0.5))
	}
}

// owe takes tokens that are spent already; those who come later wait for them.
func (l *limits) owe(n int, now time.Time) {
	paid := min(l.credit, n)
	l.credit -= paid
	if n -= paid; n <= 0 {
		return
	}
	burst := l.tokens.Burst()
	if n > burst { // one reservation, whatever its size
		l.tokens.SetBurstAt(now, n)
		defer l.tokens.SetBurstAt(now, burst)
	}
	l.tokens.ReserveN(now, n)
}

// takeNow takes n events if they may happen now, else says when.
func takeNow(l *rate.Limiter, n int, now time.Time) time.Duration {
	if l == nil || n <= 0 || l.AllowN(now, n) {
		return 0
	}
	return max(time.Millisecond, waitFor(l, n, now))
}

// waitFor is the delay of n events, without taking them.
func waitFor(l *rate.Limiter, n int, now time.Time) time.Duration {
	if l == nil || n <= 0 {
		return 0
	}
	r := l.ReserveN(now, n)
	defer r.CancelAt(now)
	return r.DelayFrom(now)
}

// tellAfter is the least time between two reports of refusals of one tenant.
const tellAfter = time.Second

// tell counts a refusal and returns how many to report now, 0 for none yet.
func (l *limits) tell(now time.Time) (n int) {
	l.refused++
	if now.Sub(l.told) < tellAfter {
		return 0
	}
	n, l.refused, l.told = l.refused, 0, now
	return n
}
