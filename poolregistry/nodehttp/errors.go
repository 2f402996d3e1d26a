package nodehttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/wirecode"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// refusal makes the error of a code that only HTTP has, or that needs no more
// words.
func refusal(code poolregistry.Code, fields ...string) error {
	return &poolregistry.Error{Code: code, Fields: fields}
}

// unauthorized answers for Authorize, with the status of its error if it has one.
func unauthorized(w http.ResponseWriter, err error) {
	row := wirecode.Find(wirecode.Unauthorized)
	if s, ok := errors.AsType[interface {
		error
		HTTPStatus() int
	}](err); ok && s.HTTPStatus() >= 400 && s.HTTPStatus() <= 599 {
		row.Status, row.Retriable = s.HTTPStatus(), s.HTTPStatus() >= 500
	}
	if row.Status != http.StatusUnauthorized {
		row.Code = string(poolregistry.Forbidden)
	}
	reply(w, row, &poolregistry.Error{})
}

// refuse answers with an error; what is in no row of the table is INTERNAL.
func refuse(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*poolregistry.Error](err)
	if !ok {
		e = &poolregistry.Error{Code: wirecode.Internal}
	}
	reply(w, wirecode.Find(string(e.Code)), e)
}

// reply writes the canonical error body.
func reply(w http.ResponseWriter, row wirecode.Row, e *poolregistry.Error) {
	body := nodeapi.ErrorReply{Message: row.Message, Error: nodeapi.ErrorDetail{
		Code: row.Code, Message: row.Message, Retriable: row.Retriable,
		CorrelationID: w.Header().Get(nodeapi.HeaderCorrelation),
	}}
	if len(e.Fields) > 0 {
		body.Error.Details = &nodeapi.Details{Fields: e.Fields}
	}
	if e.RetryAfter > 0 {
		body.Error.RetryAfterMS = max(1, e.RetryAfter.Milliseconds())
		w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if row.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	raw, _ := json.Marshal(body) // cannot fail: strings and numbers
	send(w, row.Status, raw)
}

// unrouted answers what the mux would refuse with text: 404 and 405.
func unrouted(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	probe := &headers{header: http.Header{}}
	mux.ServeHTTP(probe, r)
	if allow := probe.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		refuse(w, refusal(wirecode.Method))
		return
	}
	refuse(w, refusal(wirecode.NotFound))
}

// headers is a response of which only the headers are kept.
type headers struct {
	header http.Header
	bytes.Buffer
}

func (h *headers) Header() http.Header { return h.header }
func (h *headers) WriteHeader(int)     {}
