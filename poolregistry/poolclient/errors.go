package poolclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// An APIError is a refusal that a node answered with.
type APIError struct {
	Status     int
	Code       poolregistry.Code // of the error body; empty if there was none
	RetryAfter time.Duration     // 0 = not stated
}

// Error returns the status and the code.
func (e *APIError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("status %d", e.Status)
	}
	return fmt.Sprintf("status %d %s", e.Status, e.Code)
}

// Is reports whether target is e's Code.
func (e *APIError) Is(target error) bool {
	c, ok := target.(poolregistry.Code)
	return ok && c == e.Code
}

// apiError reads the canonical error body; anything else leaves only the status.
func apiError(res *http.Response, body []byte) error {
	e := &APIError{Status: res.StatusCode}
	var reply nodeapi.ErrorReply
	if json.Unmarshal(body, &reply) != nil {
		return e
	}
	const longest = int64(time.Hour / time.Millisecond)
	code := reply.Error.Code
	if inputvalidation.CheckIdentifier("code", code, inputvalidation.IdentRules{Max: 64, Extra: "_"}) == nil {
		e.Code = poolregistry.Code(code)
	}
	e.RetryAfter = time.Duration(min(max(0, reply.Error.RetryAfterMS), longest)) * time.Millisecond
	return e
}

// connectError is a request that got no answer.
type connectError struct{ err error }

func (e *connectError) Error() string { return "connect: " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// again reports whether a request is worth another attempt, and may have one.
func again(method string, err error) bool {
	if method == http.MethodPost {
		op, ok := errors.AsType[*net.OpError](err)
		return ok && op.Op == "dial" && temporary(err)
	}
	return temporary(err)
}

// temporary reports whether another attempt may get further.
func temporary(err error) bool {
	if e, ok := errors.AsType[*APIError](err); ok {
		return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
	}
	_, ok := errors.AsType[*connectError](err)
	return ok && !errors.Is(err, inputvalidation.RuleAddress) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
