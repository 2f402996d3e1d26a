// Package nodehttp serves the node routes of package nodeapi for a registry.
// Its handler works at any prefix that the program strips, and in any mux that
// passes the paths on.
package nodehttp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/llorch/llorch/inputvalidation"
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
	Logger    *slog.Logger // nil = none
}

const (
	maxBody     = 256 << 10
	bodyTimeout = 10 * time.Second
)

type handler struct{ Config }

// New returns the handler. Every route needs a role: see package nodeapi. Every
// answer may not be cached.
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
	h := &handler{cfg}
	mux := http.NewServeMux()
	mux.Handle(nodeapi.RouteRegister, h.route(h.register, nodeapi.RoleNode))
	mux.Handle(nodeapi.RouteHeartbeat, h.route(h.heartbeat, nodeapi.RoleNode))
	mux.Handle(nodeapi.RouteLeave, h.route(h.leave, nodeapi.RoleNode))
	mux.Handle(nodeapi.RouteNodes, h.route(h.nodes, nodeapi.RoleReader))
	mux.Handle(nodeapi.RouteNode, h.route(h.node, nodeapi.RoleReader))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		defer h.recover(w, r)
		if _, pattern := mux.Handler(r); pattern == "" {
			unrouted(w, r, mux)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	}), nil
}

// An endpoint answers with a value, or nil for 204, or an error of the table.
type endpoint func(r *http.Request, p nodeapi.Principal) (any, error)

// route authorizes, runs the endpoint and writes what it answers.
func (h *handler) route(e endpoint, need nodeapi.Role) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := h.Authorize(r)
		if err != nil {
			unauthorized(w, err)
			return
		}
		if !allowed(p.Role, need) {
			refuse(w, refusal(poolregistry.Forbidden))
			return
		}
		if r.Body != http.NoBody {
			// A server that cannot set deadlines still has its own timeouts.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		answer, err := e(r, p)
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

func (h *handler) write(ctx context.Context, w http.ResponseWriter, answer any) {
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
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone otherwise
}

// decode reads one JSON body into v; code is what a malformed one is refused with.
func decode(r *http.Request, v any, code poolregistry.Code) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return refusal(wirecode.MediaType)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return refusal(wirecode.TooLarge)
		}
		return refusal(code, "body: incomplete")
	}
	if err := inputvalidation.CheckJSON("body", body, maxBody); err != nil {
		return refusal(code, "body: json")
	}
	if err := json.Unmarshal(body, v); err != nil {
		field := "body"
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" && len(te.Field) <= 64 {
			field = te.Field // names of our own types only
		}
		return refusal(code, field+": type")
	}
	return nil
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
