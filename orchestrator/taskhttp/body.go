package taskhttp

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// body reads the whole request body, which must be JSON by its media type. The
// bound was set in ServeHTTP.
func (c *call) body() ([]byte, error) {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || c.r.Header.Get("Content-Encoding") != "" {
		return nil, taskapi.UnsupportedMedia
	}
	if c.r.ContentLength > c.h.MaxBody {
		return nil, tooLarge(c.h.MaxBody)
	}
	raw, err := io.ReadAll(c.r.Body)
	if over, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(over.Limit)
	}
	if err != nil {
		if e := timeFault(c.r.Context(), c.r.Context().Err()); e != nil {
			return nil, e
		}
		return nil, taskapi.InvalidField("body", "incomplete")
	}
	return raw, nil
}

func tooLarge(limit int64) error {
	return taskapi.NewError(taskapi.BodyTooLarge).With("limit", limit)
}

// deadline returns when the answer is worthless, or zero: the earliest of what
// the outermost middleware read and deadline_ms of the body (0 = none). It is a
// property of the task and outlives this request.
func (c *call) deadline(ms int64) (time.Time, error) {
	ctx := c.r.Context()
	if ms != 0 {
		merged, cancel, err := deadline.MergeRelative(ctx, ms)
		defer cancel()
		if err != nil {
			return time.Time{}, err
		}
		ctx = merged
	}
	if err := deadline.Require(ctx, 0); err != nil {
		return time.Time{}, err
	}
	d, _ := deadline.From(ctx)
	return d.Time(), nil
}

// idempotencyKey returns the client's key, or "".
func idempotencyKey(h http.Header) (string, error) {
	const name = "Idempotency-Key"
	key := h.Get(name)
	if len(key) > taskapi.MaxKey || len(h.Values(name)) > 1 {
		return "", taskapi.InvalidField(name, "length").With("limit", taskapi.MaxKey)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return "", taskapi.InvalidField(name, "charset")
		}
	}
	return key, nil
}
