package taskhttp

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
)

// body reads the whole request body, which must be JSON by its media type. The
// bound was set in ServeHTTP.
func (c *call) body() ([]byte, error) {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, taskapi.UnsupportedMedia
	}
	return c.read()
}

// optionalBody reads a body that may be absent.
func (c *call) optionalBody() ([]byte, error) {
	if c.r.ContentLength == 0 {
		return []byte("{}"), nil
	}
	return c.body()
}

// read reads the body, of whatever media type.
func (c *call) read() ([]byte, error) {
	if c.r.Header.Get("Content-Encoding") != "" {
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

// regions reads the regions that a task is allowed in. Ignoring one could run the
// task where its owner forbade it.
func regions(field string, list []string) ([]poolregistry.Region, error) {
	if len(list) > taskapi.MaxRegions {
		return nil, taskapi.InvalidField(field, "too_many")
	}
	var out []poolregistry.Region
	for _, s := range list {
		r, err := poolregistry.ParseRegion(strings.TrimSpace(s))
		if err != nil || r.Country == "" && (r.Group == "" || r.Group == "UNKNOWN") {
			return nil, taskapi.InvalidField(field, "unknown_value")
		}
		out = append(out, r)
	}
	return out, nil
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
