package poolhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/fetch"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// refusal is an error that only this package makes.
type refusal struct {
	code   string
	fields []string // "member: fault"
}

func (e *refusal) Error() string { return e.code }

func refuse(code string, fields ...string) error { return &refusal{code: code, fields: fields} }

// invalid says which member of a request is wrong.
func invalid(field string) error { return refuse(string(poolcore.InvalidParams), field) }

// codeOf is the code of an error; INTERNAL where nobody gave it one. The first
// code in the order of wrapping counts: that of a reload before its cause.
func codeOf(err error) string {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e.code
	}
	if c, ok := errors.AsType[poolcore.Code](err); ok {
		return string(c)
	}
	if e, ok := errors.AsType[*poolcore.PreflightError](err); ok && len(e.Faults) > 0 {
		return string(e.Faults[0].Code)
	}
	if e, ok := errors.AsType[*poolcore.CrashError](err); ok {
		if e.Is(poolcore.WorkerStartTimeout) {
			return string(poolcore.WorkerStartTimeout)
		}
		return string(poolcore.WorkerStartFailed)
	}
	if e, ok := errors.AsType[*catalog.Error](err); ok {
		return string(e.Code)
	}
	if e, ok := errors.AsType[*fetch.Error](err); ok {
		return string(e.Code)
	}
	_, input := errors.AsType[*inputvalidation.Error](err)
	_, statement := errors.AsType[*deadline.FormatError](err)
	_, short := errors.AsType[*deadline.Insufficient](err)
	switch {
	case input || statement:
		return string(poolcore.InvalidParams)
	case short || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return codeDeadline
	}
	return codeInternal
}

// explain makes the body of an error, without the correlation id. The second value
// is its row. Details hold sentences of this module, and sizes; never what the
// caller sent.
func explain(err error) (nodeapi.ErrorDetail, row) {
	r := find(codeOf(err))
	d := nodeapi.ErrorDetail{Code: r.code, Message: r.message, Retriable: r.retry > 0, RetryAfterMS: r.retry.Milliseconds()}
	var details nodeapi.Details
	if e, ok := errors.AsType[*refusal](err); ok {
		details.Fields = e.fields
	}
	if slices.Contains(judged(), poolcore.Code(r.code)) {
		if _, text, ok := strings.Cut(err.Error(), " pool: "); ok { // one line for each member
			details.Fields = strings.Split(text, "\n")
		}
	}
	if e, ok := errors.AsType[*inputvalidation.Error](err); ok {
		details.Fields = append(details.Fields, e.Field+": "+string(e.Rule))
	}
	if e, ok := errors.AsType[*deadline.FormatError](err); ok {
		details.Fields = append(details.Fields, e.Error())
	}
	if e, ok := errors.AsType[*poolcore.PreflightError](err); ok {
		for _, f := range e.Faults {
			details.Faults = append(details.Faults, nodeapi.Fault{Code: string(f.Code), Detail: f.Detail})
		}
	}
	if e, ok := errors.AsType[*fetch.Error](err); ok {
		details.Faults = append(details.Faults, nodeapi.Fault{Code: string(e.Code), Detail: e.Hint})
		d.Retriable, d.RetryAfterMS = d.Retriable || e.Retriable, max(e.RetryAfter, r.retry).Milliseconds()
	} else if e, ok := errors.AsType[*catalog.Error](err); ok && e.Detail != "" {
		details.Faults = append(details.Faults, nodeapi.Fault{Code: string(e.Code), Detail: e.Detail})
	}
	if e, ok := errors.AsType[*poolcore.CrashError](err); ok {
		details.Class, details.Tail = e.Class, e.Tail
	}
	if len(details.Fields)+len(details.Faults)+len(details.Class) > 0 {
		d.Details = &details
	}
	return d, r
}

// judged are the codes with which a pool's configuration is refused: the error
// names every member that is wrong, and no value.
func judged() []poolcore.Code {
	return []poolcore.Code{
		poolcore.InvalidParams, poolcore.FlagNotAllowed, poolcore.EnvNotAllowed, poolcore.BinaryNotAllowed, "DEVICE_MASK_INVALID",
	}
}

// refuse writes the error body of the node contract. Whoever did not have to say
// who they are get no details.
func (c *call) refuse(err error) {
	d, r := explain(err)
	if r.code == codeInternal {
		c.h.cfg.Logger.ErrorContext(c.r.Context(), "pool request", slog.String("route", c.r.Pattern), slog.Any("error", err))
	}
	if c.open {
		d.Details = nil
	}
	c.refuseAs(r.status, d)
}

// refuseAs is refuse with another status.
func (c *call) refuseAs(status int, d nodeapi.ErrorDetail) {
	header := c.w.Header()
	if status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	if d.Retriable && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		wait := time.Duration(d.RetryAfterMS) * time.Millisecond
		header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	d.CorrelationID = header.Get(nodeapi.HeaderCorrelation)
	c.write(answer{status, nodeapi.ErrorReply{Message: d.Message, Error: d}})
}

// unauthorized answers for Authorize, with the status of its error if it has one.
func (c *call) unauthorized(err error) {
	status := http.StatusUnauthorized
	if s, ok := errors.AsType[interface {
		error
		HTTPStatus() int
	}](err); ok && s.HTTPStatus() >= 400 && s.HTTPStatus() <= 599 {
		status = s.HTTPStatus()
	}
	code := codeForbidden
	switch status {
	case http.StatusUnauthorized:
		code = codeUnauthorized
	case http.StatusTooManyRequests:
		code = codeTooMany
	case http.StatusServiceUnavailable:
		code = codeUnavailable
	}
	d, _ := explain(refuse(code))
	c.refuseAs(status, d)
}

// unrouted gives the mux's own 404 and 405 the body of the contract.
func (c *call) unrouted(mux *http.ServeMux) {
	seen := &headers{header: http.Header{}}
	mux.ServeHTTP(seen, c.r)
	if allow := seen.header.Get("Allow"); allow != "" {
		c.w.Header().Set("Allow", allow)
		c.refuse(refuse(codeMethod))
		return
	}
	c.refuse(refuse(codeNotFound))
}

// headers is a response of which only the headers are kept.
type headers struct{ header http.Header }

func (h *headers) Header() http.Header         { return h.header }
func (h *headers) Write(b []byte) (int, error) { return len(b), nil }
func (h *headers) WriteHeader(int)             {}
