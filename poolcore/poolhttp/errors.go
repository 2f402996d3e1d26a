package poolhttp

import (
	"net/http"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// refusal is what a status means on these routes.
type refusal struct {
	code, message string
	retriable     bool
}

// refusals is the whole table of errors of this package.
func refusals() map[int]refusal {
	return map[int]refusal{
		http.StatusUnauthorized:       {"UNAUTHORIZED", "credentials are missing or not valid", false},
		http.StatusForbidden:          {"FORBIDDEN", "the caller may not do this", false},
		http.StatusNotFound:           {string(poolcore.PoolUnknown), "there is no such pool or route", false},
		http.StatusMethodNotAllowed:   {"METHOD_NOT_ALLOWED", "the route does not know this method", false},
		http.StatusTooManyRequests:    {"TOO_MANY_REQUESTS", "too many requests", true},
		http.StatusServiceUnavailable: {"UNAVAILABLE", "not available now", true},
	}
}

// refuse writes the error body of the node contract.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, status int) {
	f, ok := refusals()[status]
	if !ok {
		f = refusal{"REFUSED", "refused", false}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Cache-Control", "no-store")
	h.write(w, r, status, nodeapi.ErrorReply{Message: f.message, Error: nodeapi.ErrorDetail{
		Code: f.code, Message: f.message, Retriable: f.retriable, CorrelationID: w.Header().Get(nodeapi.HeaderCorrelation),
	}})
}

// answerUnknown gives the mux's own 404 and 405 the body of the contract.
func (h *handler) answerUnknown(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		seen := &unknown{header: http.Header{}}
		mux.ServeHTTP(seen, r)
		if allow := seen.header.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
		}
		h.refuse(w, r, seen.status)
	})
}

// unknown keeps the status that the mux would have sent.
type unknown struct {
	header http.Header
	status int
}

func (u *unknown) Header() http.Header         { return u.header }
func (u *unknown) Write(b []byte) (int, error) { return len(b), nil }
func (u *unknown) WriteHeader(status int)      { u.status = status }
