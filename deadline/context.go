package deadline

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// maxBodyMs bounds the body field deadline_ms: about 115 days, the same reach as
// the ten digits of X-Request-Timeout-Ms.
const maxBodyMs = 10_000_000_000

type contextKey struct{}

// budget is what travels in a context: the deadline and, for a request, what
// MergeRelative needs to tighten it.
type budget struct {
	d   Deadline
	req *arrival // nil outside of a Middleware
}

// arrival belongs to one request: the clock's start, the cap, and the deadline of
// the body once it is known.
type arrival struct {
	at     time.Time
	max    time.Duration                 // < 0: no cap
	conn   interface{ bound(time.Time) } // moves the connection's deadlines
	merged atomic.Pointer[Deadline]      // set by MergeRelative, read when the handler returns
}

func budgetFrom(ctx context.Context) budget {
	b, _ := ctx.Value(contextKey{}).(budget)
	return b
}

// With returns a context that ends at d or at the deadline that ctx already has,
// whichever is earlier, with an [*Exceeded] as its cause. A zero d adds nothing.
func With(ctx context.Context, d Deadline) (context.Context, context.CancelFunc) {
	return with(ctx, d, budgetFrom(ctx).req, StageHandler)
}

func with(ctx context.Context, d Deadline, req *arrival, stage string) (context.Context, context.CancelFunc) {
	old, _ := From(ctx)
	d = d.Earlier(old)
	ctx = context.WithValue(ctx, contextKey{}, budget{d: d, req: req})
	if d.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, d.at, &Exceeded{Stage: stage, Budget: d.budget, At: d.at})
}

// From returns the deadline that ctx carries: the propagated one, tightened by
// ctx.Deadline. It reports whether there is one.
func From(ctx context.Context) (Deadline, bool) {
	d := budgetFrom(ctx).d
	if at, ok := ctx.Deadline(); ok && (d.IsZero() || at.Before(d.at)) {
		tight := Deadline{at: at, budget: time.Until(at)}
		if !d.IsZero() {
			tight.budget, tight.wire = d.budget, d.Wire()
		}
		return tight, true
	}
	return d, !d.IsZero()
}

// MergeRelative tightens ctx by a body field deadline_ms of ms milliseconds,
// counted from the arrival that the [Middleware] stamped before the body was
// read, or from now where there is none. Values outside 1…10^10 are a
// [*FormatError]; ctx then comes back unchanged with a CancelFunc that does
// nothing. A later value than the one in force changes nothing.
func MergeRelative(ctx context.Context, ms int64) (context.Context, context.CancelFunc, error) {
	if ms <= 0 || ms > maxBodyMs {
		reason := "not positive"
		if ms > 0 {
			reason = "too far in the future"
		}
		return ctx, func() {}, &FormatError{Source: SourceBody, Reason: reason}
	}
	left, req := time.Duration(ms)*time.Millisecond, budgetFrom(ctx).req
	if req == nil {
		ctx, cancel := With(ctx, After(left))
		return ctx, cancel, nil
	}
	if req.max >= 0 {
		left = min(left, req.max)
	}
	ctx, cancel := With(ctx, since(req.at, left))
	if d, _ := From(ctx); req.tighten(d) {
		req.conn.bound(d.at)
	}
	return ctx, cancel, nil
}

// tighten records d if it is earlier than what was merged before.
func (a *arrival) tighten(d Deadline) bool {
	for {
		old := a.merged.Load()
		if old != nil && !d.at.Before(old.at) {
			return false
		}
		if a.merged.CompareAndSwap(old, &d) {
			return true
		}
	}
}

// Require returns nil if ctx leaves at least need, an [*Exceeded] if nothing is
// left and an [*Insufficient] if less than need is. Without a deadline it
// returns nil.
func Require(ctx context.Context, need time.Duration) error {
	d, ok := From(ctx)
	if !ok {
		return nil
	}
	left := d.Remaining()
	switch {
	case left <= 0:
		if e, ok := errors.AsType[*Exceeded](context.Cause(ctx)); ok {
			return e
		}
		return &Exceeded{Stage: StageHandler, Budget: d.budget, At: d.at}
	case left < need:
		return &Insufficient{Need: need, Remaining: left}
	}
	return nil
}
