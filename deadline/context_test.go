package deadline_test

import (
	"context"
	"errors"
	"math"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

func TestZeroDeadline(t *testing.T) {
	var none deadline.Deadline
	if !none.IsZero() || none.Expired() || none.Wire() != "" || none.Remaining() != math.MaxInt64 || !deadline.At(time.Time{}).IsZero() {
		t.Errorf("the zero Deadline is not 'none': %+v", none)
	}
	ctx, cancel := deadline.With(t.Context(), none)
	if _, ok := deadline.From(ctx); ok {
		t.Error("With added a deadline")
	}
	if cancel(); ctx.Err() == nil {
		t.Error("cancel does nothing")
	}
	soon := deadline.After(time.Minute)
	if none.Earlier(soon) != soon || soon.Earlier(none) != soon {
		t.Error("a zero Deadline won")
	}
}

// G1, G3, G6: a context ends at the earliest of all its deadlines, not before it,
// and says why.
func TestWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		outer, cancel := deadline.With(t.Context(), deadline.After(time.Second))
		defer cancel()
		ctx, cancel := deadline.With(outer, deadline.After(time.Hour)) // cannot extend
		defer cancel()
		if d, ok := deadline.From(ctx); !ok || d.Remaining() != time.Second {
			t.Errorf("From = %v, %v", d.Remaining(), ok)
		}
		<-ctx.Done()
		if took := time.Since(start); took != time.Second {
			t.Errorf("ended after %v", took)
		}
		e, ok := errors.AsType[*deadline.Exceeded](context.Cause(ctx))
		if !ok || e.Stage != deadline.StageHandler || e.Budget != time.Second || e.Over() != 0 {
			t.Errorf("cause %#v", context.Cause(ctx))
		}
		if !errors.Is(e, context.DeadlineExceeded) || errors.Is(e, context.Canceled) || !(&url.Error{Err: e}).Timeout() {
			t.Error("an Exceeded is not seen as a timeout")
		}
		time.Sleep(time.Second)
		if e.Over() != time.Second {
			t.Errorf("Over = %v", e.Over())
		}
	})
}

func TestFromPlainContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if d, ok := deadline.From(ctx); !ok || d.Remaining() != 3*time.Second || d.Wire() == "" {
			t.Errorf("From = %v, %v", d.Remaining(), ok)
		}
		if _, ok := deadline.From(t.Context()); ok {
			t.Error("a deadline from nowhere")
		}
	})
}

// DL-25: past, too little, exactly enough, none.
func TestRequire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := deadline.Require(t.Context(), time.Hour); err != nil {
			t.Error(err)
		}
		ctx, cancel := deadline.With(t.Context(), deadline.After(time.Second))
		defer cancel()
		if err := deadline.Require(ctx, time.Second); err != nil {
			t.Errorf("exactly enough: %v", err)
		}
		err := deadline.Require(ctx, time.Second+1)
		if e, ok := errors.AsType[*deadline.Insufficient](err); !ok || e.Need != time.Second+1 || e.Remaining != time.Second {
			t.Errorf("1 ns too little: %v", err)
		}
		time.Sleep(time.Second)
		if _, ok := errors.AsType[*deadline.Exceeded](deadline.Require(ctx, 0)); !ok {
			t.Errorf("past: %v", deadline.Require(ctx, 0))
		}
	})
}

// DL-4: range of the body field, and counting from now outside of a Middleware.
func TestMergeRelative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ms := range []int64{0, -1, math.MinInt64, 10_000_000_001, math.MaxInt64} {
			ctx, cancel, err := deadline.MergeRelative(t.Context(), ms)
			cancel()
			if e, ok := errors.AsType[*deadline.FormatError](err); !ok || e.Source != deadline.SourceBody || ctx != t.Context() {
				t.Errorf("MergeRelative(%d): %v", ms, err)
			}
		}
		for _, ms := range []int64{1, 10_000_000_000} {
			ctx, cancel, err := deadline.MergeRelative(t.Context(), ms)
			if d, ok := deadline.From(ctx); err != nil || !ok || d.Remaining() != time.Duration(ms)*time.Millisecond {
				t.Errorf("MergeRelative(%d) left %v, %v", ms, d.Remaining(), err)
			}
			cancel()
		}
	})
}
