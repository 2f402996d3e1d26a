package taskapi

// Session is the metadata of a session: it groups tasks and holds no text.
type Session struct {
	SessionID             string `json:"session_id"`
	TTLMSRemaining        int64  `json:"ttl_ms_remaining"`
	Turns                 int    `json:"turns"`
	KVWarmth              bool   `json:"kv_warmth"`                         // the worker of the last turn may still hold its context
	TokensBudgetRemaining *int   `json:"tokens_budget_remaining,omitempty"` // absent: there is no budget
	Worker                string `json:"worker,omitempty"`                  // of the last turn, node/pool/worker
}

// OpenSession is the body of POST /v2/sessions; all of it may be absent.
type OpenSession struct {
	SessionID string  `json:"session_id,omitempty"` // absent: the server names it
	Budget    *Budget `json:"budget,omitempty"`
}

// DecodeOpenSession reads the body of POST /v2/sessions.
func DecodeOpenSession(body []byte) (s OpenSession, err error) {
	m := readBody(body)
	m.ident("session_id", &s.SessionID, session)
	if p := m.object("budget"); p != nil {
		s.Budget = new(readBudget(p))
		m.err = p.err
	}
	return s, m.done()
}
