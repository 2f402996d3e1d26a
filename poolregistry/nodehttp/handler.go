// Package nodehttp serves the node routes of package nodeapi for a registry.
// Its handler works at any prefix that the program strips, and in any mux that
// passes the paths on.
//
// Nodes act only on ids that their own principal registered. Operators command
// any node; the answer is the node as it is afterwards. Any role reads.
//
// POST /v2/nodes/guard/release belongs to the mass-failure guard; a node that is
// called "guard" can be released by its registry's own method only.
package nodehttp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/wirecode"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// A Config makes a handler.
type Config struct {
	Registry *poolregistry.Registry // required
	// Authorize finds the caller of a request; required. Its error may carry its
	// status by a method HTTPStatus() int, otherwise it is 401.
	Authorize func(*http.Request) (nodeapi.Principal, error)
	// Static takes workers on machines without a node daemon; *poolclient.StaticProbe
	// is one. Nil = none: its routes answer NOT_FOUND.
	Static Static
	Logger *slog.Logger // nil = none
}

const (
	maxBody     = 256 << 10
	bodyTimeout = 10 * time.Second

	// answerTimeout is how long a client may take to read an answer, which is in
	// memory until then.
	answerTimeout = 30 * time.Second
)

type handler struct {
	Config
	mux *http.ServeMux
}

// An endpoint answers with a value, or nil for 204, or an error of the table.
type endpoint func(r *http.Request, p nodeapi.Principal) (any, error)

// A row is a route and who serves it.
type row struct {
	nodeapi.Route
	serve endpoint
}

// rows is the table of routes.
func (h *handler) rows() []row {
	at := func(pattern string, role nodeapi.Role, e endpoint) row {
		return row{nodeapi.NewRoute(pattern, role), e}
	}
	return []row{
		at(nodeapi.RouteRegister, nodeapi.RoleNode, h.register),
		at(nodeapi.RouteHeartbeat, nodeapi.RoleNode, h.heartbeat),
		at(nodeapi.RouteLeave, nodeapi.RoleNode, h.leave),
		at(nodeapi.RouteNodes, nodeapi.RoleReader, h.nodes),
		at(nodeapi.RouteNode, nodeapi.RoleReader, h.node),
		at(nodeapi.RouteCordon, nodeapi.RoleOperator, h.cordon),
		at(nodeapi.RouteUncordon, nodeapi.RoleOperator, h.uncordon),
		at(nodeapi.RouteNodeDrain, nodeapi.RoleOperator, h.drain),
		at(nodeapi.RouteFail, nodeapi.RoleOperator, h.fail),
		at(nodeapi.RouteClear, nodeapi.RoleOperator, h.clear),
		at(nodeapi.RouteRelease, nodeapi.RoleOperator, h.release),
		at(nodeapi.RouteGuardRelease, nodeapi.RoleOperator, h.releaseGuard),
		at(nodeapi.RouteAvailability, nodeapi.RoleReader, h.availability),
		at(nodeapi.RouteStatic, nodeapi.RoleNode, h.static),
		at(nodeapi.RouteStaticV2, nodeapi.RoleNode, h.static),
	}
}

// Routes returns the routes that the handler serves, for whoever mounts it.
func Routes() []nodeapi.Route {
	var out []nodeapi.Route
	for _, r := range new(handler).rows() {
		out = append(out, r.Route)
	}
	return out
}

// New returns the handler of [Routes]. Every answer may not be cached.
func New(cfg Config) (http.Handler, error) {
	var errs []error
	if cfg.Registry == nil {
		errs = append(errs, errors.New("nodehttp: Registry is required"))
	}
	if cfg.Authorize == nil {
		errs = append(errs, errors.New("nodehttp: Authorize is required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	h := &handler{cfg, http.NewServeMux()}
	for _, r := range h.rows() {
		h.mux.Handle(r.Pattern(), h.route(r))
	}
	return h, nil
}

// ServeHTTP answers one request. The limit of its body is outermost.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	defer h.recover(w, r)
	escaped := r.URL.EscapedPath()
	// The mux would redirect a path like //v2/nodes, before anybody asked who it is.
	if _, pattern := h.mux.Handler(r); pattern == "" || path.Clean(escaped) != escaped {
		unrouted(w, r, h.mux)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	h.mux.ServeHTTP(w, r)
}

// route authorizes, runs the endpoint and writes what it answers.
func (h *handler) route(row row) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := h.Authorize(r)
		if err != nil {
			unauthorized(w, err)
			return
		}
		if !allowed(p.Role, row.Role) {
			refuse(w, refusal(poolregistry.Forbidden))
			return
		}
		if r.ContentLength != 0 {
			// A server that cannot set deadlines still has its own timeouts.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		answer, err := row.serve(r, p)
		switch {
		case err != nil:
			refuse(w, err)
		case answer == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			h.write(r.Context(), w, answer)
		}
	})
}

// allowed reports whether have is need or a role above it.
func allowed(have, need nodeapi.Role) bool {
	rising := []nodeapi.Role{nodeapi.RoleReader, nodeapi.RoleNode, nodeapi.RoleOperator}
	return slices.Index(rising, have) >= slices.Index(rising, need)
}

// A text is an answer that is not JSON.
type text string

func (h *handler) write(ctx context.Context, w http.ResponseWriter, answer any) {
	if t, ok := answer.(text); ok {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, string(t)) // the client is gone otherwise
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		h.Logger.LogAttrs(ctx, slog.LevelError, "encode answer", slog.String("type", "nodehttp"))
		refuse(w, refusal(wirecode.Internal))
		return
	}
	send(w, http.StatusOK, body)
}

func send(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout)) // see route
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone otherwise
}

func (h *handler) recover(w http.ResponseWriter, r *http.Request) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v)
	default:
		h.Logger.LogAttrs(r.Context(), slog.LevelError, "a hook panicked")
		refuse(w, refusal(wirecode.Internal))
	}
}
