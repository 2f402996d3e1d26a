// Package nodehttp serves the node routes of package nodeapi for a registry.
// Its handler works at any prefix that the program strips, and in any mux that
// passes the paths on.
package nodehttp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
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

type handler struct {
	reg       *poolregistry.Registry
	authorize func(*http.Request) (nodeapi.Principal, error)
	log       *slog.Logger
}

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
	h := &handler{reg: cfg.Registry, authorize: cfg.Authorize, log: cfg.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
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
			h.unrouted(w, r, mux)
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
		p, err := h.authorize(r)
		if err != nil {
			h.refuse(w, unauthorized(err))
			return
		}
		if !allowed(p.Role, need) {
			h.refuse(w, &poolregistry.Error{Code: poolregistry.Forbidden})
			return
		}
		if r.Body != http.NoBody {
			// A server that cannot set deadlines still has its own timeouts.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		answer, err := e(r, p)
		switch {
		case err != nil:
			h.refuse(w, err)
		case answer == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			h.write(r.Context(), w, http.StatusOK, answer)
		}
	})
}

func allowed(have, need nodeapi.Role) bool {
	switch have {
	case nodeapi.RoleOperator:
		return true
	case nodeapi.RoleNode:
		return need != nodeapi.RoleOperator
	case nodeapi.RoleReader:
		return need == nodeapi.RoleReader
	}
	return false
}

func (h *handler) write(ctx context.Context, w http.ResponseWriter, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		h.log.LogAttrs(ctx, slog.LevelError, "encode answer", slog.String("type", "nodehttp"))
		h.refuse(w, errInternal)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone otherwise
}

// decode reads one JSON body into v; code is what a malformed one is refused with.
func decode(r *http.Request, v any, code poolregistry.Code) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return errMediaType
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return errTooLarge
		}
		return &poolregistry.Error{Code: code, Fields: []string{"body: incomplete"}}
	}
	if err := inputvalidation.CheckJSON("body", body, maxBody); err != nil {
		return &poolregistry.Error{Code: code, Fields: []string{"body: json"}}
	}
	if err := json.Unmarshal(body, v); err != nil {
		field := "body"
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" && len(te.Field) <= 64 {
			field = te.Field // names of our own types only
		}
		return &poolregistry.Error{Code: code, Fields: []string{field + ": type"}}
	}
	return nil
}

func (h *handler) recover(w http.ResponseWriter, r *http.Request) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v)
	default:
		h.log.LogAttrs(r.Context(), slog.LevelError, "a hook panicked")
		h.refuse(w, errInternal)
	}
}
