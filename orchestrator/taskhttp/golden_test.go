package taskhttp_test

import (
	"cmp"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// transcripts are the streams per terminal cause, on both fronts (ORC-500,
// ORC-503, OAI-3). A streaming /v1 call shows only the engine's own frames.
func transcripts() map[string]struct {
	v1     bool
	script []step
	head   string
} {
	result := step{typ: orchestrator.EventResult, data: `{"id":"x",` + "\n" + `"object":"chat.completion"}`}
	metrics := step{typ: orchestrator.EventMetrics, data: taskapi.Metrics{
		QueueDepth: new(3), KVWarmth: new(false), Prep: &taskapi.Prep{Model: "m", BytesDone: 1, BytesTotal: -1}, Phase: "loading", Human: "The model is loading.",
	}}
	lru := taskapi.NewError(taskapi.QueueFullDropLRU).With("policy_label", "drop-lru").Event("c-1", time.UnixMilli(1_700_000_000_100))
	return map[string]struct {
		v1     bool
		script []step
		head   string
	}{
		"v2-metrics":            {script: []step{queued, metrics, started, end}},
		"v2-embedding":          {script: []step{started, {typ: orchestrator.EventResult, data: `{"data":[{"embedding":[0.5]}]}`}, end}},
		"v2-evicted":            {script: []step{queued, {typ: orchestrator.EventError, data: lru}}},
		"v2-shed":               {script: []step{queued, failed(taskapi.AdmissionReject)}},
		"v2-decode-timeout":     {script: []step{started, token("Hel", 0), failed(taskapi.DecodeTimeout)}},
		"v2-startup-timeout":    {script: []step{queued, failed(taskapi.StartupTimeout)}},
		"v2-timeout":            {script: []step{started, failed(taskapi.Timeout)}},
		"v2-deadline":           {script: []step{queued, failed(taskapi.DeadlineUnmet)}},
		"v2-unreachable":        {script: []step{queued, failed(taskapi.WorkerUnreachable)}},
		"v2-load-failed":        {script: []step{queued, failed(taskapi.ModelLoadFailed)}},
		"v2-engine-error":       {script: []step{started, failed(taskapi.EngineError)}},
		"v2-region-narrowed":    {script: []step{queued, failed(taskapi.NoEUWorkerAvailable)}},
		"v2-shutting-down":      {script: []step{queued, failed(taskapi.ShuttingDown)}},
		"v2-erased":             {script: []step{queued, failed(taskapi.SubjectErased)}},
		"v1-decode-timeout":     {v1: true, script: []step{started, frame("Hel"), failed(taskapi.DecodeTimeout)}},
		"v1-cancelled":          {v1: true, script: []step{started, frame("Hel"), failed(taskapi.Cancelled)}},
		"v2-completed":          {script: []step{queued, started, token("Hel", 0), token("lo\n", 1), end}},
		"v2-resumed":            {script: []step{queued, started, token("Hel", 0), token("lo\n", 1), end}, head: "Last-Event-ID: 3"},
		"v2-all-read":           {script: []step{started, end}, head: "Last-Event-ID: 2"},
		"v2-cancelled-queued":   {script: []step{queued, failed(taskapi.Cancelled)}},
		"v2-worker-reset":       {script: []step{started, token("Hel", 0), failed(taskapi.WorkerReset)}},
		"v2-queue-timeout":      {script: []step{queued, failed(taskapi.QueueTimeout)}},
		"v2-of-a-v1-call":       {script: []step{started, frame("Hel"), frame("lo"), result, end}},
		"v1-completed":          {v1: true, script: []step{queued, started, frame("Hel"), token("Hel", 0), frame("lo"), end}},
		"v1-refused-in-queue":   {v1: true, script: []step{queued, failed(taskapi.QueueTimeout)}},
		"v1-worker-reset":       {v1: true, script: []step{started, frame("Hel"), failed(taskapi.WorkerReset)}},
		"v1-unreachable":        {v1: true, script: []step{started, failed(taskapi.WorkerUnreachable)}},
		"v1-no-terminal-event":  {v1: true, script: []step{started, frame("Hel")}},
		"v1-nothing-but-an-end": {v1: true, script: []step{started, end}},
	}
}

// TestGoldenTranscripts compares whole answers, headers included.
func TestGoldenTranscripts(t *testing.T) {
	for name, tt := range transcripts() {
		f := &fake{script: tt.script}
		var w *httptest.ResponseRecorder
		if tt.v1 {
			w = do(handler(f), "POST", "/v1/chat/completions", `{"stream":true,`+chatBody[1:])
		} else {
			w = do(handler(f), "GET", "/v2/tasks/"+theID.String()+"/events", "", cmp.Or(tt.head, "Accept: text/event-stream"))
		}
		var got strings.Builder
		fmt.Fprintf(&got, "%d\n", w.Code)
		_ = w.Header().Write(&got)
		got.WriteString("\n" + w.Body.String())
		text := strings.ReplaceAll(got.String(), "\r\n", "\n")
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, text, want)
		}
	}
}
