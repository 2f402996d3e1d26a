package fetch

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// giveUpAfter failures in a row without progressBytes end a fetch.
	giveUpAfter   = 5
	progressBytes = 16 << 20
	// mostRetryAfter bounds what a server may ask for.
	mostRetryAfter = 5 * time.Minute
	// stallAfter is how long a source may send nothing.
	stallAfter = 30 * time.Second
)

// retries decides when a try follows a failed one. The zero value has seen none.
type retries struct {
	failures int
	bytes    int64 // received since failures was 0
}

// received counts bytes that arrived; enough of them clear the failures.
func (r *retries) received(n int64) {
	if r.bytes += n; r.bytes >= progressBytes {
		*r = retries{}
	}
}

// failed counts a failure. It returns the pause before the next try, or that
// there is none. after is what the server asked for; jitter is −1…1.
func (r *retries) failed(after time.Duration, jitter float64) (pause time.Duration, again bool) {
	if r.failures++; r.failures >= giveUpAfter {
		return 0, false
	}
	return max(restartPause(r.failures, jitter), min(after, mostRetryAfter)), true
}

// restartPause returns the pause before restart n (from 1): 1, 2, 4 … 60 s,
// changed by up to a tenth; jitter is −1…1. It is the suite's schedule for
// restarts, kept here again because the parent package imports this one.
func restartPause(n int, jitter float64) time.Duration {
	d := time.Minute
	if n < 7 {
		d = time.Second << max(0, n-1)
	}
	return d + time.Duration(float64(d)*0.1*min(max(jitter, -1), 1))
}

// again waits for the next try after err. It returns nil when that is due, and
// otherwise what the fetch ends with.
func (s Sources) again(ctx context.Context, r *retries, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || !e.Retriable {
		return err
	}
	pause, again := r.failed(e.RetryAfter, 2*rand.Float64()-1)
	switch {
	case !again:
		return err
	case s.wait != nil:
		return s.wait(ctx, pause)
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
