// Package poolhttp serves a node's own API over a poolcore.Host: its pools, their
// state, and, to operators, the credentials of their workers.
//
//	GET /health               open: {"status":"ok","version":…}
//	GET /pools                all pools
//	GET /pools/{id}/status    one pool
//	GET /pools/{id}/workers   workers that serve, with their keys; operators only
//
// The handler reads immutable values and never waits for an engine. It works under
// any prefix (http.StripPrefix) and beside other handlers of a mux.
package poolhttp

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// RouteHealth is the one route that needs no credentials.
const RouteHealth = "GET /health"

// Config configures the handler.
type Config struct {
	Host *poolcore.Host // required
	// Authorize finds the caller of every request but those for /health; required.
	// An error is answered 401, or what its HTTPStatus() int says.
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
	h := &handler{cfg: cfg}
	mux := http.NewServeMux()
	for _, r := range h.routes() {
		mux.Handle(r.pattern, h.guard(r))
	}
	return h.answerUnknown(mux), nil
}

type handler struct{ cfg Config }

type route struct {
	pattern  string
	open     bool
	operator bool
	serve    func(http.ResponseWriter, *http.Request)
}

func (h *handler) routes() []route {
	return []route{
		{pattern: RouteHealth, open: true, serve: h.health},
		{pattern: nodeapi.RoutePools, serve: h.pools},
		{pattern: nodeapi.RoutePoolStatus, serve: h.status},
		{pattern: nodeapi.RoutePoolWorkers, operator: true, serve: h.workers},
	}
}

// guard lets the right callers through. Every answer forbids storing it.
func (h *handler) guard(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.open {
			r.serve(w, req)
			return
		}
		who, err := h.cfg.Authorize(req)
		if err != nil {
			h.refuse(w, req, statusOf(err))
			return
		}
		if !allowed(who.Role, r.operator) {
			h.refuse(w, req, http.StatusForbidden)
			return
		}
		r.serve(w, req)
	})
}

func allowed(role nodeapi.Role, operator bool) bool {
	return role == nodeapi.RoleOperator || !operator && role == nodeapi.RoleReader
}

// statusOf is the status that an error of Authorize asks for.
func statusOf(err error) int {
	var s interface{ HTTPStatus() int }
	if errors.As(err, &s) {
		if code := s.HTTPStatus(); code >= 400 && code <= 599 {
			return code
		}
	}
	return http.StatusUnauthorized
}

func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, http.StatusOK, struct {
		Status  string `json:"status"`
		Version string `json:"version"`
	}{"ok", h.cfg.Version})
}

func (h *handler) pools(w http.ResponseWriter, r *http.Request) {
	list := nodeapi.PoolList{Pools: []nodeapi.PoolStatus{}}
	for p := range h.cfg.Host.Pools() {
		list.Pools = append(list.Pools, p.Status())
	}
	h.write(w, r, http.StatusOK, list)
}

func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	p := h.cfg.Host.Pool(poolregistry.PoolID(r.PathValue("id")))
	if p == nil {
		h.refuse(w, r, http.StatusNotFound)
		return
	}
	h.write(w, r, http.StatusOK, p.Status())
}

// workers lists only those that take requests: nobody needs the key of another.
func (h *handler) workers(w http.ResponseWriter, r *http.Request) {
	p := h.cfg.Host.Pool(poolregistry.PoolID(r.PathValue("id")))
	if p == nil {
		h.refuse(w, r, http.StatusNotFound)
		return
	}
	list := nodeapi.WorkerList{Workers: []nodeapi.WorkerAccess{}}
	for wk := range p.Workers() {
		if wk.Usable() {
			list.Workers = append(list.Workers, nodeapi.WorkerAccess{
				WorkerID: wk.ID, URL: wk.URL, Token: wk.Token, ModelRef: wk.ModelRef, SlotsTotal: wk.SlotsTotal,
			})
		}
	}
	h.write(w, r, http.StatusOK, list)
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		h.cfg.Logger.ErrorContext(r.Context(), "answer not encoded", slog.Any("error", err))
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the peer went away: nobody is left to tell
}
