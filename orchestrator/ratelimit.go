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

// reserve takes the estimate of a request, at most a burst, or says after which
// time it could. What comes on top is owed when it is known.
func (l *limits) reserve(n int, now time.Time) (taken int, wait time.Duration) {
	if wait = l.short(n, now); wait > 0 || l.tokens == nil {
		return 0, wait
	}
	taken = min(n, l.tokens.Burst())
	l.owe(taken, now)
	return taken, 0
}

// short is the wait that reserve would answer now. Credit counts, but pays debts first.
func (l *limits) short(n int, now time.Time) time.Duration {
	if l.tokens == nil {
		return 0
	}
	lack := float64(min(n, l.tokens.Burst())) - l.tokens.TokensAt(now) - float64(l.credit)
	if lack <= 0 {
		return 0
	}
	return max(time.Millisecond, time.Duration(lack/float64(l.tokens.Limit())*float64(time.Second))+time.Microsecond)
}

// settle replaces what was reserved by what was used.
func (l *limits) settle(reserved, used int, now time.Time) {
	switch {
	case l.tokens == nil:
	case used > reserved:
		l.owe(used-reserved, now)
	default:
		l.credit = min(l.credit+reserved-used, int(float64(l.tokens.Limit())*60+0.5))
	}
}

// owe takes tokens, credit first, also more than there are: those who come later
// wait for them.
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
