package taskapi_test

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

const taskID = "0190b1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b"

// full returns a valid request of the full shape.
func full() map[string]any {
	return map[string]any{
		"task_id": taskID, "session_id": "s-1", "workload": "completion", "model_ref": "llama3:8b",
		"engine": "llamacpp", "ctx": 4096, "priority": "batch", "max_tokens": 16, "deadline_ms": 5000, "prompt": "hi",
	}
}

func simple() map[string]any { return map[string]any{"model": "llama3:8b", "prompt": "hi"} }

func encode(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// with returns m with one member replaced; nil removes it.
func with(m map[string]any, name string, v any) map[string]any {
	m = maps.Clone(m)
	if m[name] = v; v == nil {
		delete(m, name)
	}
	return m
}

// TestBothShapes proves ORC-761: shapes are told apart, defaults belong to the
// simple one, unknown members are ignored.
func TestBothShapes(t *testing.T) {
	f, err := taskapi.DecodeSubmit(encode(t, with(full(), "no_such_member", "reuse")))
	if err != nil {
		t.Fatal(err)
	}
	want := taskapi.Submit{
		TaskID: taskID, SessionID: "s-1", Workload: "completion", ModelRef: "llama3:8b", Engine: "llamacpp",
		Ctx: 4096, Priority: "batch", MaxTokens: 16, DeadlineMS: 5000, Prompt: "hi",
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("full shape = %+v, want %+v", f, want)
	}
	s, err := taskapi.DecodeSubmit([]byte(`{"model":"m","messages":[{"role":"user","content":"hi"}],"stop":"END","regions":null,"seed":-1}`))
	if err != nil {
		t.Fatal(err)
	}
	want = taskapi.Submit{
		Model: "m", Messages: json.RawMessage(`[{"role":"user","content":"hi"}]`), Priority: "interactive",
		Temperature: new(0.7), Stop: []string{"END"}, Seed: new(int64(-1)),
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("simple shape = %+v, want %+v", s, want)
	}
	if got := f.ModelName() + " " + s.ModelName(); got != "llama3:8b m" {
		t.Errorf("model names = %q", got)
	}
}

// TestRequiredMembers proves that each required member of the full shape is
// missed by name (ORC-761).
func TestRequiredMembers(t *testing.T) {
	for name := range full() {
		_, err := taskapi.DecodeSubmit(encode(t, with(full(), name, nil)))
		field := name
		if name == "model_ref" {
			field = "model" // without it the request has the simple shape
		}
		wantField(t, name+" missing", err, taskapi.InvalidParams, field)
	}
}

func wantField(t *testing.T, what string, err error, code taskapi.Code, field string) {
	t.Helper()
	e, ok := errors.AsType[*taskapi.Error](err)
	if !ok || e.Code != code || e.Details["field"] != field {
		t.Errorf("%s: got %v, want %s with field %s", what, show(err), code, field)
	}
}

func show(err error) any {
	if e, ok := errors.AsType[*taskapi.Error](err); ok {
		return []any{e.Code, e.Details}
	}
	return err
}

// TestRefusedMembers walks the rules of ORC-241 and ORC-761, one broken member each.
func TestRefusedMembers(t *testing.T) {
	tests := []struct {
		name  string
		value any
		field string // "" = name
	}{
		{"model", 7, ""},
		{"model", "", ""},
		{"model", "a b", ""},
		{"model", strings.Repeat("m", 600), ""},
		{"prompt", []any{"x"}, ""},
		{"prompt", "", ""},
		{"prompt", "a\x00b", ""},
		{"prompt", strings.Repeat("x", taskapi.MaxPrompt+1), ""},
		{"messages", []any{map[string]any{"role": "user"}}, ""}, // beside the prompt
		{"task_id", "nope", ""},
		{"task_id", "00000000-0000-0000-0000-000000000000", ""},
		{"task_id", true, ""},
		{"session_id", "a/b", ""},
		{"session_id", strings.Repeat("s", taskapi.MaxSession+1), ""},
		{"session_id", "", ""},
		{"priority", "urgent", ""},
		{"priority", 1, ""},
		{"on_disconnect", "stay", ""},
		{"max_tokens", 0, ""},
		{"max_tokens", taskapi.MaxTokens + 1, ""},
		{"max_tokens", 1.5, ""},
		{"max_tokens", "1", ""},
		{"ctx", 0, ""},
		{"ctx", taskapi.MaxContext + 1, ""},
		{"expected_tokens", -1, ""},
		{"deadline_ms", 10_000_000_001, ""},
		{"deadline_ms", "soon", ""},
		{"temperature", -0.1, ""},
		{"temperature", 2.1, ""},
		{"top_p", 1.1, ""},
		{"top_k", -2, ""},
		{"repetition_penalty", 11, ""},
		{"seed", 0.5, ""},
		{"stop", 1, ""},
		{"stop", []any{""}, ""},
		{"stop", slices.Repeat([]any{"s"}, taskapi.MaxStops+1), ""},
		{"stop", strings.Repeat("s", taskapi.MaxStopBytes+1), ""},
		{"regions", "EU", ""},
		{"regions", []any{}, ""},
		{"regions", []any{"E U"}, ""},
		{"regions", slices.Repeat([]any{"DE"}, taskapi.MaxRegions+1), ""},
		{"purposes", []any{7}, ""},
		{"purposes", slices.Repeat([]any{"p"}, taskapi.MaxPurposes+1), ""},
		{"inputs", []any{"x"}, ""}, // of a completion
		{"budget", 7, ""},
		{"budget", map[string]any{"tokens": 0}, "budget.tokens"},
		{"budget", map[string]any{"time_ms": "1"}, "budget.time_ms"},
		{"budget", map[string]any{"cost": -1}, "budget.cost"},
		{"placement", "pool", ""},
		{"placement", map[string]any{"mode": "nearest"}, "placement.mode"},
		{"placement", map[string]any{"mode": "pin"}, "placement.pool"},
		{"placement", map[string]any{"node": "a b"}, "placement.node"},
		{"placement", map[string]any{"avoid": slices.Repeat([]any{"p"}, taskapi.MaxAvoid+1)}, "placement.avoid"},
		{"placement", map[string]any{"avoid": []any{"../p"}}, "placement.avoid"},
		{"placement", map[string]any{"mode": "prefer"}, "placement.prefer"},
		{"placement", map[string]any{"mode": "prefer", "prefer": slices.Repeat([]any{"p"}, taskapi.MaxAvoid+1)}, "placement.prefer"},
		{"placement", map[string]any{"allow_fallback": "no"}, "placement.allow_fallback"},
		{"placement", map[string]any{"features": "tools"}, "placement.features"},
		{"placement", map[string]any{"min_compute": -1}, "placement.min_compute"},
		{"placement", map[string]any{"min_vram_bytes": 0.5}, "placement.min_vram_bytes"},
		{"placement", map[string]any{"spread": -1}, "placement.spread"},
		{"placement", []any{}, ""},
	}
	for _, tt := range tests {
		_, err := taskapi.DecodeSubmit(encode(t, with(simple(), tt.name, tt.value)))
		if tt.field == "" {
			tt.field = tt.name
		}
		wantField(t, tt.name, err, taskapi.InvalidParams, tt.field)
	}
}

// TestRefusedMessages: messages are bounded and free of NUL like a prompt, in
// each form that text has there.
func TestRefusedMessages(t *testing.T) {
	message := func(role, content any) any { return []any{map[string]any{"role": role, "content": content}} }
	for _, content := range []any{7, []any{"part"}, []any{map[string]any{"text": 7}}, "a\x00b", strings.Repeat("x", taskapi.MaxPrompt+1)} {
		_, err := taskapi.DecodeSubmit(encode(t, map[string]any{"model": "m", "messages": message("user", content)}))
		wantField(t, "messages", err, taskapi.InvalidParams, "messages")
	}
	for _, messages := range []any{[]any{}, "x", message("", "x"), message(1, "x"), []any{nil}} {
		_, err := taskapi.DecodeSubmit(encode(t, map[string]any{"model": "m", "messages": messages}))
		wantField(t, "messages", err, taskapi.InvalidParams, "messages")
	}
}

// TestRefusedBodies: what is no single clean JSON object is refused as body (ORC-761).
func TestRefusedBodies(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "text": "hi", "null": "null", "array": "[]", "string": `"model"`,
		"trailing":  `{"model":"m","prompt":"x"}{}`,
		"doubled":   `{"model":"m","prompt":"x","prompt":"y"}`,
		"surrogate": `{"model":"m","prompt":"\ud800"}`,
		"deep":      `{"model":"m","prompt":"x","a":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + "}",
		"bad UTF-8": "{\"model\":\"m\",\"prompt\":\"\xff\"}",
	} {
		_, err := taskapi.DecodeSubmit([]byte(body))
		wantField(t, name, err, taskapi.InvalidParams, "body")
	}
}

// TestMemberNamesAreExact: a member in other letter case is unknown, so it can
// not slip past the check for doubled members.
func TestMemberNamesAreExact(t *testing.T) {
	s, err := taskapi.DecodeSubmit([]byte(`{"model":"a","MODEL":"b","prompt":"x","Prompt":"y"}`))
	if err != nil || s.Model != "a" || s.Prompt != "x" {
		t.Errorf("got %q, %q, %v", s.Model, s.Prompt, err)
	}
	_, err = taskapi.DecodeSubmit([]byte(`{"Model":"a","prompt":"x"}`))
	wantField(t, "Model", err, taskapi.InvalidParams, "model")
}

// TestDeadlineNotPositive proves ORC-251: deadline_ms ≤ 0 is 400 DEADLINE_UNMET.
func TestDeadlineNotPositive(t *testing.T) {
	for _, ms := range []int{0, -1} {
		_, err := taskapi.DecodeSubmit(encode(t, with(simple(), "deadline_ms", ms)))
		wantField(t, "deadline_ms", err, taskapi.DeadlineUnmet, "deadline_ms")
		if e, _ := errors.AsType[*taskapi.Error](err); e.HTTPStatus() != 400 {
			t.Errorf("deadline_ms %d: status %d, want 400", ms, e.HTTPStatus())
		}
	}
}

// TestFullMembers proves ORC-761 for the optional words of the full shape: each
// known one is taken, each unknown one is refused by name.
func TestFullMembers(t *testing.T) {
	for name, values := range map[string][]string{
		"kv_hint": {"reuse", "cold"}, "output_mode": {"text", "json"}, "determinism": {"strict", "best_effort"},
		"priority": {"interactive", "batch"}, "on_disconnect": {"cancel", "continue"}, "sampler_profile_version": {"v1.2"},
	} {
		for _, v := range values {
			if _, err := taskapi.DecodeSubmit(encode(t, with(full(), name, v))); err != nil {
				t.Errorf("%s %s: %v", name, v, show(err))
			}
		}
		for _, v := range []any{"no such word", 7} {
			_, err := taskapi.DecodeSubmit(encode(t, with(full(), name, v)))
			wantField(t, name, err, taskapi.InvalidParams, name)
		}
	}
}

// TestWorkloads: each workload has the text that it needs and no other.
func TestWorkloads(t *testing.T) {
	embedding := with(with(with(full(), "workload", "embedding"), "prompt", nil), "inputs", []any{"a", "b"})
	rerank := with(with(full(), "workload", "rerank"), "inputs", []any{"a"})
	for name, m := range map[string]map[string]any{"embedding": embedding, "rerank": rerank} {
		s, err := taskapi.DecodeSubmit(encode(t, m))
		if err != nil || s.Workload != name || len(s.Inputs) == 0 || (s.Prompt != "") != (name == "rerank") {
			t.Errorf("%s: %+v, %v", name, s, show(err))
		}
		for _, bad := range []any{
			nil,
			[]any{},
			[]any{""},
			[]any{"a\x00"},
			[]any{7},
			"a", slices.Repeat([]any{"x"}, taskapi.MaxInputs+1),
			[]any{strings.Repeat("x", taskapi.MaxPrompt), "x"},
		} {
			_, err := taskapi.DecodeSubmit(encode(t, with(m, "inputs", bad)))
			wantField(t, name, err, taskapi.InvalidParams, "inputs")
		}
	}
	_, err := taskapi.DecodeSubmit(encode(t, with(embedding, "prompt", "x")))
	wantField(t, "embedding with a prompt", err, taskapi.InvalidParams, "prompt")
	_, err = taskapi.DecodeSubmit(encode(t, with(rerank, "prompt", nil)))
	wantField(t, "rerank without a query", err, taskapi.InvalidParams, "prompt")
	_, err = taskapi.DecodeSubmit(encode(t, with(with(rerank, "prompt", nil), "messages", []any{map[string]any{"role": "user"}})))
	wantField(t, "rerank with messages", err, taskapi.InvalidParams, "messages")
	_, err = taskapi.DecodeSubmit(encode(t, with(full(), "workload", "poetry")))
	wantField(t, "poetry", err, taskapi.InvalidParams, "workload")
	chat := with(with(full(), "workload", "chat"), "prompt", nil)
	_, err = taskapi.DecodeSubmit(encode(t, chat))
	wantField(t, "chat", err, taskapi.InvalidParams, "messages")
	if _, err = taskapi.DecodeSubmit(encode(t, with(chat, "messages", []any{map[string]any{"role": "user"}}))); err != nil {
		t.Errorf("chat with messages: %v", show(err))
	}
}

// TestPromptsOfAllKinds: every other control character is legal (ORC-241), and
// no value has a hidden meaning (ORC-762).
func TestPromptsOfAllKinds(t *testing.T) {
	for _, p := range []string{"\x1b[31mred\x07\r\n", "日本語 \U0001f600", "pool-unavailable", "cause-internal", strings.Repeat("x", taskapi.MaxPrompt)} {
		s, err := taskapi.DecodeSubmit(encode(t, with(simple(), "prompt", p)))
		if err != nil || s.Prompt != p {
			t.Errorf("prompt of %d bytes: %v", len(p), show(err))
		}
	}
}

// TestErrorsNeverEcho puts a canary into every member, as value and as name.
func TestErrorsNeverEcho(t *testing.T) {
	const canary = "CANARY\u202e/..%00"
	for name := range full() {
		for _, v := range []any{canary, []any{canary}, map[string]any{canary: canary}} {
			for _, base := range []map[string]any{full(), simple()} {
				if _, err := taskapi.DecodeSubmit(encode(t, with(with(base, name, v), canary, canary))); err != nil {
					e, _ := errors.AsType[*taskapi.Error](err)
					if out := string(encode(t, e.Body("c"))) + string(encode(t, e.OpenAI())) + e.Error(); strings.Contains(out, "CANARY") {
						t.Errorf("%s: the refusal repeats the input: %s", name, out)
					}
				}
			}
		}
	}
}

// TestSubmitRoundTrip: what a Go client encodes is read back as it was.
func TestSubmitRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := taskapi.Submit{
			Model:        rapid.StringMatching(`[a-z][a-z0-9]{0,8}(:[0-9]b)?`).Filter(notDevice).Draw(t, "model"),
			Prompt:       rapid.StringN(1, 50, 200).Filter(func(s string) bool { return !strings.Contains(s, "\x00") && strings.ToValidUTF8(s, "") == s }).Draw(t, "prompt"),
			Priority:     rapid.SampledFrom([]string{"interactive", "batch"}).Draw(t, "priority"),
			MaxTokens:    rapid.IntRange(0, taskapi.MaxTokens).Draw(t, "max"),
			DeadlineMS:   rapid.Int64Range(0, 10_000_000_000).Draw(t, "deadline"),
			Temperature:  new(rapid.Float64Range(0, 2).Draw(t, "temperature")),
			TopP:         rapid.Ptr(rapid.Float64Range(0, 1), true).Draw(t, "top_p"),
			TopK:         rapid.Ptr(rapid.IntRange(-1, 1000), true).Draw(t, "top_k"),
			Seed:         rapid.Ptr(rapid.Int64(), true).Draw(t, "seed"),
			Regions:      rapid.SampledFrom([][]string{nil, {"EU"}, {"DE", "US"}}).Draw(t, "regions"),
			Budget:       rapid.SampledFrom([]*taskapi.Budget{nil, {Tokens: 5}, {TimeMS: 1, Cost: 0.5}}).Draw(t, "budget"),
			Placement:    rapid.SampledFrom([]*taskapi.Placement{nil, {Mode: "prefer", Prefer: []string{"p"}, AllowFallback: new(false)}, {Node: "n", Spread: 3}}).Draw(t, "placement"),
			OnDisconnect: rapid.SampledFrom([]string{"", "cancel", "continue"}).Draw(t, "disconnect"),
		}
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := taskapi.DecodeSubmit(raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", raw, got, show(err), want)
		}
	})
}

// notDevice keeps names away that Windows has taken.
func notDevice(s string) bool {
	head, _, _ := strings.Cut(s, ":")
	return !slices.Contains([]string{"con", "prn", "aux", "nul", "hf", "file", "http", "https", "s3", "oci"}, head) &&
		!(len(head) == 4 && (strings.HasPrefix(head, "com") || strings.HasPrefix(head, "lpt")))
}

func FuzzDecodeSubmit(f *testing.F) {
	f.Add(encode(f, full()))
	f.Add(encode(f, simple()))
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"stop":["a"],"placement":{"mode":"pin","pool":"p"}}`))
	f.Add([]byte(`{"model":"m","prompt":"\u0000"}`))
	f.Add([]byte(`{"model_ref":"hf:a/b@main::file=x.gguf","deadline_ms":0}`))
	f.Add([]byte("{\"model\":\"\xff\"}"))
	f.Add(encode(f, with(with(full(), "workload", "rerank"), "inputs", []any{"a"})))
	f.Add([]byte(`{"model":"m","prompt":"x","regions":["DE"],"purposes":["p"],"budget":{"tokens":1},"placement":{"mode":"prefer","prefer":["p"],"allow_fallback":false}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := taskapi.DecodeSubmit(body)
		if err != nil {
			e, ok := errors.AsType[*taskapi.Error](err)
			if field, _ := e.Details["field"].(string); !ok || field == "" {
				t.Fatalf("refusal without a field: %v", show(err))
			}
			return
		}
		if s.ModelName() == "" || len(s.Inputs) == 0 && (s.Prompt == "") == (len(s.Messages) == 0) || len(s.Prompt) > taskapi.MaxPrompt || strings.Contains(s.Prompt, "\x00") {
			t.Fatalf("accepted %+v", s)
		}
		again, err := taskapi.DecodeSubmit(encode(t, s))
		if err != nil {
			t.Fatalf("not accepted again: %v", show(err))
		}
		if s.ModelRef == "" {
			s.Temperature, again.Temperature = nil, nil // the default may have been added
		}
		s.Messages, again.Messages = nil, nil // encoding compacts them
		if s.Placement == nil || len(s.Placement.Avoid) == 0 {
			s.Placement, again.Placement = nil, nil
		}
		if len(s.Stop) == 0 {
			s.Stop, again.Stop = nil, nil
		}
		if len(s.Purposes) == 0 {
			s.Purposes, again.Purposes = nil, nil
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v became %+v", s, again)
		}
	})
}
