package taskhttp

import (
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Config of a handler. Zero members mean their default.
type Config struct {
	Orchestrator Engine // required
	// Authorize finds the caller. Its error is answered 401, or as the
	// *taskapi.Error that it holds, or with the status that it carries
	// (interface{ HTTPStatus() int }). nil: strictly local requests only.
	Authorize    func(*http.Request) (orchestrator.Principal, error)
	Without      Group         // groups of routes that are answered 404; 0 = every route is served
	Version      string        // of the program, for /v2/meta/version; "" = as its build says
	Logger       *slog.Logger  // nil: nothing is logged
	KeepAlive    time.Duration // silence after which a comment is sent, 1…60 s; 0 = 15 s, negative = never
	EarlyHeaders time.Duration // wait for the first frame of a /v1 stream after which 200 is sent; 0 = 10 s
	MaxStreams   int           // open event streams and /v1 calls; 0 = 10,000
	MaxBody      int64         // bytes of a request body; 0 = 8 MiB
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.KeepAlive == 0:
		c.KeepAlive = 15 * time.Second
	case c.KeepAlive > 0:
		c.KeepAlive = min(max(c.KeepAlive, time.Second), time.Minute)
	}
	if c.EarlyHeaders <= 0 {
		c.EarlyHeaders = 10 * time.Second
	}
	if c.MaxStreams <= 0 {
		c.MaxStreams = 10_000
	}
	if c.MaxBody <= 0 {
		c.MaxBody = 8 << 20
	}
	return c
}

// handler serves all routes. Its only state is the number of open streams.
type handler struct {
	Config
	mux     *http.ServeMux
	streams atomic.Int64
}

// New returns the handler of every route of [Routes] that is not in a group of
// cfg.Without. It panics when cfg.Orchestrator is nil.
func New(cfg Config) http.Handler {
	if cfg.Orchestrator == nil {
		panic("taskhttp: Config.Orchestrator is nil")
	}
	h := &handler{Config: cfg.withDefaults(), mux: http.NewServeMux()}
	paths := map[string]methods{}
	for _, rt := range table() {
		if rt.Group&h.Without == 0 {
			p := paths[rt.Path]
			p.allow = append(p.allow, rt.Method)
			if p.routes = append(p.routes, rt); rt.Method == http.MethodGet {
				p.allow = append(p.allow, http.MethodHead)
			}
			paths[rt.Path] = p
		}
	}
	for pattern, p := range paths {
		h.mux.Handle(pattern, h.serve(p))
	}
	h.mux.HandleFunc("/", h.notFound)
	return h
}

func (h *handler) notFound(w http.ResponseWriter, r *http.Request) {
	h.call(w, r).refuse(taskapi.NotFound)
}

// ServeHTTP names the request and bounds its body before anything else. A path
// that ServeMux would redirect, and so repeat to the client, is no route.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	correlate(w, r)
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, h.MaxBody)
	}
	if p := r.URL.EscapedPath(); !strings.HasPrefix(p, "/") || path.Clean(p) != p {
		h.notFound(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// methods are the routes of one path.
type methods struct {
	routes []route
	allow  []string
}

// serve finds the route, then the caller, and checks the route's role before its
// handler runs.
func (h *handler) serve(p methods) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := h.call(w, r)
		for _, rt := range p.routes {
			if rt.Method != r.Method && (rt.Method != http.MethodGet || r.Method != http.MethodHead) {
				continue
			}
			var err error
			if rt.Role != 0 {
				err = c.authorize(rt.Role)
			}
			if err == nil {
				err = rt.handle(h, c)
			}
			if err != nil {
				c.refuse(err)
			}
			return
		}
		w.Header().Set("Allow", strings.Join(p.allow, ", "))
		c.refuse(taskapi.MethodNotAllowed)
	}
}

// call is one request on its way.
type call struct {
	h           *handler
	w           http.ResponseWriter
	r           *http.Request
	correlation string
	v1          bool // answers have the OpenAI shape
	p           orchestrator.Principal
}

func (h *handler) call(w http.ResponseWriter, r *http.Request) *call {
	return &call{h: h, w: w, r: r, correlation: w.Header().Get(headerCorrelation), v1: isV1(r)}
}

func isV1(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v1/") }
