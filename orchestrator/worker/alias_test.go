package worker_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/llorch/llorch/orchestrator/worker"
)

// TestRawAlias: a body that names a model by an alias of the catalogue reaches the
// engine with the name that admission resolved, every other byte as it came
// (ORC-443, 600); a body that names it so already is not touched.
func TestRawAlias(t *testing.T) {
	var got []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`)
	}))
	defer srv.Close()
	d, err := worker.NewDialer(worker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, c := range []struct{ body, target, want string }{
		{`{"model":"fast", "prompt":"a\u0062c","max_tokens":2}`, "", `{"model":"sim-8b", "prompt":"a\u0062c","max_tokens":2}`},
		{`{"model":"sim-8b", "prompt":"a\u0062c","max_tokens":2}`, "", `{"model":"sim-8b", "prompt":"a\u0062c","max_tokens":2}`},
		{`{"model":"fast", "prompt":"x","max_tokens":2}`, "served", `{"model":"served", "prompt":"x","max_tokens":2}`},
	} {
		j := &worker.Job{ID: "j", Kind: worker.Completion, Model: "sim-8b", Raw: json.RawMessage(c.body), MaxTokens: 2}
		s, err := d.Start(context.Background(), worker.Target{URL: srv.URL, Slots: 1, Flavour: worker.VLLM, Model: c.target}, j)
		if err != nil {
			t.Fatal(err)
		}
		for _, err = s.Next(); err == nil; _, err = s.Next() {
		}
		s.Close()
		if string(got) != c.want {
			t.Errorf("the engine got %s, want %s", got, c.want)
		}
	}
}
