package taskhttp

import (
	"net/http"
	"net/url"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// openSession is POST /v2/sessions.
func (h *handler) openSession(c *call) error {
	req, err := decoded(c, c.optionalBody, taskapi.DecodeOpenSession)
	if err != nil {
		return err
	}
	budget := 0
	if req.Budget != nil {
		budget = req.Budget.Tokens
	}
	s, err := h.Orchestrator.OpenSession(c.r.Context(), c.p, req.SessionID, budget)
	return c.made("/v2/sessions/", s.ID, sessionView(s), err)
}

// session is GET /v2/sessions/{id}; it never makes one.
func (h *handler) session(c *call) error {
	s, err := h.Orchestrator.Session(c.r.Context(), c.p, c.r.PathValue("id"))
	return c.show(http.StatusOK, sessionView(s), err)
}

// touchSession is POST /v2/sessions/{id}/touch.
func (h *handler) touchSession(c *call) error {
	return c.done(h.Orchestrator.TouchSession(c.r.Context(), c.p, c.r.PathValue("id")))
}

// endSession is DELETE /v2/sessions/{id}.
func (h *handler) endSession(c *call) error {
	return c.done(h.Orchestrator.EndSession(c.r.Context(), c.p, c.r.PathValue("id")))
}

// decoded reads a body by one of the two readers and decodes it.
func decoded[T any](c *call, read func() ([]byte, error), decode func([]byte) (T, error)) (req T, err error) {
	raw, err := read()
	if err != nil {
		return req, err
	}
	return decode(raw)
}

// show answers v, or passes err on.
func (c *call) show(status int, v any, err error) error {
	if err != nil {
		return err
	}
	return c.json(status, v)
}

// made answers 201 with v and where it is, or passes err on.
func (c *call) made(under, id string, v any, err error) error {
	if err == nil {
		c.w.Header().Set("Location", under+url.PathEscape(id))
	}
	return c.show(http.StatusCreated, v, err)
}

// done answers 204, or passes err on.
func (c *call) done(err error) error {
	if err == nil {
		c.w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// each shows every item of a list; the result is [] in JSON, never null.
func each[T, V any](list []T, view func(T) V) []V {
	out := make([]V, len(list))
	for i, x := range list {
		out[i] = view(x)
	}
	return out
}

func sessionView(s orchestrator.Session) taskapi.Session {
	v := taskapi.Session{SessionID: s.ID, TTLMSRemaining: s.TTLLeft.Milliseconds(), Turns: s.Turns, KVWarmth: s.Warm, Worker: s.Worker}
	if s.Budget > 0 {
		v.TokensBudgetRemaining = new(max(s.BudgetLeft, 0))
	}
	return v
}
