package taskhttp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// refuse answers err: status, hints and the body in the shape of the route
// (ORC-766). It is called at most once, before anything else was written.
func (c *call) refuse(err error) {
	e := c.fault(err)
	c.hints(e)
	var body any = e.Body(c.correlation)
	if c.v1 {
		body = e.OpenAI()
	}
	if err := c.json(e.HTTPStatus(), body); err != nil {
		e.Details = nil // something in them has no JSON form
		c.refuse(e)
	}
}

// hints sets the headers that tell a client when to come back.
func (c *call) hints(e *taskapi.Error) {
	h := c.w.Header()
	status, after := e.HTTPStatus(), e.RetryAfter
	if after > 0 {
		name := "X-Backoff-Ms"
		if c.v1 {
			name = "Retry-After-Ms"
		}
		h.Set(name, strconv.FormatInt(max(after.Milliseconds(), 1), 10))
	}
	if after > 0 || status == http.StatusGatewayTimeout {
		h.Set("Retry-After", strconv.FormatInt(max(int64((after+time.Second-1)/time.Second), 1), 10))
	}
	if over, ok := wholeNumber(e.Details["exceeded_by_ms"]); ok {
		h.Set("X-Deadline-Exceeded-By-Ms", strconv.FormatInt(over, 10))
	}
	if status == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "" {
		h.Set("WWW-Authenticate", `Bearer realm="llorch"`)
	}
}

// wholeNumber reads a detail, which is a float64 when it came as JSON.
func wholeNumber(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	case float64:
		return int64(n), true
	}
	return 0, false
}

// fault turns any error into one that may leave. What is not known as such is
// logged under the correlation id and becomes INTERNAL.
func (c *call) fault(err error) *taskapi.Error {
	if e, ok := errors.AsType[*taskapi.Error](err); ok {
		known := *e
		if taskapi.NewError(e.Code).Code == e.Code && e.Code != taskapi.Internal {
			return &known
		}
	} else if code, ok := errors.AsType[taskapi.Code](err); ok && code != taskapi.Internal {
		return taskapi.NewError(code)
	} else if e := timeFault(c.r.Context(), err); e != nil {
		return e
	}
	c.h.Logger.LogAttrs(c.r.Context(), slog.LevelError, "A request failed here.",
		slog.String("event", "request_failed"), slog.String("correlation_id", c.correlation), slog.Any("error", err))
	return taskapi.NewError(taskapi.Internal)
}

// timeFault words deadlines and clients that went away; nil for other errors.
func timeFault(ctx context.Context, err error) *taskapi.Error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
		err = cause
	}
	if x, ok := errors.AsType[*deadline.Exceeded](err); ok {
		return taskapi.NewError(taskapi.DeadlineUnmet).With("stage", x.Stage).
			With("budget_ms", x.Budget.Milliseconds()).With("exceeded_by_ms", max(x.Over().Milliseconds(), 0))
	}
	if f, ok := errors.AsType[*deadline.FormatError](err); ok {
		return taskapi.InvalidField(f.Source, f.Reason)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return taskapi.NewError(taskapi.DeadlineUnmet)
	case errors.Is(err, context.Canceled):
		return taskapi.NewError(taskapi.Cancelled)
	}
	return nil
}

// json answers v. The error is that of encoding, before anything was written.
func (c *call) json(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.header(status, "application/json", len(body))
	_, _ = c.w.Write(body) // a client that is gone needs no answer
	return nil
}

// header sends the status of an answer whose length is known.
func (c *call) header(status int, media string, length int) {
	h := c.w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(length))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(status)
}
