package taskhttp

import (
	"net/http"
	"net/url"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// openSession is POST /v2/sessions.
func (h *handler) openSession(c *call) error {
	raw, err := c.optionalBody()
	if err != nil {
		return err
	}
	req, err := taskapi.DecodeOpenSession(raw)
	if err != nil {
		return err
	}
	budget := 0
	if req.Budget != nil {
		budget = req.Budget.Tokens
	}
	s, err := h.Orchestrator.OpenSession(c.r.Context(), c.p, req.SessionID, budget)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v2/sessions/"+url.PathEscape(s.ID))
	return c.json(http.StatusCreated, sessionView(s))
}

// session is GET /v2/sessions/{id}; it never makes one.
func (h *handler) session(c *call) error {
	s, err := h.Orchestrator.Session(c.r.Context(), c.p, c.r.PathValue("id"))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, sessionView(s))
}

// touchSession is POST /v2/sessions/{id}/touch.
func (h *handler) touchSession(c *call) error {
	return c.done(h.Orchestrator.TouchSession(c.r.Context(), c.p, c.r.PathValue("id")))
}

// endSession is DELETE /v2/sessions/{id}.
func (h *handler) endSession(c *call) error {
	return c.done(h.Orchestrator.EndSession(c.r.Context(), c.p, c.r.PathValue("id")))
}

// done answers 204, or passes err on.
func (c *call) done(err error) error {
	if err == nil {
		c.w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func sessionView(s orchestrator.Session) taskapi.Session {
	v := taskapi.Session{SessionID: s.ID, TTLMSRemaining: s.TTLLeft.Milliseconds(), Turns: s.Turns, KVWarmth: s.Warm, Worker: s.Worker}
	if s.Budget > 0 {
		v.TokensBudgetRemaining = new(max(s.BudgetLeft, 0))
	}
	return v
}
