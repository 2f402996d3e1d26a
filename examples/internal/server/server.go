package server

import (
	"errors"
	"log"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/narration"
)

// Config is what the chain around the mux needs.
type Config struct {
	Narrator         *narration.Narrator
	Keys             *authmin.KeySet // nil: nobody has a token
	LoopbackOptional bool            // strictly local callers need no token
	AllowedHosts     []string        // Host values beside loopback names
}

// Times of the HTTP server (SRV-5). Streams lift the write timeout themselves.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	headerBytes   = 32 << 10
)

// New returns a server for the routes: recovery and correlation id outermost,
// then the gate (Host guard, token, cross-origin), deadline, and the mux.
func New(c Config, routes []Route) (*http.Server, error) {
	var keys authmin.Verifier
	if c.Keys != nil {
		keys = c.Keys
	}
	gate, gateErr := authmin.New(authmin.Config{
		Keys: keys, LoopbackOptional: c.LoopbackOptional, Open: paths(routes, Open), OpenLocal: []string{},
		AllowedHosts: c.AllowedHosts, Answer: refuse, Logger: c.Narrator.Logger(),
	})
	budget, budgetErr := deadline.New(deadline.Config{Answer: outOfTime, Max: -1}) // whoever serves the route has its own cap
	if err := errors.Join(gateErr, budgetErr); err != nil {
		return nil, err
	}
	h := recovered(c.Narrator.Logger(), guarded(gate, mux(routes), routes, budget))
	h = bounded(h)
	h = narration.Middleware(c.Narrator, narration.HTTPConfig{Skip: routine, ClientIP: true})(h)
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
		ErrorLog: log.New(&serverLog{log: c.Narrator.Logger()}, "", 0), DisableGeneralOptionsHandler: true,
	}, nil
}

// guarded puts the gate before the mux, so that paths that do not exist are asked
// for a token too.
func guarded(gate *authmin.Gate, m *http.ServeMux, routes []Route, budget *deadline.Middleware) http.Handler {
	strict := make(map[string]bool) // whole paths: wrong methods lead to the same handler
	for _, r := range routes {
		if r.Auth == Strict {
			strict[r.Path] = true
		}
	}
	timed := budget.Wrap(m)
	usual, closed, lost := gate.Wrap(timed), gate.WrapStrict(timed), gate.Wrap(http.HandlerFunc(notFound))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := m.Handler(r)
		switch {
		case pattern == "": // not even a path, as in CONNECT
			lost.ServeHTTP(w, r)
		case strict[pattern] && r.Method != http.MethodGet && r.Method != http.MethodHead:
			closed.ServeHTTP(w, r)
		default:
			usual.ServeHTTP(w, r)
		}
	})
}

// routine reports whether a request is not worth a log line of its own.
func routine(r *http.Request) bool {
	return r.URL.Path == "/health" || r.URL.Path == "/metrics" || r.URL.Path == "/readyz"
}

// recovered answers 500 when a handler panics; the correlation id is set already.
func recovered(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler {
				panic(v)
			}
			log.ErrorContext(r.Context(), "A handler panicked.", slog.String("event", "internal"), slog.String("stack", string(debug.Stack())))
			answer(w, r, internal())
		}()
		next.ServeHTTP(w, r)
	})
}
