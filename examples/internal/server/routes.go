// Package server is the thin HTTP front of the programs: routes as data, one mux
// built from nothing else, and the chain of middleware around it.
package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

// Auth says what a route asks of its caller.
type Auth string

// The classes of routes.
const (
	Open   Auth = "open"   // anybody
	Token  Auth = "token"  // a token; strictly local callers without one where none is set, or AUTH_OPTIONAL says so
	Strict Auth = "strict" // a token; strictly local callers without one only where none is set
)

// Route is one route of a program. The mux, the gate and the tests are made of
// the same list.
type Route struct {
	Method  string
	Path    string // pattern of net/http, without method and host
	Owner   string // the package that serves it
	Auth    Auth
	Handler http.Handler
}

// Parts are the handlers that the routes lead to. Nil ones have no routes.
type Parts struct {
	Tasks   http.Handler        // taskhttp.New
	Without taskhttp.Group      // groups that Tasks leaves off; Health is the program's own
	Nodes   http.Handler        // nodehttp.New
	Pools   http.Handler        // poolhttp.New
	Metrics prometheus.Gatherer // what /metrics shows
	Ready   func() error        // nil error: ready
}

// Routes lists what a program with these parts serves.
func Routes(p Parts) []Route {
	out := []Route{{http.MethodGet, "/health", "server", Open, http.HandlerFunc(health)}}
	if p.Ready != nil {
		out = append(out, Route{http.MethodGet, "/readyz", "server", Token, ready(p.Ready)})
	}
	if p.Metrics != nil {
		out = append(out, Route{http.MethodGet, "/metrics", "server", Token, promhttp.HandlerFor(p.Metrics, promhttp.HandlerOpts{})})
	}
	if p.Tasks != nil {
		for _, r := range taskhttp.Routes() {
			auth := Token
			if r.Role&orchestrator.RoleUser == 0 && r.Method != http.MethodGet {
				auth = Strict
			}
			if r.Group&(p.Without|taskhttp.Health) == 0 {
				out = append(out, Route{r.Method, r.Path, "taskhttp", auth, p.Tasks})
			}
		}
	}
	if p.Nodes != nil {
		out = append(out, of("nodehttp", p.Nodes, nodehttp.Routes())...)
	}
	if p.Pools != nil {
		out = append(out, of("poolhttp", p.Pools, poolhttp.Routes())...)
	}
	return out
}

// of makes routes of a handler's own table. What its owner leaves open is left out
// here: /health is the program's, and an engine's callback has no engine that makes
// it, while behind this gate every path but /health asks for a token.
func of(owner string, h http.Handler, list []nodeapi.Route) []Route {
	var out []Route
	for _, r := range list {
		auth := Token
		if r.Strict {
			auth = Strict
		}
		if !r.Open {
			out = append(out, Route{r.Method, r.Path, owner, auth, h})
		}
	}
	return out
}

// mux builds the one mux. Each owner's handler is mounted once per path and
// answers wrong methods itself; unknown paths get our own 404.
func mux(routes []Route) *http.ServeMux {
	m := http.NewServeMux()
	seen := make(map[string]bool)
	for _, r := range routes {
		if pattern := r.Path; !seen[pattern] {
			seen[pattern] = true
			h := r.Handler
			if r.Owner == "server" {
				h = onlyGet(h)
			}
			m.Handle(pattern, noted(h))
		}
	}
	m.HandleFunc("/", notFound)
	return m
}

// noted tells the log which route a request took.
func noted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		narration.NoteRoute(r)
		h.ServeHTTP(w, r)
	})
}

// paths returns the paths of a class, for the gate. Open routes have no wildcards.
func paths(routes []Route, a Auth) []string {
	out := []string{}
	for _, r := range routes {
		if r.Auth == a {
			out = append(out, r.Path)
		}
	}
	return out
}
