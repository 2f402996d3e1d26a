package deadline

import (
	"context"
	"errors"
	"time"
)

// maxBodyMs bounds the body field deadline_ms: about 115 days, the same reach as
// the ten digits of X-Request-Timeout-Ms.
const maxBodyMs = 10_000_000_000

type contextKey struct{}

// scope is the context that carries a deadline and, for a request, what
// MergeRelative needs to tighten it. It is its own value: one allocation instead
// of a value context, a box and what is in it. Nothing changes after enter.
type scope struct {
	context.Context
	d   Deadline
	req *exchange // nil outside of a Middleware
}

// Value answers for contextKey and leaves the rest to the context around it.
func (s *scope) Value(key any) any {
	if key == (contextKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// scopeOf returns the scope around ctx; nil if there is none.
func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(contextKey{}).(*scope)
	return s
}

// request returns the exchange that ctx belongs to; nil outside of a Middleware.
func request(ctx context.Context) *exchange {
	if s := scopeOf(ctx); s != nil {
		return s.req
	}
	return nil
}

// With returns a context that ends at d or at the deadline that ctx already has,
// whichever is earlier, with an [*Exceeded] as its cause. A zero d adds nothing.
func With(ctx context.Context, d Deadline) (context.Context, context.CancelFunc) {
	return with(ctx, d, StageHandler)
}

func with(ctx context.Context, d Deadline, stage string) (context.Context, context.CancelFunc) {
	s := &scope{req: request(ctx)}
	if s.enter(ctx, d) {
		return s.bounded(stage)
	}
	return context.WithCancel(s)
}

// enter puts s around ctx with the earlier of d and what ctx has already. It
// reports whether there is a deadline.
func (s *scope) enter(ctx context.Context, d Deadline) bool {
	s.Context = ctx
	if old, ok := From(ctx); ok {
		d = d.Earlier(old)
	}
	if d.IsZero() {
		return false
	}
	s.d = d
	return true
}

// bounded returns the context that ends at the deadline of s.
func (s *scope) bounded(stage string) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(s, s.d.at, &Exceeded{Stage: stage, Budget: s.d.budget, At: s.d.at})
}

// From returns the deadline that ctx carries: the propagated one, tightened by
// ctx.Deadline. It reports whether there is one.
func From(ctx context.Context) (Deadline, bool) {
	var d Deadline
	if s := scopeOf(ctx); s != nil {
		d = s.d
	}
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
	left, req := time.Duration(ms)*time.Millisecond, request(ctx)
	if req == nil {
		ctx, cancel := With(ctx, After(left))
		return ctx, cancel, nil
	}
	if req.m.cfg.Max >= 0 {
		left = min(left, req.m.cfg.Max)
	}
	d := since(req.arrival, left)
	req.tighten(d) // the request's, whatever shorter context the caller is in
	ctx, cancel := With(ctx, d)
	return ctx, cancel, nil
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
