package nodehttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// A refusal is one row of the error table: what becomes of a code on the wire.
type refusal struct {
	code      string
	status    int
	retriable bool
	message   string
}

func (r *refusal) Error() string { return r.code }

// refusals is the error table, but for what Authorize decides.
func refusals() []refusal {
	return []refusal{
		{string(poolregistry.InvalidNode), 400, false, "the registration or query is malformed; see details"},
		{string(poolregistry.InvalidBeat), 400, false, "the heartbeat is malformed; the node counts as alive"},
		{string(poolregistry.AddressNotAllowed), 400, false, "the address is outside this installation's policy"},
		{string(poolregistry.Forbidden), 403, false, "the caller may not do this"},
		{string(poolregistry.LeaseInvalid), 403, true, "the lease token is unknown; register again"},
		{string(poolregistry.NodeUnknown), 404, true, "no such node; register first"},
		{codeNotFound, 404, false, "no such route"},
		{codeMethod, 405, false, "this route has another method"},
		{string(poolregistry.NodeIDTaken), 409, true, "another live node has this id"},
		{string(poolregistry.LeaseFenced), 409, false, "a newer incarnation of this node holds its id; stop"},
		{string(poolregistry.BeatReplayed), 409, false, "the sequence number did not rise"},
		{codeTooLarge, 413, false, "the body is too large"},
		{codeMediaType, 415, false, "the body must be application/json"},
		{string(poolregistry.TooManyBeats), 429, true, "too many heartbeats; the node counts as alive"},
		{codeInternal, 500, true, "internal error"},
		{string(poolregistry.NodeLimit), 503, true, "no more nodes can be registered"},
	}
}

// Codes that only HTTP has.
const (
	codeNotFound     = "NOT_FOUND"
	codeMethod       = "METHOD_NOT_ALLOWED"
	codeTooLarge     = "BODY_TOO_LARGE"
	codeMediaType    = "UNSUPPORTED_MEDIA_TYPE"
	codeInternal     = "INTERNAL"
	codeUnauthorized = "UNAUTHORIZED"
)

type wireError string

func (e wireError) Error() string { return string(e) }

// Conditions that only HTTP has.
const (
	errTooLarge  = wireError(codeTooLarge)
	errMediaType = wireError(codeMediaType)
	errInternal  = wireError(codeInternal)
)

// unauthorized is the refusal of Authorize, with its status if it has one.
func unauthorized(err error) error {
	status := http.StatusUnauthorized
	if s, ok := errors.AsType[interface {
		error
		HTTPStatus() int
	}](err); ok && s.HTTPStatus() >= 400 && s.HTTPStatus() <= 599 {
		status = s.HTTPStatus()
	}
	code := codeUnauthorized
	if status != http.StatusUnauthorized {
		code = string(poolregistry.Forbidden)
	}
	return &refusal{code: code, status: status, message: "the caller is not accepted", retriable: status >= 500}
}

// rowOf finds the row of an error; what is in no row is INTERNAL.
func rowOf(err error) refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return *r
	}
	code := codeInternal
	if e, ok := errors.AsType[*poolregistry.Error](err); ok {
		code = string(e.Code)
	} else if e, ok := errors.AsType[wireError](err); ok {
		code = string(e)
	}
	var internal refusal
	for _, row := range refusals() {
		switch row.code {
		case code:
			return row
		case codeInternal:
			internal = row
		}
	}
	return internal
}

// refuse writes the canonical error body.
func (h *handler) refuse(w http.ResponseWriter, err error) {
	row := rowOf(err)
	reply := nodeapi.ErrorReply{Message: row.message, Error: nodeapi.ErrorDetail{
		Code: row.code, Message: row.message, Retriable: row.retriable,
		CorrelationID: w.Header().Get(nodeapi.HeaderCorrelation),
	}}
	if e, ok := errors.AsType[*poolregistry.Error](err); ok {
		if len(e.Fields) > 0 {
			reply.Error.Details = &nodeapi.Details{Fields: e.Fields}
		}
		if e.RetryAfter > 0 {
			reply.Error.RetryAfterMS = max(1, e.RetryAfter.Milliseconds())
			w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
		}
	}
	if row.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	body, err := json.Marshal(reply)
	if err != nil {
		body = nil // cannot happen: the reply holds strings and numbers
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(row.status)
	_, _ = w.Write(append(body, '\n'))
}

// unrouted answers what the mux would refuse with text: 404 and 405.
func (h *handler) unrouted(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	probe := &headers{header: http.Header{}}
	mux.ServeHTTP(probe, r)
	if allow := probe.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		h.refuse(w, wireError(codeMethod))
		return
	}
	h.refuse(w, wireError(codeNotFound))
}

// headers is a response of which only the headers are kept.
type headers struct {
	header http.Header
	bytes.Buffer
}

func (h *headers) Header() http.Header { return h.header }
func (h *headers) WriteHeader(int)     {}
