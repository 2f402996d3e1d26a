package worker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Class says what kind of failure an attempt had (ORC-402). The set is closed.
type Class string

// The classes. Overload and everything before the first token may be tried
// again elsewhere; Rejected and Denied may not.
const (
	Connect  Class = "connect"  // refused, DNS, TLS, dial timeout
	Overload Class = "overload" // 429, 503, 409 or 425, engine queue full
	Rejected Class = "rejected" // 400, 413, 422: the request is at fault
	Denied   Class = "denied"   // 401, 403, 404: our credentials or routing are at fault
	Server   Class = "server"   // other 5xx
	Reset    Class = "reset"    // connection lost in the middle
	Timeout  Class = "timeout"  // no first token, or silence after it
	Protocol Class = "protocol" // an answer that can not be decoded, or breaks a limit
)

// ErrUnsupported is the cause of a Rejected job whose kind its engine does not do.
var ErrUnsupported = errors.New("worker: the engine does not do this kind of work")

// Failure is why an attempt ended without a result. Its text holds no answer
// of the engine, no address and no prompt.
type Failure struct {
	Class      Class
	Status     int           // HTTP status, 0 if none
	RetryAfter time.Duration // as the engine asked; 0 if it did not
	Reason     string        // a fixed phrase
	Err        error         // the cause, for logs of connection errors; may be nil
}

func (f *Failure) Error() string {
	if f.Status != 0 {
		return fmt.Sprintf("worker: %s: %s (status %d)", f.Class, f.Reason, f.Status)
	}
	return fmt.Sprintf("worker: %s: %s", f.Class, f.Reason)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// statusFailure turns an HTTP status other than 200 into a failure. The answer's
// body is not looked at: it may quote the prompt.
func statusFailure(status int, h http.Header, now time.Time) *Failure {
	f := &Failure{Status: status, RetryAfter: retryAfter(h, now)}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusConflict, http.StatusTooEarly:
		f.Class, f.Reason = Overload, "the engine is busy"
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		f.Class, f.Reason = Rejected, "the engine refused the request"
	case http.StatusRequestTimeout:
		f.Class, f.Reason = Timeout, "the engine gave up waiting for the request"
	default:
		switch {
		case status >= 500:
			f.Class, f.Reason = Server, "the engine failed"
		case status >= 400: // 401, 403, 404, and others that no client of ours can cause
			f.Class, f.Reason = Denied, "the engine does not let us in or has no such route or model"
		default:
			f.Class, f.Reason = Protocol, "the engine answered with a status that makes no sense here"
		}
	}
	return f
}

// maxRetryAfter bounds what an engine may ask for.
const maxRetryAfter = time.Hour

// retryAfter reads seconds or an HTTP date; 0 if there is neither.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(s)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// callFailure turns an error of a round trip into a failure. connected and
// answered say how far the call came.
func callFailure(err error, connected, answered bool) *Failure {
	switch {
	case !connected:
		return &Failure{Class: Connect, Reason: "no connection to the engine", Err: err}
	case answered && !lost(err):
		return &Failure{Class: Protocol, Reason: "the engine's answer is not HTTP or its header is too large", Err: err}
	default:
		return &Failure{Class: Reset, Reason: "the engine closed the connection", Err: err}
	}
}

// lost reports whether err is the end of a connection rather than of the rules.
func lost(err error) bool {
	_, isNet := errors.AsType[net.Error](err)
	return isNet || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed)
}
