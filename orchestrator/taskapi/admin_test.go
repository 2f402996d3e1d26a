package taskapi_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// decoders are those of the bodies beside tasks.
func decoders() map[string]func([]byte) (any, error) {
	return map[string]func([]byte) (any, error){
		"session": func(b []byte) (any, error) { v, err := taskapi.DecodeOpenSession(b); return v, err },
		"model":   func(b []byte) (any, error) { v, err := taskapi.DecodeModel(b); return v, err },
		"state":   func(b []byte) (any, error) { v, err := taskapi.DecodeModelState(b); return v, err },
		"drain":   func(b []byte) (any, error) { v, err := taskapi.DecodePoolCommand("drain", b); return v, err },
		"reload":  func(b []byte) (any, error) { v, err := taskapi.DecodePoolCommand("reload", b); return v, err },
		"erase":   func(b []byte) (any, error) { v, err := taskapi.DecodeErase(b); return v, err },
		"consent": func(b []byte) (any, error) { v, err := taskapi.DecodeConsent(b); return v, err },
	}
}

// TestBodies: what is whole is taken with its defaults, what is not is refused by
// the name of its first broken member.
func TestBodies(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for _, tt := range []struct {
		kind, body string
		want       any
	}{
		{"session", `{}`, taskapi.OpenSession{}},
		{"session", `{"session_id":"s","budget":{"tokens":9},"x":1}`, taskapi.OpenSession{SessionID: "s", Budget: &taskapi.Budget{Tokens: 9}}},
		{"model", `{"id":"owner/repo"}`, taskapi.CatalogModel{ID: "owner/repo", State: "Active"}},
		{
			"model", `{"id":"m","digest":"` + digest + `","source_url":"https://x/y","state":"Retired","aliases":["a:b"],"tags":["t"],"successor":"n","verified":7}`,
			taskapi.CatalogModel{ID: "m", Digest: digest, SourceURL: "https://x/y", State: "Retired", Aliases: []string{"a:b"}, Tags: []string{"t"}, Successor: "n"},
		},
		{"state", `{"state":"Retired","deadline_ms":5}`, taskapi.ModelState{State: "Retired", DeadlineMS: 5}},
		{"drain", `{"deadline_ms":5,"force":true}`, taskapi.PoolCommand{DeadlineMS: 5, Force: true}},
		{"reload", `{"model":"m"}`, taskapi.PoolCommand{Model: "m"}},
		{"erase", `{"subject":"acme/eva","reason":"art-17"}`, taskapi.EraseRequest{Subject: "acme/eva", Reason: "art-17"}},
		{"consent", `{"purpose":"p","granted":false}`, taskapi.Consent{Purpose: "p"}},
	} {
		got, err := decoders()[tt.kind]([]byte(tt.body))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s %s = %+v, %v; want %+v", tt.kind, tt.body, got, show(err), tt.want)
		}
	}
	for _, tt := range []struct{ kind, body, field string }{
		{"session", `{"session_id":"a/b"}`, "session_id"},
		{"session", `{"budget":{"tokens":-1}}`, "budget.tokens"},
		{"session", `{"budget":[]}`, "budget"},
		{"model", `{}`, "id"},
		{"model", `{"id":7}`, "id"},
		{"model", `{"id":"a b"}`, "id"},
		{"model", `{"id":"m","digest":"sha256:0A"}`, "digest"},
		{"model", `{"id":"m","digest":"` + strings.Repeat("0", 64) + `"}`, "digest"},
		{"model", `{"id":"m","source_url":"http://x/\n"}`, "source_url"},
		{"model", `{"id":"m","source_url":"` + strings.Repeat("x", 2049) + `"}`, "source_url"},
		{"model", `{"id":"m","state":"active"}`, "state"}, // ORC-600: an unknown state is 400
		{"model", `{"id":"m","aliases":[""]}`, "aliases"},
		{"model", `{"id":"m","aliases":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 65), ",") + `]}`, "aliases"},
		{"model", `{"id":"m","tags":["a b"]}`, "tags"},
		{"state", `{}`, "state"},
		{"state", `{"state":"Gone"}`, "state"},
		{"state", `{"state":"Active","deadline_ms":-1}`, "deadline_ms"},
		{"drain", `{"force":"yes"}`, "force"},
		{"reload", `{}`, "model"},
		{"erase", `{"subject":""}`, "subject"},
		{"erase", `{"subject":"a\nb"}`, "subject"},
		{"erase", `{"reason":"because I say so"}`, "reason"},
		{"consent", `{"purpose":"p"}`, "granted"},
		{"consent", `{"granted":true}`, "purpose"},
		{"consent", `{"purpose":"p","granted":"yes"}`, "granted"},
	} {
		_, err := decoders()[tt.kind]([]byte(tt.body))
		wantField(t, tt.kind+" "+tt.body, err, taskapi.InvalidParams, tt.field)
	}
	for kind, decode := range decoders() {
		for _, body := range []string{"", "null", "[]", "{} {}", `{"x":1,"x":2}`, "{\"x\":\"\xff\"}", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)} {
			_, err := decode([]byte(body))
			wantField(t, kind, err, taskapi.InvalidParams, "body")
		}
	}
}

// FuzzBodies: no body makes a decoder panic or refuse without naming a field.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{`{}`, `{"session_id":"s","budget":{"tokens":9}}`, `{"id":"m","aliases":["a"]}`, `{"state":"Active"}`, `{"subject":"a/b","purpose":"p","granted":true}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for kind, decode := range decoders() {
			if _, err := decode(body); err != nil {
				if e, ok := err.(*taskapi.Error); !ok || e.Details["field"] == nil {
					t.Fatalf("%s: refusal without a field: %v", kind, show(err))
				}
			}
		}
	})
}
