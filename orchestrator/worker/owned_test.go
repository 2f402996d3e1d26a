package worker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/worker"
)

// TestOwn covers ORC-443: two fields change, every other byte stays in its place.
func TestOwn(t *testing.T) {
	for _, tc := range []struct{ in, model, want string }{
		{`{"model":"a","prompt":"p"}`, "", `{"model":"a","prompt":"p"}`},
		{`{"model":"a","prompt":"p"}`, "a", `{"model":"a","prompt":"p"}`},
		{`{"mod\u0065l":"\u0061","prompt":"p"}`, "a", `{"mod\u0065l":"\u0061","prompt":"p"}`},
		{`{"model":"a","prompt":"p"}`, "b", `{"model":"b","prompt":"p"}`},
		{"\t{ \"x\" : 1.50e+2 ,\n\"model\" :  \"a\" , \"y\":\"\\u00e9<\" }\r\n", "b/c", "\t{ \"x\" : 1.50e+2 ,\n\"model\" :  \"b/c\" , \"y\":\"\\u00e9<\" }\r\n"},
		{`{}`, "b", `{"model":"b"}`},
		{` { } `, "b", ` { "model":"b"} `},
		{`{"x":{}}`, "b", `{"x":{},"model":"b"}`},
		{`{"Model":"a"}`, "b", `{"Model":"a","model":"b"}`},
		{`{"model":null}`, "b", `{"model":"b"}`},
		{`{"stream":true}`, "", `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":false}`, "", `{"stream":false}`},
		{`{"stream":null}`, "", `{"stream":null}`},
		{`{"stream_options":{"include_usage":false}}`, "", `{"stream_options":{"include_usage":false}}`},
		{`{"stream_options":{"include_usage": false, "z":[1 ,2]},"stream":true,"model":"a"}`, "b", `{"stream_options":{"include_usage": true, "z":[1 ,2]},"stream":true,"model":"b"}`},
		{`{"stream":true,"stream_options":{"include_usage":true}}`, "", `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":true,"stream_options":{}}`, "", `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":true,"stream_options":{ "z":1 }}`, "", `{"stream":true,"stream_options":{ "z":1 ,"include_usage":true}}`},
		{`{"stream":true,"stream_options":null}`, "", `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":true,"model":"a"}`, "b", `{"stream":true,"model":"b","stream_options":{"include_usage":true}}`},
		{`{"x":{"model":"a","stream":true},"model":"a"}`, "b", `{"x":{"model":"a","stream":true},"model":"b"}`},
		{`{"x":1,"x":2,"model":"a"}`, "b", `{"x":1,"x":2,"model":"b"}`},
		{`{"n":123456789012345678901234567890.0,"s":"\ud800","model":"a"}`, "b", `{"n":123456789012345678901234567890.0,"s":"\ud800","model":"b"}`},
	} {
		got, err := worker.Own([]byte(tc.in), tc.model)
		if err != nil || string(got) != tc.want {
			t.Errorf("Own(%s, %q) = %s, %v, want %s", tc.in, tc.model, got, err, tc.want)
		}
	}
}

// TestBodyErrors covers ORC-443 and ORC-444: typed, with the field, without content.
func TestBodyErrors(t *testing.T) {
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	for in, field := range map[string]string{
		"": "body", "null": "body", "[]": "body", `"canary"`: "body", `{`: "body", `{"a":1`: "body", `{"a" 1}`: "body", `{"a":1,}`: "body",
		`{"a":01}`: "body", `{"a":"canary` + "\n" + `"}`: "body", `{"a":1}{"b":2}`: "body", `{} canary`: "body", `{"a":` + deep + `}`: "body",
		`{"model":"canary","model":"b"}`: "model", `{"model":1}`: "model", `{"stream":true,"stream":true}`: "stream", `{"stream":"canary"}`: "stream",
		`{"stream_options":{},"stream_options":{}}`: "stream_options", `{"stream_options":[]}`: "stream_options", `{"stream_options":{"include_usage":1}}`: "stream_options",
		`{"max_tokens":-1}`: "max_tokens", `{"max_tokens":1.5}`: "max_tokens", `{"max_completion_tokens":"9"}`: "max_completion_tokens",
		`{"n":0}`: "n", `{"seed":"canary"}`: "seed", `{"stop":1}`: "stop", `{"stop":[1]}`: "stop",
	} {
		_, err := worker.Inspect([]byte(in))
		e, ok := errors.AsType[*worker.BodyError](err)
		if !ok || e.Field != field || strings.Contains(err.Error(), "canary") {
			t.Errorf("Inspect(%s) = %v, want field %s", in, err, field)
		}
	}
	for _, in := range []string{`{"stream":true,"stream_options":[]}`, `{"stream":true,"stream_options":{"include_usage":true,"include_usage":true}}`, `{"model":"a","model":"a"}`, `{`} {
		if _, err := worker.Own([]byte(in), "b"); err == nil {
			t.Errorf("Own(%s) found nothing wrong", in)
		}
	}
	shallow := `{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `,"b":"` + strings.Repeat("[", 99) + `\\\"["}`
	if _, err := worker.Inspect([]byte(shallow)); err != nil {
		t.Errorf("depth 64: %v", err)
	}
}

// TestInspect covers ORC-444.
func TestInspect(t *testing.T) {
	seed := int64(-3)
	messages := `[ {"role":"user","content":"hi"} ]`
	for in, want := range map[string]worker.Body{
		`{}`: {N: 1},
		`{"model":"m","prompt":"caf\u00e9","stream":true,"max_tokens":5,"max_completion_tokens":9,"n":2,"seed":-3,"stop":["a","b"],"logprobs":5,"stream_options":{"include_usage":true,"x":1}}`: {
			Model: "m", Stream: true, IncludeUsage: true, MaxTokens: 9, N: 2, Seed: &seed, Stop: 2, Logprobs: true, Prompt: sha256.Sum256([]byte("café")), PromptBytes: 5,
		},
		`{"messages":` + messages + ` ,"tools":[{}],"response_format":{"type":"json_object"},"stop":"x","logprobs":false,"max_tokens":null,"seed":null,"n":null,"stream":null,"stream_options":null}`: {
			N: 1, Stop: 1, Tools: true, ResponseFormat: true, Prompt: sha256.Sum256([]byte(messages)), PromptBytes: len(messages),
		},
	} {
		got, err := worker.Inspect([]byte(in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Inspect(%s) = %+v, %v, want %+v", in, got, err, want)
		}
	}
}

// FuzzOwnedFields: the result is the same JSON apart from the owned fields, and
// a second pass changes nothing.
func FuzzOwnedFields(f *testing.F) {
	f.Add([]byte(`{"model":"a","stream":true,"x":[1,{"y":null}]}`), "b")
	f.Add([]byte("{ \"stream\" : true , \"stream_options\" : { \"include_usage\" : false } }\n"), "")
	f.Add([]byte(`{"model":"é","prompt":"\ud83e\udd99","stream_options":{}}`), "c/d")
	f.Add([]byte(`{"stream":true}`), "\xff")
	f.Fuzz(func(t *testing.T, in []byte, model string) {
		body, inspectErr := worker.Inspect(in)
		out, err := worker.Own(in, model)
		if err != nil {
			if inspectErr == nil && !strings.Contains(err.Error(), "stream_options") {
				t.Fatalf("Inspect accepts %q, Own says %v", in, err)
			}
			return
		}
		if inspectErr != nil {
			return // Own looks at less
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", in, out)
		}
		got, err := worker.Inspect(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", in, out, err)
		}
		if body.Stream && !got.IncludeUsage {
			t.Fatalf("%q does not ask for usage", out)
		}
		if clean := strings.ToValidUTF8(model, "\ufffd"); model != "" && model == clean && got.Model != model {
			t.Fatalf("model of %q is %q", out, got.Model)
		}
		if again, err := worker.Own(out, model); err != nil || model == strings.ToValidUTF8(model, "") && !bytes.Equal(again, out) {
			t.Fatalf("a second pass makes %q of %q: %v", again, out, err)
		}
		if a, b := others(t, in), others(t, out); !reflect.DeepEqual(a, b) {
			t.Fatalf("%q became %q", a, b)
		}
	})
}

// others returns the members that are not ours, each byte for byte.
func others(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "model")
	out := map[string]string{}
	for k, v := range m {
		out[k] = string(v)
	}
	var options map[string]json.RawMessage
	if json.Unmarshal(m["stream_options"], &options) == nil {
		delete(options, "include_usage")
		for k, v := range options {
			out["stream_options."+k] = string(v)
		}
	}
	delete(out, "stream_options")
	return out
}

// BenchmarkOwnedFields: goals 30 µs and 6 ms for both passes together.
func BenchmarkOwnedFields(b *testing.B) {
	for _, size := range []int{1 << 10, 400 << 10} {
		text := strings.Repeat("the quick brown fox said \\\"hi\\\" and \\n", size/37)
		body := fmt.Appendf(nil, `{"model":"alias","messages":[{"role":"user","content":"%s"}],"stream":true,"temperature":0.7}`, text)
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := worker.Inspect(body); err != nil {
					b.Fatal(err)
				}
				if _, err := worker.Own(body, "served"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
