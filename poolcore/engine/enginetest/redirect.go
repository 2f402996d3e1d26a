package enginetest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// redirects: a redirect is refused, and the key reaches nobody else.
func (b bench) redirects(ctx context.Context, path string) error {
	var reached atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Store(true)
		a := b.script.Ready[r.URL.Path]
		w.WriteHeader(max(a.Status, http.StatusOK))
		_, _ = w.Write([]byte(a.Body))
	}))
	defer elsewhere.Close()
	ep, stop := b.serve(nil, map[string]http.HandlerFunc{path: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}})
	defer stop()
	r, err := b.kind.Probe(ctx, ep)
	if reached.Load() || r.Ready {
		return errors.New("a redirect was followed")
	}
	return discreet(err)
}
