package taskhttp_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
)

// TestSubmit proves ORC-762: what was asked reaches the engine, and 202 tells
// where the task is.
func TestSubmit(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f := &fake{fakeRest: fakeRest{steps: []string{"model_load"}}}
	body := `{"model":"llama3:8b","prompt":"hi","task_id":"` + theID.String() + `","session_id":"s-1","priority":"batch","max_tokens":9,
		"temperature":0,"top_k":3,"seed":7,"stop":["a"],"on_disconnect":"continue","placement":{"mode":"pin","pool":"p1","avoid":["p2"]}}`
	w := do(handler(f), "POST", "/v2/tasks", body, "Idempotency-Key: k 1", "Traceparent: "+trace)
	want := orchestrator.Spec{
		ID: theID, Key: "k 1", Kind: worker.Completion, Model: "llama3:8b", Prompt: "hi", Session: "s-1", Class: queue.Batch,
		MaxTokens: 9, Keep: true, Place: placement.Constraints{Mode: "pin", Pool: "p1", Avoid: []string{"p2"}},
		Params:      worker.Params{Temperature: new(0.0), TopK: new(3), Seed: new(int64(7)), Stop: []string{"a"}},
		Correlation: "c-1", Traceparent: trace,
	}
	if got := f.spec(t); !reflect.DeepEqual(got, want) {
		t.Errorf("spec = %+v\nwant   %+v", got, want)
	}
	const url = "/v2/tasks/0190b1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b"
	const answer = `{"task_id":"0190b1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b","job_id":"0190b1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b","status":"queued",` +
		`"queue_position":2,"predicted_start_ms":1500,"predicted_band_ms":200,"backoff_ms":250,"decision_id":"d-1","duplicate":false,` +
		`"streams":{"sse":"` + url + `/events","sse_verbose":"` + url + `/events?verbose=true"},"events_url":"` + url + `/events","preparation":{"steps":["model_load"]}}`
	if w.Code != 202 || w.Body.String() != answer || w.Header().Get("Location") != url || w.Header().Get("X-Budget-Tokens-Remaining") != "90" {
		t.Errorf("answer = %d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestSubmitMembers proves ORC-761: every member of both shapes reaches the engine.
func TestSubmitMembers(t *testing.T) {
	f := &fake{}
	body := `{"task_id":"` + theID.String() + `","session_id":"s","workload":"rerank","model_ref":"m","engine":"vllm","ctx":4096,"priority":"interactive",
		"max_tokens":8,"deadline_ms":60000,"seed":3,"determinism":"strict","sampler_profile_version":"v1","prompt":"query","inputs":["a","b"],"expected_tokens":4,
		"kv_hint":"reuse","output_mode":"json","purposes":["research"],"budget":{"tokens":500,"time_ms":1,"cost":0.5},"regions":["EU","us","EU-DE"],
		"placement":{"mode":"prefer","prefer":["p1","p2"],"allow_fallback":false,"avoid":["p3"],"engine_version":"0.11","features":["tools"],"quant":"q4",
		"min_compute":80,"device_mask":["0"],"min_vram_bytes":1024,"spread":2}}`
	w := do(handler(f), "POST", "/v2/tasks", body)
	if w.Code != 202 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	got := f.spec(t)
	if got.Deadline.IsZero() {
		t.Error("no deadline")
	}
	got.Deadline = time.Time{}
	want := orchestrator.Spec{
		ID: theID, Kind: "rerank", Model: "m", Engine: "vllm", Prompt: "query", Inputs: []string{"a", "b"}, Session: "s", Budget: 500,
		Regions:  []poolregistry.Region{{Group: "EU"}, {Country: "US", Group: "US"}, {Country: "DE", Group: "EU"}},
		Purposes: []string{"research"}, MaxTokens: 8, Expected: 4, Ctx: 4096, Params: worker.Params{Seed: new(int64(3))},
		Place: placement.Constraints{
			Mode: "prefer", Prefer: []string{"p1", "p2"}, NoFallback: true, Avoid: []string{"p3"}, Version: "0.11", Features: []string{"tools"},
			Quant: "q4", MinCompute: 80, Mask: []string{"0"}, MinVRAM: 1024, Spread: 2,
		},
		Correlation: "c-1",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("spec = %+v\nwant   %+v", got, want)
	}
	for _, region := range []string{"Atlantis", "EU-US", "unknown"} {
		w := do(handler(&fake{}), "POST", "/v2/tasks", `{"model":"m","prompt":"x","regions":["`+region+`"]}`)
		if w.Code != 400 || !strings.Contains(w.Body.String(), `"field":"regions"`) {
			t.Errorf("region %s: %d %s", region, w.Code, w.Body)
		}
	}
}

// TestChatSubmit: messages make a chat; a preferred pool is no pin.
func TestChatSubmit(t *testing.T) {
	f := &fake{}
	w := do(handler(f), "POST", "/v2/tasks", `{"model":"m","messages":[{"role":"user","content":"hi"}],"placement":{"mode":"prefer","pool":"p1"}}`, "Traceparent: 00-zz")
	s := f.spec(t)
	if w.Code != 202 || s.Kind != worker.Chat || string(s.Messages) != `[{"role":"user","content":"hi"}]` || s.Place.Pool != "" || !slices.Equal(s.Place.Prefer, []string{"p1"}) || s.Traceparent != "" {
		t.Errorf("%d %+v", w.Code, s)
	}
}

func TestIdempotencyKey(t *testing.T) {
	for key, want := range map[string]int{"": 202, strings.Repeat("k", 128): 202, strings.Repeat("k", 129): 400, "é": 400, "a\tb": 400} {
		f := &fake{}
		if w := do(handler(f), "POST", "/v2/tasks", simpleBody, "Idempotency-Key: "+key); w.Code != want || (want == 400) != (len(f.specs) == 0) {
			t.Errorf("key of %d bytes: %d %s", len(key), w.Code, w.Body)
		}
	}
}

// withDeadline runs a request as behind the deadline middleware.
func withDeadline(h http.Handler, d deadline.Deadline) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := deadline.With(r.Context(), d)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// TestDeadlines proves ORC-251: the earliest statement binds the task; one that
// is past is 504, one that can not be is 400.
func TestDeadlines(t *testing.T) {
	soon := deadline.After(time.Minute)
	for _, tt := range []struct {
		name, ms string
		d        deadline.Deadline
		want     time.Time
	}{
		{"none", "", deadline.Deadline{}, time.Time{}},
		{"header", "", soon, soon.Time()},
		{"header before body", `,"deadline_ms":120000`, soon, soon.Time()},
		{"body before header", `,"deadline_ms":1000`, soon, time.Now().Add(time.Second)},
		{"body", `,"deadline_ms":1000`, deadline.Deadline{}, time.Now().Add(time.Second)},
	} {
		f := &fake{}
		w := do(withDeadline(handler(f), tt.d), "POST", "/v2/tasks", `{"model":"m","prompt":"x"`+tt.ms+`}`)
		got := f.spec(t).Deadline
		if off := got.Sub(tt.want); w.Code != 202 || off < 0 || off > 30*time.Second || tt.want.IsZero() != got.IsZero() {
			t.Errorf("%s: %d, deadline %v, want %v", tt.name, w.Code, got, tt.want)
		}
	}
	past := withDeadline(handler(&fake{}), deadline.At(time.Now().Add(-time.Minute)))
	for target, body := range map[string]string{"/v2/tasks": simpleBody, "/v1/chat/completions": chatBody} {
		w := do(past, "POST", target, body)
		if w.Code != 504 || code(w) != "DEADLINE_UNMET" || w.Header().Get("X-Deadline-Exceeded-By-Ms") < "60000" || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s past its deadline: %d %v %s", target, w.Code, w.Header(), w.Body)
		}
	}
	for _, ms := range []string{"0", "-5"} {
		w := do(handler(&fake{}), "POST", "/v2/tasks", `{"model":"m","prompt":"x","deadline_ms":`+ms+`}`)
		if w.Code != 400 || code(w) != "DEADLINE_UNMET" {
			t.Errorf("deadline_ms %s: %d %s", ms, w.Code, w.Body)
		}
	}
}

// TestEngineDeadlines: what the engine says of a deadline becomes headers, too.
func TestEngineDeadlines(t *testing.T) {
	for _, over := range []any{250, int64(250), 250.0} {
		e := taskapi.NewError(taskapi.DeadlineUnmet).With("exceeded_by_ms", over)
		if w := do(handler(&fake{refusal: e}), "POST", "/v2/tasks", simpleBody); w.Header().Get("X-Deadline-Exceeded-By-Ms") != "250" {
			t.Errorf("%T: %v", over, w.Header())
		}
	}
	for err, want := range map[error]string{
		context.DeadlineExceeded: "DEADLINE_UNMET", context.Canceled: "CANCELLED",
		&deadline.FormatError{Source: deadline.SourceBody, Reason: "x"}: "INVALID_PARAMS",
	} {
		if w := do(handler(&fake{refusal: err}), "POST", "/v2/tasks", simpleBody); code(w) != want {
			t.Errorf("%v: %d %s, want %s", err, w.Code, w.Body, want)
		}
	}
}

// TestBodyCutShort: a body that ends early is refused; one that is late is 504.
func TestBodyCutShort(t *testing.T) {
	for _, target := range []string{"/v2/tasks", "/v1/completions"} {
		send := func(h http.Handler) *httptest.ResponseRecorder {
			r := httptest.NewRequest("POST", target, iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(simpleBody))))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		if w := send(handler(&fake{})); w.Code != 400 || code(w) != "INVALID_PARAMS" {
			t.Errorf("%s cut: %d %s", target, w.Code, w.Body)
		}
		if w := send(withDeadline(handler(&fake{}), deadline.At(time.Now().Add(-time.Second)))); w.Code != 504 {
			t.Errorf("%s late: %d %s", target, w.Code, w.Body)
		}
	}
}

// TestAcceptedOutlivesItsRequest: the deadline of the task is a value; nothing
// that it was derived from ends with the request.
func TestAcceptedOutlivesItsRequest(t *testing.T) {
	f := &fake{}
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "POST", "/v2/tasks", strings.NewReader(`{"model":"m","prompt":"x","deadline_ms":60000}`))
	r.Header.Set("Content-Type", "application/json")
	handler(f).ServeHTTP(httptest.NewRecorder(), r)
	cancel()
	if left := time.Until(f.spec(t).Deadline); left < 30*time.Second {
		t.Errorf("%v left", left)
	}
}

func TestTaskView(t *testing.T) {
	w := do(handler(&fake{}), "GET", "/v2/tasks/"+strings.ToUpper(theID.String()), "")
	var got taskapi.Task
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.TaskID != theID.String() || got.JobID != got.TaskID || got.Status != "failed" || got.LastEventID != 7 || got.ReplicaID != "r0" ||
		got.CreatedAt.UnixMilli() != 1_700_000_000_000 || !got.StartedAt.IsZero() {
		t.Errorf("view = %s", w.Body)
	}
	if e := got.Error; e == nil || e.Code != taskapi.WorkerReset || !e.Retriable || e.Details["attempts"] != 1.0 || e.CorrelationID != "c-1" {
		t.Errorf("error = %s", w.Body)
	}
}

// TestForeignIsUnknown proves ORC-765 and TestUnknownIs404: what is not the
// caller's, what does not exist and what is no id are one answer.
func TestForeignIsUnknown(t *testing.T) {
	h := handler(&fake{})
	for _, rt := range taskhttp.Routes() {
		if !strings.HasPrefix(rt.Path, "/v2/tasks/{id}") {
			continue
		}
		var bodies []string
		for _, id := range []string{foreignID, "no-id", "0", strings.Repeat("x", 300)} {
			w := do(h, rt.Method, strings.ReplaceAll(rt.Path, "{id}", id), "")
			if w.Code != 404 {
				t.Errorf("%s %s: %d", rt.Method, rt.Path, w.Code)
			}
			bodies = append(bodies, w.Body.String())
		}
		for _, b := range bodies {
			if b != bodies[0] {
				t.Errorf("%s tells ids apart: %s", rt.Path, bodies)
			}
		}
	}
	if w := do(h, "GET", "/v1/models/unknown", ""); w.Code != 404 || code(w) != "MODEL_NOT_FOUND" {
		t.Errorf("unknown model: %d %s", w.Code, w.Body)
	}
}

// TestCancel: 204 has no body, and a second cancel is 204 again.
func TestCancel(t *testing.T) {
	f := &fake{}
	for range 2 {
		if w := do(handler(f), "POST", "/v2/tasks/"+theID.String()+"/cancel", ""); w.Code != 204 || w.Body.Len() > 0 || w.Header().Get("X-Correlation-Id") != "c-1" {
			t.Errorf("cancel: %d %s", w.Code, w.Body)
		}
	}
	if f.cancels != 2 {
		t.Errorf("the engine saw %d cancels", f.cancels)
	}
}

func TestExplain(t *testing.T) {
	w := do(handler(&fake{}), "GET", "/v2/tasks/"+theID.String()+"/explain", "")
	var x placement.Explanation
	if err := json.Unmarshal(w.Body.Bytes(), &x); err != nil || w.Code != 200 || x.DecisionID != "d-1" || x.Winner != "n1/p1/r0" {
		t.Errorf("explain: %d %s", w.Code, w.Body)
	}
}

// TestList: filters reach the engine, a full page names the next one.
func TestList(t *testing.T) {
	f := &fake{list: []orchestrator.Task{{Record: store.Record{ID: theID}, Status: "queued"}, {Status: "running"}}}
	h := handler(f)
	w := do(h, "GET", "/v2/tasks?status=queued,running&model=m&session=s&since=2026-01-02T03:04:05Z&limit=1&before="+foreignID, "")
	before, _ := store.ParseTaskID(foreignID)
	want := orchestrator.Filter{
		Status: []string{"queued", "running"}, Model: "m", Session: "s",
		Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Before: before, Limit: 1,
	}
	if len(f.filters) != 1 || !reflect.DeepEqual(f.filters[0], want) {
		t.Errorf("filter = %+v, want %+v", f.filters, want)
	}
	var page taskapi.TaskList
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.Tasks) != 1 || page.NextBefore != theID.String() {
		t.Errorf("page = %s", w.Body)
	}
	f.list = nil
	if w := do(h, "GET", "/v2/tasks", ""); w.Body.String() != `{"tasks":[]}` || f.filters[1].Limit != 100 {
		t.Errorf("empty list = %s, filter %+v", w.Body, f.filters[1])
	}
	for query, field := range map[string]string{
		"status=dead": "status", "status=": "status", "limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "limit=1&limit=2": "limit",
		"since=yesterday": "since", "before=x": "before", "%zz": "query", "model=" + strings.Repeat("m", 513): "model",
	} {
		if w := do(h, "GET", "/v2/tasks?"+query, ""); w.Code != 400 || !strings.Contains(w.Body.String(), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	f.readErr = taskapi.NewError(taskapi.StoreUnavailable)
	if w := do(h, "GET", "/v2/tasks", ""); w.Code != 503 {
		t.Errorf("store away: %d", w.Code)
	}
}
