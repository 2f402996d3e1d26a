package taskclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/backoff"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

const (
	// tries is how often one call is made.
	tries = 5
	// maxRefusal bounds the body of a refusal, in bytes.
	maxRefusal = 64 << 10
	// maxHint bounds what a server may ask a client to wait.
	maxHint = time.Hour
)

// call asks until a replica answers, and reads the answer.
func (c *Client) call(ctx context.Context, q request, into any) error {
	var last error
	for n := 1; ; n++ {
		base, turn := c.replica()
		res, err := c.send(ctx, base, q)
		if err == nil && res.StatusCode < http.StatusMultipleChoices {
			if err = decode(res, into); res.Body.Close() == nil && err == nil {
				return nil
			}
			res = nil // cut short, or not ours
		}
		hint, again := time.Duration(0), false
		if hint, again, err = judge(ctx, res, err); !again {
			return err
		}
		last = err
		c.pass(turn)
		if n == tries {
			return last
		}
		if !c.pause(ctx, n, hint, err) {
			return errors.Join(context.Cause(ctx), last)
		}
	}
}

// judge words what went wrong, and says whether it may be tried again and when.
// It closes res.
func judge(ctx context.Context, res *http.Response, err error) (hint time.Duration, again bool, why error) {
	if res == nil {
		_, useless := errors.AsType[*tokenErr](err)
		return 0, !useless && ctx.Err() == nil, err
	}
	e := refusal(res)
	return e.RetryAfter, e.Retriable && passing(res.StatusCode), e
}

// passing reports whether a status says that a later try may be answered
// otherwise.
func passing(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// refusal reads and closes an answer that is no success. What has no body of ours
// is a proxy's, or another program's.
func refusal(res *http.Response) *taskapi.Error {
	defer res.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	var body taskapi.ErrorBody
	if json.Unmarshal(raw, &body) == nil && body.Error.Code != "" {
		d := body.Error
		e := &taskapi.Error{Code: d.Code, Message: d.Message, Retriable: d.Retriable, Details: d.Details}
		if e.RetryAfter = time.Duration(min(max(d.RetryAfterMS, 0), maxHint.Milliseconds())) * time.Millisecond; e.RetryAfter == 0 {
			e.RetryAfter = hinted(res.Header)
		}
		return e
	}
	e := taskapi.NewError(taskapi.Internal)
	e.Err = fmt.Errorf("HTTP status %d without an error body", res.StatusCode)
	e.Retriable, e.RetryAfter = passing(res.StatusCode), hinted(res.Header)
	return e
}

// hinted reads Retry-After in its form of seconds.
func hinted(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(min(s, 1<<20))*time.Second, maxHint)
}

// pause waits before try n+1, at least as long as the server asks for; false if
// ctx ends first or the hint lies beyond its deadline.
func (c *Client) pause(ctx context.Context, n int, hint time.Duration, why error) bool {
	wait := max(hint, backoff.Request(n, rand.Uint64()))
	if at, ok := ctx.Deadline(); ok && time.Until(at) <= wait {
		return false
	}
	c.log.LogAttrs(ctx, slog.LevelDebug, "A request is tried again.", slog.String("event", "client_retry"),
		slog.Int("try", n), slog.Duration("wait", wait), slog.Any("err", why))
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
