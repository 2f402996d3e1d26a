package taskhttp

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Engine is what the handlers need of an orchestrator. Errors that a client
// shall see are *[taskapi.Error]; any other error is logged and answered
// INTERNAL. All methods are safe for concurrent use.
type Engine interface {
	Submit(ctx context.Context, p orchestrator.Principal, s orchestrator.Spec) (orchestrator.Accepted, error)
	Task(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID) (orchestrator.Task, error)
	Tasks(ctx context.Context, p orchestrator.Principal, f orchestrator.Filter) iter.Seq2[orchestrator.Task, error]
	// Events yields what follows the id after and ends behind the terminal
	// event. It refuses before it waits. It returns soon after ctx ends, and
	// leaving its loop means that this reader is gone. Data is not changed later.
	Events(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID, after uint64) iter.Seq2[orchestrator.Event, error]
	Cancel(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID) error
	Explain(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID) (placement.Explanation, error)
	Models() []string // what can be placed now, sorted
}

var _ Engine = (*orchestrator.Orchestrator)(nil)

// Config of a handler. Zero members mean their default.
type Config struct {
	Orchestrator Engine // required
	// Authorize finds the caller. Its error is answered 401, or as the
	// *taskapi.Error that it holds, or with the status that it carries
	// (interface{ HTTPStatus() int }). nil: strictly local requests only.
	Authorize    func(*http.Request) (orchestrator.Principal, error)
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

// New returns the handler of every route of [Routes]. It panics when
// cfg.Orchestrator is nil.
func New(cfg Config) http.Handler {
	if cfg.Orchestrator == nil {
		panic("taskhttp: Config.Orchestrator is nil")
	}
	h := &handler{Config: cfg.withDefaults(), mux: http.NewServeMux()}
	allow := map[string][]string{}
	for _, rt := range table() {
		h.mux.Handle(rt.Method+" "+rt.Path, h.serve(rt))
		allow[rt.Path] = append(allow[rt.Path], rt.Method)
		if rt.Method == http.MethodGet {
			allow[rt.Path] = append(allow[rt.Path], http.MethodHead)
		}
	}
	for p, methods := range allow {
		h.mux.HandleFunc(p, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			h.call(w, r).refuse(taskapi.MethodNotAllowed)
		})
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

// serve finds the caller and checks the route's role before its handler runs.
func (h *handler) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := h.call(w, r)
		err := c.authorize(rt.Role)
		if err == nil {
			err = rt.handle(h, c)
		}
		if err != nil {
			c.refuse(err)
		}
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
