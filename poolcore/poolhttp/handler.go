// Package poolhttp serves a node's own API over a poolcore.Host: its pools, their
// workers, its models and its operations.
//
//	GET    /health                     open: {"status":"ok","version":…}
//	GET    /pools                      all pools
//	GET    /pools/{id}/status          one pool
//	GET    /pools/{id}/workers         workers that serve, with their keys; operators only
//	POST   /pools/{id}/preload         nodeapi.PreloadRequest: 200 PreloadReply, or 202
//	POST   /pools/{id}/drain           {deadline_ms}: 202
//	POST   /pools/{id}/undrain         200, the pool
//	POST   /pools/{id}/reload          nodeapi.ReloadRequest: 202
//	POST   /pools/{id}/purge           nodeapi.PurgeRequest: 202
//	POST   /pools/{id}/restart         202
//	POST   /pools/{id}/breaker/reset   200, the pool
//	GET    /v2/state                   the node: pools, workers by status, devices
//	POST   /v2/workers/start           {model_ref, gpu_id}: Config.DefaultPool on one device, as pool gpu<id>
//	POST   /v2/workers/stop            {worker_id}: the worker's pool, where it has one worker
//	GET    /v2/workers/{id}            one worker
//	GET    /v2/workers/{id}/logs       ?tail=1…200, default 100: its last lines, escaped
//	POST   /v2/workers/{id}/drain      {deadline_ms}: the worker's pool: 202
//	POST   /v2/internal/workers/ready  open: {worker_id, model, url} with the worker's key as bearer, from loopback: 204
//	GET    /models                     the catalogue
//	POST   /models/fetch               {model_ref, sha256?, tags?, backends?}: 202
//	GET    /models/{id}                one entry
//	DELETE /models/{id}                ?force=true removes a model in use: 204
//	POST   /models/{id}/verify         hashes every byte: 202
//	POST   /models/{id}/state          {state, retire_at?}: 200, the entry
//	GET    /operations/{id}            nodeapi.Operation, to be polled
//	DELETE /operations/{id}            cancels: 202, or 200 where it had ended
//
// An id with a "/" in it is path-escaped. Readers may GET, all but the workers'
// keys; everything else is for operators. /metrics belongs to the program, which
// knows what else it measures.
//
// # Operations
//
// 202 carries a nodeapi.Operation and, in Location, where to poll it, relative to
// the request. "Prefer: wait=N" waits for the end of it up to N seconds, at most
// 120; without it a preload waits 30, everything else only long enough to tell a
// refusal. An operation that failed within the wait is answered with its error.
//
// # Bodies
//
// A body is one JSON object of at most 256 KiB without members that the route does
// not know. Statements of package deadline bound the request: once the time has
// passed nothing is begun any more and the answer is 504; what was begun goes on.
//
// No answer repeats what was sent, and none may be stored. The handler never waits
// for an engine but where a route says so, and never keeps a pool's loop waiting. It
// works under any prefix (http.StripPrefix) and in any mux that passes the paths on.
package poolhttp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// Config configures the handler.
type Config struct {
	Host *poolcore.Host // required
	// Authorize finds the caller of every request but those of open routes;
	// required. An error is answered 401, or what its HTTPStatus() int says.
	Authorize func(*http.Request) (nodeapi.Principal, error)
	Version   string       // shown by /health
	Logger    *slog.Logger // nil discards
}

// New returns the handler.
func New(cfg Config) (http.Handler, error) {
	var errs []error
	if cfg.Host == nil {
		errs = append(errs, errors.New("configure pool API: Host is missing"))
	}
	if cfg.Authorize == nil {
		errs = append(errs, errors.New("configure pool API: Authorize is missing"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{cfg: cfg, node: cfg.Host.Config()}
	mux := http.NewServeMux()
	for _, r := range h.routes() {
		mux.Handle(r.Pattern(), h.serve(r))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		c := &call{h: h, w: w, r: r}
		defer c.recover()
		if _, pattern := mux.Handler(r); pattern == "" {
			c.unrouted(mux)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

type handler struct {
	cfg     Config
	node    poolcore.Config
	fetches sync.Map // *catalog.Fetch → its first operation, which counts the bytes
}

// call is one request on its way to an answer.
type call struct {
	h    *handler
	w    http.ResponseWriter
	r    *http.Request
	open bool // nobody was asked who the caller is
}

// answer is a status and a JSON body; nil: none.
type answer struct {
	status int
	body   any
}

// endpoint answers a call whose caller may make it.
type endpoint func(*call) (answer, error)

// route is one row of the API.
type route struct {
	nodeapi.Route
	do endpoint
}

// serve authorizes a call, bounds it by what its caller states and answers it.
func (h *handler) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{h: h, w: w, r: r, open: rt.Open}
		if !rt.Open {
			who, err := h.cfg.Authorize(r)
			if err != nil {
				c.unauthorized(err)
				return
			}
			if who.Role != nodeapi.RoleOperator && (rt.Role == nodeapi.RoleOperator || who.Role != nodeapi.RoleReader) {
				c.refuse(refuse(codeForbidden))
				return
			}
		}
		until, err := deadline.FromHeader(r.Header, time.Now())
		if err != nil {
			c.refuse(err)
			return
		}
		ctx, cancel := deadline.With(r.Context(), until)
		defer cancel()
		c.r = r.WithContext(ctx)
		a, err := rt.do(c)
		if err != nil {
			c.refuse(err)
			return
		}
		c.write(a)
	})
}

// due refuses to begin what nobody waits for any more.
func (c *call) due() error { return deadline.Require(c.r.Context(), time.Millisecond) }

func (c *call) write(a answer) {
	if a.body == nil {
		c.w.WriteHeader(a.status)
		return
	}
	b, err := json.Marshal(a.body)
	if err != nil {
		c.h.cfg.Logger.ErrorContext(c.r.Context(), "answer not encoded", slog.Any("error", err))
		c.refuse(refuse(codeInternal))
		return
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(a.status)
	_, _ = c.w.Write(append(b, '\n')) // the peer went away: nobody is left to tell
}

// recover answers for a hook that panicked.
func (c *call) recover() {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v)
	default:
		c.h.cfg.Logger.ErrorContext(context.WithoutCancel(c.r.Context()), "a hook panicked")
		c.refuse(refuse(codeInternal))
	}
}
