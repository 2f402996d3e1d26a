package narration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/narration/narrationtest"
)

var uuid4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// NAR-18: one well-formed id is kept; everything else becomes a fresh UUID, the
// same one in request, context and response, whatever the handler does.
func TestCorrelation(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	for _, status := range []int{200, 401, 404, 500} {
		for _, given := range [][]string{nil, {""}, {"abc-123"}, {strings.Repeat("a", 64)}, {strings.Repeat("a", 65)}, {"a b"}, {"a_b"}, {"ä"}, {"a", "b"}, {"a\x1b"}, {"x\r\ny"}} {
			var inside, inContext string
			h := narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				inside, inContext = r.Header.Get("X-Correlation-Id"), string(narration.IDsFrom(r.Context()).Correlation)
				w.Header().Add("X-Correlation-Id", "of-an-upstream") // as a careless proxy copies it
				w.WriteHeader(status)
			}))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header["X-Correlation-Id"] = given
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := w.Header().Values("X-Correlation-Id")
			keep := len(given) == 1 && regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`).MatchString(given[0])
			if len(got) != 1 || got[0] != inside || inside != inContext || keep != (len(given) == 1 && got[0] == given[0]) || !keep && !uuid4.MatchString(got[0]) {
				t.Errorf("%q gave %q, inside %q, context %q", given, got, inside, inContext) // TestHostileCorrelationReplaced
			}
			if all := rec.All(); all[len(all)-1].Fields["correlation_id"] != got[0] {
				t.Error(all[len(all)-1].Raw)
			}
			if len(r.Header["X-Correlation-Id"]) != len(given) {
				t.Error("the server's own header was changed")
			}
		}
	}
}

func event(t *testing.T, c narration.HTTPConfig, r *http.Request, h http.HandlerFunc) (rec narrationtest.Record, w *httptest.ResponseRecorder, panicked any) {
	t.Helper()
	n, all := narrationtest.Capture(t)
	w = httptest.NewRecorder()
	func() {
		defer func() { panicked = recover() }()
		narration.Middleware(n, c)(h).ServeHTTP(w, r)
	}()
	return all.One(t, "http_request"), w, panicked
}

// NAR-20: one event, with level and outcome from the status; path, query and
// headers stay out of it.
func TestEvent(t *testing.T) {
	for status, want := range map[int]string{
		200: "INFO ok", 204: "INFO ok", 302: "INFO ok", 400: "INFO error", 401: "INFO error", 404: "INFO error", 408: "WARN timeout", 429: "WARN error",
		500: "ERROR error", 503: "ERROR error", 504: "ERROR timeout",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/private/42?token=canary", strings.NewReader("canary"))
		r.Header.Set("Authorization", "Bearer canary-canary-canary")
		rec, _, _ := event(t, narration.HTTPConfig{Actor: "api"}, r, func(w http.ResponseWriter, r *http.Request) {
			r.Pattern = "POST /private/{id}" // as ServeMux does
			w.WriteHeader(status)
			w.WriteHeader(299) // the first one wins
			if status != 204 {
				_, _ = io.WriteString(w, "12345")
			}
		})
		if got := fmt.Sprint(rec.Fields["level"], " ", rec.Outcome()); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
		for key, want := range map[string]any{
			"actor": "api", "target": "POST /private/{id}", "http_method": "POST", "http_route": "POST /private/{id}", "http_status": float64(status), "emitted_by": "test@v0",
		} {
			if rec.Fields[key] != want {
				t.Errorf("%s = %v, want %v", key, rec.Fields[key], want)
			}
		}
		if b := rec.Fields["http_bytes"]; status != 204 && b != 5.0 || strings.Contains(rec.Raw, "canary") || strings.Contains(rec.Raw, "/42") || strings.Contains(rec.Raw, "client_ip") {
			t.Error(rec.Raw)
		}
		if d, ok := rec.Fields["duration_ms"].(float64); !ok || d < 0 || !strings.HasPrefix(rec.Human, "api http_request POST /private/{id}: ") {
			t.Error(rec.Raw)
		}
	}
}

// NAR-20: a client that hung up is no error.
func TestEventCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	rec, _, _ := event(t, narration.HTTPConfig{}, r, func(http.ResponseWriter, *http.Request) { cancel() })
	if rec.Outcome() != "canceled" || rec.Level != slog.LevelInfo {
		t.Error(rec.Raw)
	}
}

// The event comes after the work, once, and can be left out; ids cannot.
func TestEventAfterBodyNotBefore(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	for i, c := range []narration.HTTPConfig{{}, {Skip: func(r *http.Request) bool { return true }}, {NoEvent: true}} {
		w := httptest.NewRecorder()
		narration.Middleware(n, c)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			n.Logger().InfoContext(r.Context(), "inside")
			if narration.From(r.Context()) != n {
				t.Error("the narrator is not in the context")
			}
		})).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		all := rec.All()
		if want := []int{2, 3, 4}[i]; len(all) != want || w.Header().Get("X-Correlation-Id") == "" || w.Code != 200 {
			t.Errorf("case %d: %d records", i, len(all))
		}
	}
	all := rec.All()
	if all[0].Human != "inside" || all[1].Fields["action"] != "http_request" || all[1].Fields["target"] != "GET unmatched" || all[0].Fields["trace_id"] != all[1].Fields["trace_id"] {
		t.Error(all[0].Raw, all[1].Raw)
	}
}

// A pattern that a middleware's copy of the request hides is noted from inside.
func TestNoteRoute(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), "BREW", "/x", nil)
	r.RemoteAddr = "192.0.2.1:999"
	rec, _, _ := event(t, narration.HTTPConfig{ClientIP: true}, r, func(w http.ResponseWriter, r *http.Request) {
		mux := http.NewServeMux()
		mux.HandleFunc("/{name}", func(_ http.ResponseWriter, r *http.Request) { narration.NoteRoute(r) })
		mux.ServeHTTP(w, r.Clone(r.Context()))
	})
	if rec.Fields["target"] != "OTHER /{name}" || rec.Fields["client_ip"] != "192.0.2.1" {
		t.Error(rec.Raw)
	}
	narration.NoteRoute(r) // outside of the middleware it does nothing
}

// NAR-20: panics are told and go on with the same value; an aborted one is no error.
func TestPanics(t *testing.T) {
	boom := errors.New("token=swordfish")
	for _, c := range []struct {
		with any
		want string
	}{{boom, "ERROR panic"}, {http.ErrAbortHandler, "INFO aborted"}, {"text", "ERROR panic"}} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		rec, w, got := event(t, narration.HTTPConfig{}, r, func(http.ResponseWriter, *http.Request) { panic(c.with) })
		if got != c.with || fmt.Sprint(rec.Fields["level"], " ", rec.Outcome()) != c.want || w.Header().Get("X-Correlation-Id") == "" || strings.Contains(rec.Raw, "swordfish") {
			t.Errorf("%v: %s", got, rec.Raw)
		}
		if stack, _ := rec.Fields["stack"].(string); (c.want == "ERROR panic") != strings.Contains(stack, "http_test.go") {
			t.Errorf("stack %q", stack)
		}
	}
	n, all := narrationtest.Capture(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runtime.Goexit() })).
			ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	}()
	<-done
	if rec := all.One(t, "http_request"); rec.Outcome() != "aborted" {
		t.Error(rec.Raw)
	}
}

// NAR-19: a valid traceparent is followed, anything else begins a new trace.
func TestTraceParentOfRequest(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, c := range []struct {
		parent, state []string
		follow        bool
		want          string
	}{
		{[]string{good}, []string{"a=1,b=2", "c=3"}, true, "a=1,b=2,c=3"},
		{[]string{good}, nil, true, ""},
		{[]string{good}, []string{"a=1,a=2"}, true, ""},
		{[]string{good, good}, []string{"a=1"}, false, ""},                                                 // TestTwoTraceparentHeaders
		{[]string{"00-" + strings.Repeat("1", 32) + "-" + strings.Repeat("2", 16) + "-00"}, nil, true, ""}, // TestDigitsOnlyTraceparent
		{[]string{strings.ToUpper(good)}, []string{"a=1"}, false, ""},
		{nil, []string{"a=1"}, false, ""},
	} {
		n, _ := narrationtest.Capture(t)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header["Traceparent"], r.Header["Tracestate"] = c.parent, c.state
		var got narration.IDs
		narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = narration.IDsFrom(r.Context()) })).ServeHTTP(httptest.NewRecorder(), r)
		followed := len(c.parent) > 0 && got.Trace.String()[3:35] == c.parent[0][3:35]
		if followed != c.follow || got.State != c.want || (got.Parent != [8]byte{}) != c.follow || got.Trace.IsZero() {
			t.Errorf("%q %q: %+v", c.parent, c.state, got)
		}
		if c.follow && got.Trace.String()[36:52] == c.parent[0][36:52] {
			t.Error("the caller's span id is used as ours")
		}
	}
}

func TestParseTraceParent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for s, ok := range map[string]bool{
		good: true, good[:53] + "00": true, "cc" + good[2:]: true, "cc" + good[2:] + "-what": true, good[:53] + "ff": true,
		"": false, good[:54]: false, good + "-": false, good + "x": false, "cc" + good[2:] + "x": false, "ff" + good[2:]: false, "0x" + good[2:]: false,
		"00-" + strings.Repeat("0", 32) + good[35:]: false, good[:36] + strings.Repeat("0", 16) + good[52:]: false, strings.ToUpper(good): false,
		strings.ReplaceAll(good, "-", "_"): false, good[:53] + "0g": false,
	} {
		p, err := narration.ParseTraceParent(s)
		if (err == nil) != ok || ok != !p.IsZero() || err != nil && len(s) > 5 && strings.Contains(err.Error(), s) {
			t.Errorf("%q: %v", s, err)
		}
	}
	p, _ := narration.ParseTraceParent(good)
	child := p.Child()
	if p.String() != good || child.TraceID != p.TraceID || child.SpanID == p.SpanID || child.Flags != 1 {
		t.Errorf("%v, %v", p, child)
	}
	fresh := narration.NewTraceParent(true)
	if fresh.Flags != 3 || fresh.TraceID == p.TraceID {
		t.Errorf("%v", fresh)
	}
}

// SSE: each event leaves at once, and the connection's deadlines stay reachable.
func TestSSEFlushesThroughMiddleware(t *testing.T) {
	n, _ := narrationtest.Capture(t)
	seen := make(chan struct{})
	srv := httptest.NewServer(narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil { // TestWriteDeadlineReachable
			t.Error(err)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
			<-seen
		}
		w.(http.Flusher).Flush()
	})))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := in.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		_, _ = in.ReadString('\n')
		seen <- struct{}{}
	}
	if resp.Header.Get("X-Correlation-Id") == "" {
		t.Error("a stream without id")
	}
}

// NAR-20: hijacking, sendfile and HTTP/2 work; bytes are counted.
func TestResponseWriter(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	told := make(chan struct{}, 3)
	inner := narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
			conn.Close()
			return
		}
		w.WriteHeader(http.StatusEarlyHints) // informational: 200 follows
		if _, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 100_000))); err != nil {
			t.Error(err)
		}
	}))
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		told <- struct{}{}
	})
	for _, http2 := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(h)
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		resp, err := srv.Client().Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if len(body) != 100_000 || err != nil || (resp.ProtoMajor == 2) != http2 {
			t.Errorf("%s: %d bytes, %v", resp.Proto, len(body), err)
		}
		srv.Close()
	}
	srv := httptest.NewServer(h)
	resp, err := srv.Client().Get(srv.URL + "/hijack")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	srv.Close()
	for range 3 {
		<-told
	}
	all := rec.All()
	if len(all) != 3 || all[0].Fields["http_bytes"] != 1e5 || all[0].Fields["http_status"] != 200.0 || all[1].Fields["http_bytes"] != 1e5 || all[2].Fields["http_status"] != 101.0 {
		t.Errorf("%d events", len(all))
	}
}

// A server that can neither hijack nor take a copy still gets the bytes.
func TestPlainResponseWriter(t *testing.T) {
	n, _ := narrationtest.Capture(t)
	w := struct{ http.ResponseWriter }{httptest.NewRecorder()}
	narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Error(err)
		}
		if n, err := io.Copy(w, strings.NewReader("abc")); n != 3 || err != nil {
			t.Error(n, err)
		}
	})).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
}
