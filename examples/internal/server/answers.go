package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// health says that the process answers.
func health(w http.ResponseWriter, _ *http.Request) { status(w, http.StatusOK, "ok") }

// ready says whether tasks are admitted.
func ready(check func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := check()
		if err == nil {
			status(w, http.StatusOK, "ok")
			return
		}
		if e, ok := errors.AsType[*taskapi.Error](err); ok {
			answer(w, r, e)
			return
		}
		answer(w, r, taskapi.NewError(taskapi.StoreUnavailable))
	})
}

func status(w http.ResponseWriter, code int, word string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": word})
}

func internal() *taskapi.Error { return taskapi.NewError(taskapi.Internal) }

func notFound(w http.ResponseWriter, r *http.Request) {
	leave(w, r)
	answer(w, r, taskapi.NewError(taskapi.NotFound))
}

// onlyGet keeps the server's own routes to reading.
func onlyGet(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			answer(w, r, taskapi.NewError(taskapi.MethodNotAllowed))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// refuse answers what the gate refused; the gate has set its own headers.
func refuse(w http.ResponseWriter, r *http.Request, f *authmin.Refusal) {
	e := taskapi.NewError(refusalCode(f))
	e.Message = f.Message
	e = e.With("auth_code", f.AuthCode)
	if f.Hint != "" {
		e = e.With("hint", f.Hint)
	}
	leave(w, r)
	body(w, r, e)
}

func refusalCode(f *authmin.Refusal) taskapi.Code {
	switch f.Status {
	case http.StatusUnauthorized:
		return taskapi.Unauthenticated
	case http.StatusMisdirectedRequest:
		return taskapi.HostNotListed
	case http.StatusServiceUnavailable:
		return taskapi.AuthUnavailable
	}
	return taskapi.Forbidden
}

// outOfTime answers a deadline that is malformed or over.
func outOfTime(w http.ResponseWriter, r *http.Request, _ int, err error) {
	if f, ok := errors.AsType[*deadline.FormatError](err); ok {
		e := taskapi.InvalidField(f.Source, f.Reason)
		e.Message = "The deadline in " + f.Source + " is malformed: " + f.Reason + "." // OpenAI's shape has no details
		answer(w, r, e)
		return
	}
	e := taskapi.NewError(taskapi.DeadlineUnmet)
	if x, ok := errors.AsType[*deadline.Exceeded](err); ok {
		e = e.With("exceeded_by_ms", x.Over().Milliseconds())
	}
	answer(w, r, e)
}

// answer writes the canonical body, or OpenAI's shape under /v1.
func answer(w http.ResponseWriter, r *http.Request, e *taskapi.Error) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(e.HTTPStatus())
	body(w, r, e)
}

func body(w http.ResponseWriter, r *http.Request, e *taskapi.Error) {
	h := w.Header()
	id := h.Get("X-Correlation-Id")
	h.Set("Content-Type", "application/json")
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		_ = json.NewEncoder(w).Encode(e.OpenAI())
		return
	}
	_ = json.NewEncoder(w).Encode(e.Body(id))
}
