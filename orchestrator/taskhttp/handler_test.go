package taskhttp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

const (
	simpleBody = `{"model":"llama3:8b","prompt":"hi"}`
	chatBody   = `{"model":"llama3:8b","messages":[{"role":"user","content":"hi"}]}`
)

// TestEachRoute proves ORC-760: every route answers with the status of the
// table, also below a prefix, and nothing else is served.
func TestEachRoute(t *testing.T) {
	h := handler(playing(), asRoot)
	for _, rt := range taskhttp.Routes() {
		s := sampleOf(t, rt)
		for prefix, h := range map[string]http.Handler{"": h, "/llm": http.StripPrefix("/llm", h)} {
			if w := do(h, rt.Method, prefix+s.target, s.body); w.Code != s.want {
				t.Errorf("%s %s%s: %d %s", rt.Method, prefix, rt.Path, w.Code, w.Body)
			}
		}
	}
	for _, target := range []string{"/", "/v1/tasks", "/v1/replicasets", "/v2/tasks/", "/v2//tasks", "/v2/tasks/../tasks", "/v2/tasks/x/y", "/v1/models/owner/repo", "/v2/pools/n1/p1/health"} {
		if w := do(h, "GET", target, ""); w.Code != 404 || code(w) != "NOT_FOUND" || w.Header().Get("Location") != "" {
			t.Errorf("GET %s: %d %s", target, w.Code, w.Body)
		}
	}
}

// TestGroups proves ORC-760: a group that is left off is 404, and nothing else is.
func TestGroups(t *testing.T) {
	for _, without := range []taskhttp.Group{taskhttp.OpenAI, taskhttp.Privacy, taskhttp.Admin, taskhttp.Health, taskhttp.OpenAI | taskhttp.Admin} {
		h := handler(playing(), asRoot, func(c *taskhttp.Config) { c.Without = without })
		for _, rt := range taskhttp.Routes() {
			s := sampleOf(t, rt)
			want := s.want
			if rt.Group&without != 0 {
				if want = 404; rt.Method != "GET" && strings.HasPrefix(rt.Path, "/v2/catalog/models") && strings.Count(rt.Path, "/") < 5 {
					want = 405 // the path has routes outside of the group
				}
			}
			if w := do(h, rt.Method, s.target, s.body); w.Code != want {
				t.Errorf("without %d, %s %s: %d, want %d", without, rt.Method, rt.Path, w.Code, want)
			}
		}
	}
}

// TestWrongMethod proves that 405 carries Allow and the canonical body (ORC-766).
func TestWrongMethod(t *testing.T) {
	h := handler(&fake{})
	for target, want := range map[string]string{
		"/v2/tasks/x": "GET, HEAD, DELETE", "/v2/tasks/preview": "POST", "/v2/pools/p/drain": "POST", "/health": "GET, HEAD",
		"/v2/tasks": "POST, GET, HEAD", "/v1/chat/completions": "POST", "/v1/models": "GET, HEAD", "/v2/tasks/x/cancel": "POST",
	} {
		for _, method := range []string{"PUT", "OPTIONS", "BREW"} {
			w := do(h, method, target, "")
			if got := w.Header().Get("Allow"); w.Code != 405 || got != want || code(w) != "METHOD_NOT_ALLOWED" {
				t.Errorf("%s %s: %d, Allow %q, want %q; %s", method, target, w.Code, got, want, w.Body)
			}
		}
	}
	if w := do(h, "HEAD", "/v2/tasks", ""); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
	w := do(handler(&fake{hang: true}), "HEAD", "/v2/tasks/"+theID.String()+"/events", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream" || w.Body.Len() > 0 {
		t.Errorf("HEAD of a stream: %d %v", w.Code, w.Header())
	}
}

// TestCorrelation proves ORC-763 and OAI-2: every answer carries the id of the
// outer middleware, else the request's, else a new one.
func TestCorrelation(t *testing.T) {
	h := handler(&fake{})
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, target := range []string{"/v2/tasks", "/v1/models", "/v1/nothing", "/v2/tasks/x"} {
		for given, kept := range map[string]bool{"Abc-123": true, "": false, "a b": false, strings.Repeat("a", 65): false, "é": false} {
			w := do(h, "GET", target, "", "X-Correlation-Id: "+given)
			got := w.Header().Get("X-Correlation-Id")
			if kept != (got == given) || !kept && !uuid.MatchString(got) {
				t.Errorf("GET %s with %q: %q", target, given, got)
			}
			if v1 := strings.HasPrefix(target, "/v1/"); v1 != (w.Header().Get("x-request-id") == got) {
				t.Errorf("GET %s: x-request-id %q", target, w.Header().Get("x-request-id"))
			}
		}
	}
	outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Correlation-Id", "outer")
		h.ServeHTTP(w, r)
	})
	if w := do(outer, "GET", "/v2/tasks/x", ""); w.Header().Get("X-Correlation-Id") != "outer" || !strings.Contains(w.Body.String(), `"correlation_id":"outer"`) {
		t.Errorf("outer middleware's id was not used: %v %s", w.Header(), w.Body)
	}
}

// TestErrorTable proves ORC-766 and ORC-800: each code comes out with its
// status, hints and both body shapes.
func TestErrorTable(t *testing.T) {
	for _, c := range taskapi.Codes() {
		e := taskapi.NewError(c).With("n", 1)
		h := handler(&fake{refusal: fmt.Errorf("submit task: %w", e)})
		v2, v1 := do(h, "POST", "/v2/tasks", simpleBody), do(h, "POST", "/v1/chat/completions", chatBody)
		if v2.Code != c.Status() || v1.Code != c.Status() {
			t.Errorf("%s: status %d and %d, want %d", c, v2.Code, v1.Code, c.Status())
		}
		want := *e
		if c == taskapi.Internal {
			want.Details = nil // what is INTERNAL tells nothing
		}
		for w, body := range map[*httptest.ResponseRecorder]any{v2: want.Body("c-1"), v1: want.OpenAI()} {
			if raw, _ := json.Marshal(body); w.Body.String() != string(raw) {
				t.Errorf("%s: body %s\nwant %s", c, w.Body, raw)
			}
			h := w.Header()
			if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: header %v", c, h)
			}
			if hint := e.RetryAfter > 0 || c.Status() == 504; hint != (h.Get("Retry-After") != "") {
				t.Errorf("%s: Retry-After %q", c, h.Get("Retry-After"))
			} else if n, err := strconv.Atoi(h.Get("Retry-After")); hint && (n < 1 || err != nil) {
				t.Errorf("%s: Retry-After %q, want 1 or more", c, h.Get("Retry-After"))
			}
			if (c.Status() == 401) != (h.Get("WWW-Authenticate") != "") {
				t.Errorf("%s: WWW-Authenticate %q", c, h.Get("WWW-Authenticate"))
			}
		}
		if ms := fmt.Sprint(e.RetryAfter.Milliseconds()); e.RetryAfter > 0 && (v2.Header().Get("X-Backoff-Ms") != ms || v1.Header().Get("retry-after-ms") != ms) {
			t.Errorf("%s: hints %v, %v", c, v2.Header(), v1.Header())
		}
	}
}

// TestUnknownErrorsStayInside: what is no *taskapi.Error is INTERNAL, and its
// text does not leave; the log has it, once, under the correlation id. Refusals
// that a client can read are not logged here (ORC-800).
func TestUnknownErrorsStayInside(t *testing.T) {
	var log strings.Builder
	logged := func(c *taskhttp.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }
	do(handler(&fake{refusal: taskapi.NewError(taskapi.QueueFull)}, logged), "POST", "/v2/tasks", simpleBody)
	do(handler(&fake{refusal: errors.New("a cause")}, logged), "POST", "/v2/tasks", simpleBody)
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "event=request_failed correlation_id=c-1") || !strings.Contains(s, "a cause") {
		t.Errorf("log = %s", s)
	}
	for _, err := range []error{errors.New("secret"), &taskapi.Error{Code: "MADE_UP", Message: "secret"}, taskapi.Internal} {
		w := do(handler(&fake{refusal: err}), "POST", "/v2/tasks", simpleBody)
		if w.Code != 500 || code(w) != "INTERNAL" || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
	unmarshalable := taskapi.NewError(taskapi.QueueFull).With("f", func() {})
	if w := do(handler(&fake{refusal: unmarshalable}), "POST", "/v2/tasks", simpleBody); w.Code != 429 || code(w) != "QUEUE_FULL" {
		t.Errorf("details without a JSON form: %d %s", w.Code, w.Body)
	}
	rounded := taskapi.NewError(taskapi.QueueFull)
	rounded.RetryAfter = 1001e6
	if w := do(handler(&fake{refusal: rounded}), "POST", "/v2/tasks", simpleBody); w.Header().Get("Retry-After") != "2" {
		t.Errorf("Retry-After %q, want it rounded up", w.Header().Get("Retry-After"))
	}
}

// TestBodies proves the media type and the bound, with and without a declared length.
func TestBodies(t *testing.T) {
	h := handler(&fake{}, func(c *taskhttp.Config) { c.MaxBody = 64 })
	long := `{"model":"m","prompt":"` + strings.Repeat("x", 64) + `"}`
	for _, target := range []string{"/v2/tasks", "/v1/chat/completions", "/v1/completions"} {
		w := do(h, "POST", target, long)
		if w.Code != 413 || code(w) != "BODY_TOO_LARGE" {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
		r := httptest.NewRequest("POST", target, struct{ *strings.Reader }{strings.NewReader(long)})
		r.ContentLength = -1
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		chunked := httptest.NewRecorder()
		h.ServeHTTP(chunked, r)
		if chunked.Code != 413 {
			t.Errorf("%s without a length: %d %s", target, chunked.Code, chunked.Body)
		}
		for _, head := range []string{"Content-Type: text/plain", "Content-Type: ", "Content-Type: application/json, x", "Content-Encoding: gzip"} {
			if w := do(h, "POST", target, `{}`, head); w.Code != 415 || code(w) != "UNSUPPORTED_MEDIA" {
				t.Errorf("%s with %s: %d %s", target, head, w.Code, w.Body)
			}
		}
	}
	declared := httptest.NewRequest("POST", "/v2/tasks", iotest.ErrReader(errors.New("was read")))
	declared.ContentLength = 65
	declared.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, declared); w.Code != 413 {
		t.Errorf("a declared length did not suffice: %d %s", w.Code, w.Body)
	}
	if w := do(h, "POST", "/v2/tasks", long); !strings.Contains(w.Body.String(), `"details":{"limit":64}`) {
		t.Errorf("413 does not name the limit: %s", w.Body)
	}
}

// TestNeverEchoes puts a canary into every place of a request.
func TestNeverEchoes(t *testing.T) {
	h := handler(&fake{refusal: errors.New("x")})
	for _, target := range []string{
		"/CANARY", "/v2/tasks/CANARY", "/v2/tasks/CANARY/events", "/v2/tasks?status=CANARY", "/v2/tasks?limit=CANARY", "/v2/tasks?%CANARY",
		"/v2/tasks/" + theID.String() + "/events?after=CANARY", "/v1/models/CANARY", "/v2//CANARY",
	} {
		for _, method := range []string{"GET", "POST", "CANARY"} {
			noCanary(t, target, do(h, method, target, `{"CANARY":1}`))
		}
	}
	for _, body := range []string{"CANARY", `{"CANARY":1}`, `{"model":"CANARY CANARY","prompt":"CANARY"}`, `{"model":"m","prompt":1,"stream":"CANARY"}`} {
		for _, target := range []string{"/v2/tasks", "/v1/completions", "/v1/chat/completions"} {
			for _, head := range []string{
				"Content-Type: CANARY", "X-Priority: CANARY", "X-Session-Id: CANARY!", "X-Allowed-Regions: CANARY",
				"Idempotency-Key: CANARY" + strings.Repeat("x", 200), "X-Tenant-Id: CANARY", "X-Correlation-Id: CANARY!", "Traceparent: CANARY",
			} {
				noCanary(t, target+" "+head, do(h, "POST", target, body, head))
			}
		}
	}
}

func noCanary(t *testing.T, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	var all strings.Builder
	_ = w.Header().Write(&all)
	if strings.Contains(all.String()+w.Body.String(), "CANARY") {
		t.Errorf("%s: the answer repeats the input: %s%s", what, all.String(), w.Body)
	}
}

func TestNewNeedsAnEngine(t *testing.T) {
	defer func() {
		if s, _ := recover().(string); !strings.HasPrefix(s, "taskhttp: ") {
			t.Errorf("New without an engine: %q", s)
		}
	}()
	taskhttp.New(taskhttp.Config{})
}

// TestRoutesAreData: a program may mount each route by itself.
func TestRoutesAreData(t *testing.T) {
	mux := http.NewServeMux()
	h := handler(&fake{})
	for _, rt := range taskhttp.Routes() {
		if (rt.Role == 0) != (rt.Group == taskhttp.Health) || !slices.Contains([]string{"GET", "POST", "DELETE"}, rt.Method) {
			t.Errorf("route %+v", rt)
		}
		mux.Handle(rt.Method+" "+rt.Path, h)
	}
	if w := do(mux, "GET", "/v2/tasks/"+theID.String(), ""); w.Code != 200 {
		t.Errorf("through an outer mux: %d %s", w.Code, w.Body)
	}
}
