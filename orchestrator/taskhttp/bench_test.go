package taskhttp_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

// discard takes an answer for nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Flush()                      {}
func (d discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkEvents is what a stream of 1,000 tokens costs beside engine and network.
func BenchmarkEvents(b *testing.B) {
	f := &fake{script: []step{started}}
	for range 1000 {
		f.script = append(f.script, step{typ: "token", data: `{"t":"token","i":1}`})
	}
	f.script = append(f.script, end)
	h := handler(f)
	b.ReportAllocs()
	for b.Loop() {
		r, _ := http.NewRequest(http.MethodGet, eventsPath(""), nil)
		h.ServeHTTP(discard{http.Header{}}, r)
	}
}

// BenchmarkSubmit is what decoding and answering a task of 1 KB costs beside the engine.
func BenchmarkSubmit(b *testing.B) {
	h := taskhttp.New(taskhttp.Config{Orchestrator: &quiet{}, Authorize: everyone})
	body := `{"model":"llama3:8b","prompt":"` + strings.Repeat("x", 1000) + `","max_tokens":64}`
	b.ReportAllocs()
	for b.Loop() {
		r, _ := http.NewRequest(http.MethodPost, "/v2/tasks", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(discard{http.Header{}}, r)
	}
}

// quiet is a fake that remembers no request.
type quiet struct{ fake }

func (*quiet) Submit(context.Context, orchestrator.Principal, orchestrator.Spec) (orchestrator.Accepted, error) {
	return orchestrator.Accepted{ID: theID, Status: "queued"}, nil
}
