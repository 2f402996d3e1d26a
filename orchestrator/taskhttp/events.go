package taskhttp

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/sse"
)

const (
	// openWait holds the status of a stream back for a refusal, which the
	// engine utters before it waits for anything.
	openWait = time.Second
	// retryHint is how soon a browser shall reconnect.
	retryHint = 2 * time.Second
)

// events is GET /v2/tasks/{id}/events.
func (h *handler) events(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	after, err := resumeAfter(c.r)
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		if _, err := h.Orchestrator.Task(c.r.Context(), c.p, id); err != nil {
			return err
		}
		(&stream{c: c}).begin()
		return nil
	}
	if err := h.enter(); err != nil {
		return err
	}
	defer h.leave()
	if t, err := h.Orchestrator.Task(c.r.Context(), c.p, id); err == nil {
		c.budget(t.Session)
	}
	items, stop := c.follow(id, after)
	defer stop()
	return c.relay(items, openWait, &eventReader{verbose: isTrue(c.r.URL.Query().Get("verbose"))})
}

func isTrue(s string) bool { v, err := strconv.ParseBool(s); return err == nil && v }

// resumeAfter reads the id of the last event that the client has. The header
// wins: an EventSource reconnects to the URL that it was opened with.
func resumeAfter(r *http.Request) (uint64, error) {
	if s := r.Header.Get("Last-Event-ID"); s != "" {
		if after, ok := parseEventID(s); ok {
			return after, nil
		}
		return 0, taskapi.InvalidField("Last-Event-ID", "syntax")
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, taskapi.InvalidField("query", "syntax")
	}
	values := q["after"]
	if len(values) == 0 {
		return 0, nil
	}
	if after, ok := parseEventID(values[0]); ok && len(values) == 1 {
		return after, nil
	}
	return 0, taskapi.InvalidField("after", "syntax")
}

// parseEventID reads decimal digits only; a leading zero is no id of ours, but
// 0 itself means the beginning.
func parseEventID(s string) (uint64, bool) {
	if s == "" || len(s) > 20 || s[0] == '0' && s != "0" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	id, err := strconv.ParseUint(s, 10, 64)
	return id, err == nil
}

// eventReader shows the events of a task as they are (ORC-500, 503).
type eventReader struct{ opened, verbose bool }

func (r *eventReader) open(s *stream) {
	if !r.opened {
		r.opened = true
		s.buf = sse.AppendFrame(s.buf, sse.Frame{Retry: retryHint})
	}
}

func (r *eventReader) event(s *stream, ev orchestrator.Event) error {
	if ev.Type == orchestrator.EventFrame {
		return nil // an engine's own frame, for readers of /v1
	}
	r.open(s)
	data := ev.Data
	if ev.Type == orchestrator.EventMetrics && !r.verbose {
		data = terse(data)
	}
	s.buf = sse.AppendFrame(s.buf, sse.Frame{ID: strconv.FormatUint(ev.ID, 10), Event: ev.Type, Data: data})
	return nil
}

// terse leaves out what only verbose readers asked for. The event itself stays:
// ids have no gaps.
func terse(data []byte) []byte {
	var m taskapi.Metrics
	if json.Unmarshal(data, &m) != nil {
		return []byte("{}")
	}
	m.Prep, m.Phase, m.Human = nil, "", ""
	out, err := json.Marshal(m)
	if err != nil {
		return []byte("{}")
	}
	return out
}

func (r *eventReader) idle(s *stream) {
	if r.opened {
		s.buf = sse.AppendComment(s.buf, "keep-alive")
	}
	r.open(s)
}

// broken shows nothing: without a terminal event the client resumes.
func (r *eventReader) broken(*stream, *taskapi.Error) {}

// end answers a reader who had everything before: 204 tells an EventSource not
// to come again.
func (r *eventReader) end(s *stream) error {
	if !r.opened {
		s.begun = true
		s.c.w.WriteHeader(http.StatusNoContent)
	}
	return nil
}
