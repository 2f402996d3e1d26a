package taskhttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
)

// result is what an engine answers to a call that does not stream.
var result = step{typ: orchestrator.EventResult, data: `{ "id":"cmpl-1",  "choices":[] }`}

// TestBodyGoesOnAsItCame proves OAI-1 on this side, and OAI-4: bytes, headers
// and what was read from them reach the engine.
func TestBodyGoesOnAsItCame(t *testing.T) {
	f := &fake{script: []step{queued, started, result, end}}
	raw := `{ "model":"llama3:8b", "stream" : false,"prompt":"hi", "max_tokens":7, "x":1.50, "tools":[{"a":[ ]}] }`
	w := do(handler(f), "POST", "/v1/completions", raw, "X-Priority: batch", "X-Session-Id: s-1", "Idempotency-Key: k")
	want := orchestrator.Spec{
		Kind: worker.Completion, Model: "llama3:8b", Raw: []byte(raw), MaxTokens: 7, Choices: 1, PromptBytes: 2, Class: queue.Batch,
		Session: "s-1", Ephemeral: true, Correlation: "c-1",
	}
	if got := f.spec(t); !reflect.DeepEqual(got, want) {
		t.Errorf("spec = %+v\nwant   %+v", got, want)
	}
	h := w.Header()
	if w.Code != 200 || w.Body.String() != result.data || h.Get("Content-Type") != "application/json" {
		t.Errorf("answer = %d %v %s", w.Code, h, w.Body)
	}
	if h.Get("X-Task-Id") != theID.String() || h.Get("X-Queue-Ms") != "42" || h.Get("X-Request-Id") != "c-1" {
		t.Errorf("headers = %v", h)
	}
	f = &fake{script: []step{started, end}}
	do(handler(f), "POST", "/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}`)
	if s := f.spec(t); !s.Stream || !s.WantUsage || s.Kind != worker.Chat {
		t.Errorf("spec = %+v", s)
	}
}

// TestSingleResponses proves ORC-448 and ORC-763 on this side: embeddings and
// rerankings are one answer, and the headers of /v1 narrow and tell regions.
func TestSingleResponses(t *testing.T) {
	for path, kind := range map[string]worker.Kind{"/v1/embeddings": "embedding", "/v1/rerank": "rerank"} {
		f := playing()
		raw := `{"model":"m", "input":["a","b"],"query":"q","documents":["x"],"encoding_format":"base64"}`
		w := do(handler(f), "POST", path, raw, "X-Allowed-Regions: EU, us", "X-Session-Id: s-1", "X-Tenant-Id: default")
		s := f.spec(t)
		if s.Kind != kind || string(s.Raw) != raw || s.Stream || !s.Ephemeral || s.Tenant != "default" ||
			!reflect.DeepEqual(s.Regions, []poolregistry.Region{{Group: "EU"}, {Country: "US", Group: "US"}}) {
			t.Errorf("%s: spec = %+v", path, s)
		}
		h := w.Header()
		if w.Code != 200 || w.Body.String() != `{"id":"x"}` || h.Get("X-Node-Region") != "DE" || h.Get("X-Queue-Ms") != "42" ||
			h.Get("X-Budget-Tokens-Remaining") != "90" || h.Get("X-Task-Id") != theID.String() {
			t.Errorf("%s: %d %v %s", path, w.Code, h, w.Body)
		}
		w = do(handler(playing()), "POST", path, `{"model":"m","stream":true}`)
		if w.Code != 400 || !strings.Contains(w.Body.String(), `"param":"stream"`) {
			t.Errorf("%s as a stream: %d %s", path, w.Code, w.Body)
		}
	}
	w := do(handler(playing()), "POST", "/v1/chat/completions", chatBody)
	if got := w.Header().Get("X-Budget-Tokens-Remaining"); got != "" {
		t.Errorf("budget %q without a session", got)
	}
}

// TestRefusedCalls: what is ours in a /v1 request is checked, the rest is the
// engine's business.
func TestRefusedCalls(t *testing.T) {
	for _, tt := range []struct{ body, head, param string }{
		{`{"prompt":"x"}`, "", "model"},
		{`{"model":7}`, "", "model"},
		{`{"model":"` + strings.Repeat("m", 513) + `"}`, "", "model"},
		{`{"model":"m","model":"m"}`, "", "model"},
		{`{"model":"m","stream":"yes"}`, "", "stream"},
		{`[]`, "", "body"},
		{`{"model":"m"}x`, "", "body"},
		{chatBody, "X-Priority: urgent", "X-Priority"},
		{chatBody, "X-Session-Id: a/b", "X-Session-Id"},
		{chatBody, "X-Allowed-Regions: EU,Atlantis", "X-Allowed-Regions"},
		{chatBody, "X-Allowed-Regions: ", "X-Allowed-Regions"},
		{chatBody, "X-Allowed-Regions: unknown", "X-Allowed-Regions"},
	} {
		f := &fake{}
		w := do(handler(f), "POST", "/v1/chat/completions", tt.body, tt.head)
		if w.Code != 400 || !strings.Contains(w.Body.String(), `"type":"invalid_request_error","code":"INVALID_PARAMS","param":"`+tt.param+`"`) || len(f.specs) > 0 {
			t.Errorf("%s with %q: %d %s", tt.body, tt.head, w.Code, w.Body)
		}
	}
}

// TestFailedCalls: a call that does not stream answers with the status of
// whatever ended its task, also after a result was seen.
func TestFailedCalls(t *testing.T) {
	for name, tt := range map[string]struct {
		f    *fake
		want string
	}{
		"queue timeout":    {&fake{script: []step{queued, failed(taskapi.QueueTimeout)}}, "QUEUE_TIMEOUT"},
		"cancelled late":   {&fake{script: []step{started, result, failed(taskapi.Cancelled)}}, "CANCELLED"},
		"no result":        {&fake{script: []step{started, end}}, "INTERNAL"},
		"no terminal":      {&fake{script: []step{started, result}}, "INTERNAL"},
		"store away":       {&fake{readErr: taskapi.NewError(taskapi.StoreUnavailable)}, "STORE_UNAVAILABLE"},
		"broken promise":   {&fake{script: []step{{typ: orchestrator.EventError, data: "{"}}}, "INTERNAL"},
		"unknown in event": {&fake{script: []step{{typ: orchestrator.EventError, data: `{"code":"NEW_CODE","message":"x"}`}}}, "INTERNAL"},
		"bad queue time":   {&fake{script: []step{{typ: orchestrator.EventStarted, data: "{"}, failed(taskapi.Timeout)}}, "TIMEOUT"},
		"inner error":      {&fake{readErr: errors.New("secret")}, "INTERNAL"},
	} {
		w := do(handler(tt.f), "POST", "/v1/chat/completions", chatBody)
		if code(w) != tt.want || w.Code != taskapi.Code(tt.want).Status() || w.Header().Get("X-Task-Id") == "" {
			t.Errorf("%s: %d %s, want %s", name, w.Code, w.Body, tt.want)
		}
	}
}

// TestCallEndsWithItsDeadline: a deadline that passes while the call waits is
// 504 with how late it is; a client that left gets nobody's result.
func TestCallEndsWithItsDeadline(t *testing.T) {
	f := &fake{script: []step{queued}, hang: true}
	for _, body := range []string{chatBody, `{"stream":true,` + chatBody[1:]} {
		w := do(withDeadline(handler(f), deadline.After(20*time.Millisecond)), "POST", "/v1/chat/completions", body)
		if w.Code != 504 || code(w) != "DEADLINE_UNMET" || w.Header().Get("X-Deadline-Exceeded-By-Ms") == "" || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gone := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(f).ServeHTTP(w, r.WithContext(ctx)) })
	var w *httptest.ResponseRecorder
	if w = do(gone, "POST", "/v1/chat/completions", chatBody); w.Code != 499 || code(w) != "CANCELLED" {
		t.Errorf("client gone: %d %s", w.Code, w.Body)
	}
	for _, err := range f.left {
		if err == nil {
			t.Error("a reader left without its context having ended")
		}
	}
}

func TestModels(t *testing.T) {
	h := handler(&fake{})
	want := `{"object":"list","data":[{"id":"llama3:8b","object":"model","created":0,"owned_by":"llorch"},{"id":"owner/repo","object":"model","created":0,"owned_by":"llorch"}]}`
	if w := do(h, "GET", "/v1/models", ""); w.Code != 200 || w.Body.String() != want {
		t.Errorf("models = %d %s", w.Code, w.Body)
	}
	if w := do(h, "GET", "/v1/models/owner%2Frepo", ""); w.Body.String() != `{"id":"owner/repo","object":"model","created":0,"owned_by":"llorch"}` {
		t.Errorf("model = %d %s", w.Code, w.Body)
	}
}
