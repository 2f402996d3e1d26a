package taskhttp_test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

func eventsPath(query string) string { return "/v2/tasks/" + theID.String() + "/events" + query }

// ids returns the event ids of a transcript.
func ids(body string) string {
	var out []string
	for line := range strings.Lines(body) {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			out = append(out, strings.TrimSpace(id))
		}
	}
	return strings.Join(out, " ")
}

// TestResume proves the wire side of ORC-502: the header wins over the query,
// an id beyond the log is 400, malformed ones name their field.
func TestResume(t *testing.T) {
	script := []step{started, token("a", 0), token("b", 1), end}
	for _, tt := range []struct{ query, header, want string }{
		{"", "", "1 2 3 4"}, {"?after=0", "", "1 2 3 4"}, {"?after=2", "", "3 4"}, {"?after=1", "3", "4"}, {"", "2", "3 4"},
	} {
		w := do(handler(&fake{script: script}), "GET", eventsPath(tt.query), "", "Last-Event-ID: "+tt.header)
		if got := ids(w.Body.String()); w.Code != 200 || got != tt.want {
			t.Errorf("%q and %q: %d, ids %s, want %s", tt.query, tt.header, w.Code, got, tt.want)
		}
	}
	for _, tt := range []struct{ query, header, field string }{
		{"?after=5", "", "after"},
		{"?after=x", "", "after"},
		{"?after=", "", "after"},
		{"?after=1&after=2", "", "after"},
		{"?after=%zz", "", "query"},
		{"?after=1", "-1", "Last-Event-ID"},
		{"", "01", "Last-Event-ID"},
		{"", "18446744073709551616", "Last-Event-ID"},
	} {
		w := do(handler(&fake{script: script}), "GET", eventsPath(tt.query), "", "Last-Event-ID: "+tt.header)
		if w.Code != 400 || !strings.Contains(w.Body.String(), `"field":"`+tt.field+`"`) {
			t.Errorf("%q and %q: %d %s", tt.query, tt.header, w.Code, w.Body)
		}
	}
}

// TestVerbose proves ORC-500 and ORC-763: prep, phase and human are for readers
// who ask; nobody's ids have a gap for it.
func TestVerbose(t *testing.T) {
	full := `{"queue_depth":1,"prep":{"model":"m","bytes_done":1,"bytes_total":2},"phase":"loading","human":"Soon."}`
	f := &fake{script: []step{{typ: "metrics", data: full}, {typ: "metrics", data: `{"phase":"queued"}`}, {typ: "metrics", data: "broken"}, end}}
	for query, want := range map[string][]string{
		"": {`data: {"queue_depth":1}`, "data: {}", "data: {}"}, "?verbose=false": {`data: {"queue_depth":1}`, "data: {}", "data: {}"},
		"?verbose=true": {"data: " + full, `data: {"phase":"queued"}`, "data: broken"}, "?verbose=1": {"data: " + full, `data: {"phase":"queued"}`, "data: broken"},
	} {
		w := do(handler(f), "GET", eventsPath(query), "")
		var got []string
		for line := range strings.Lines(w.Body.String()) {
			if strings.HasPrefix(line, "data: ") && len(got) < 3 {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if !slices.Equal(got, want) || ids(w.Body.String()) != "1 2 3 4" {
			t.Errorf("%q: %q, want %q; ids %s", query, got, want, ids(w.Body.String()))
		}
	}
}

// TestStreamBudget proves ORC-541 on this side: a stream of a session with a budget
// tells what is left, and no other one does.
func TestStreamBudget(t *testing.T) {
	for session, want := range map[string]string{"s-1": "90", "": "", "s-gone": ""} {
		f := &fake{script: []step{end}, fakeRest: fakeRest{inSession: session}}
		w := do(handler(f), "GET", eventsPath(""), "")
		if got := w.Header().Get("X-Budget-Tokens-Remaining"); got != want || w.Code != 200 {
			t.Errorf("session %q: %d, budget %q, want %q", session, w.Code, got, want)
		}
	}
}

// TestRefusedStream: before the first event a refusal keeps its status.
func TestRefusedStream(t *testing.T) {
	for _, c := range []taskapi.Code{taskapi.NotFound, taskapi.ResumeWindowLost, taskapi.ShuttingDown} {
		w := do(handler(&fake{readErr: taskapi.NewError(c)}), "GET", eventsPath(""), "")
		if w.Code != c.Status() || code(w) != string(c) {
			t.Errorf("%s: %d %s", c, w.Code, w.Body)
		}
	}
	if w := do(handler(&fake{readErr: errors.New("secret")}), "GET", eventsPath(""), ""); w.Code != 500 {
		t.Errorf("inner error: %d %s", w.Code, w.Body)
	}
}

// TestBrokenStream: a failure in mid-stream ends the answer without a terminal
// event, so that the client resumes; its text does not leave.
func TestBrokenStream(t *testing.T) {
	f := &fake{script: []step{started, token("a", 0)}, lateErr: errors.New("secret")}
	w := do(handler(f), "GET", eventsPath(""), "")
	if w.Code != 200 || ids(w.Body.String()) != "1 2" || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestTooManyStreams proves the bound of ORC-766, and that places come back.
func TestTooManyStreams(t *testing.T) {
	f := &fake{script: []step{started, end}}
	inside := make(chan struct{})
	release := make(chan struct{})
	h := handler(f, func(c *taskhttp.Config) { c.MaxStreams = 1 })
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&blockingWriter{ResponseWriter: w, inside: inside, release: release}, r)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(slow, "GET", eventsPath(""), "")
	}()
	<-inside
	for target, method := range map[string]string{eventsPath(""): "GET", "/v1/chat/completions": "POST"} {
		body := ""
		if method == "POST" {
			body = chatBody
		}
		if w := do(h, method, target, body); w.Code != 503 || code(w) != "TOO_MANY_STREAMS" {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if len(f.specs) > 0 {
		t.Error("a call without a place reached the engine")
	}
	close(release)
	<-done
	if w := do(h, "GET", eventsPath(""), ""); w.Code != 200 {
		t.Errorf("after the first one ended: %d %s", w.Code, w.Body)
	}
}

// blockingWriter holds the first write of a status.
type blockingWriter struct {
	http.ResponseWriter
	inside, release chan struct{}
}

func (w *blockingWriter) WriteHeader(status int) {
	close(w.inside)
	<-w.release
	w.ResponseWriter.WriteHeader(status)
}

func FuzzLastEventID(f *testing.F) {
	for _, s := range []string{"0", "1", "007", "-1", "18446744073709551615", "18446744073709551616", "1 ", "１", "", "+1", "1e3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := taskhttp.ParseEventID(s)
		want, err := strconv.ParseUint(s, 10, 64)
		canonical := err == nil && strconv.FormatUint(want, 10) == s
		if ok != canonical || ok && id != want {
			t.Fatalf("ParseEventID(%q) = %d, %v; want %d, %v", s, id, ok, want, canonical)
		}
	})
}
