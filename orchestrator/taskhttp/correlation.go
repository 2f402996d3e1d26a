package taskhttp

import (
	"crypto/rand"
	"net/http"
	"strings"

	"github.com/llorch/llorch/orchestrator/store"
)

const (
	headerCorrelation = "X-Correlation-Id"
	headerRequestID   = "X-Request-Id" // the name that OpenAI clients read
	maxCorrelation    = 64
)

// correlate sees to it that the answer carries a correlation id (ORC-763): that
// of the outermost middleware, else the request's own, else a new UUID.
func correlate(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	id := h.Get(headerCorrelation)
	if id == "" {
		if id = r.Header.Get(headerCorrelation); !validCorrelation(id) {
			id = newUUID()
		}
		h.Set(headerCorrelation, id)
	}
	if isV1(r) {
		h.Set(headerRequestID, id)
	}
}

// validCorrelation reports whether id matches ^[A-Za-z0-9-]{1,64}$.
func validCorrelation(id string) bool {
	if id == "" || len(id) > maxCorrelation {
		return false
	}
	return strings.IndexFunc(id, func(c rune) bool {
		return c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) < 0
}

// newUUID returns a random UUID (version 4).
func newUUID() string {
	var b store.TaskID
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b.String()
}

// traceparent returns the request's W3C trace context if it has the form of
// version 00, else "".
func traceparent(r *http.Request) string {
	const form = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx"
	s := r.Header.Get("Traceparent")
	if len(s) != len(form) {
		return ""
	}
	for i := range len(form) {
		c := s[i]
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if form[i] == 'x' && !hex || form[i] != 'x' && c != form[i] {
			return ""
		}
	}
	return s
}
