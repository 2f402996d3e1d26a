package orchestrator_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestPersonOverHTTP: a person's artifacts, consents, export and erasure through
// the real handlers and the real engine; a stranger sees nothing of them (ORC-610,
// ORC-765, ORC-840 to ORC-842 on the wire).
func TestPersonOverHTTP(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		h := taskhttp.New(taskhttp.Config{Orchestrator: b.Orchestrator, Authorize: func(r *http.Request) (orchestrator.Principal, error) {
			return orchestrator.Principal{User: r.Header.Get("X-User"), Roles: orchestrator.RoleUser}, nil
		}})
		ask := func(who, method, target, body string, want int) string {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
			r.Header.Set("X-User", who)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != want {
				t.Errorf("%s: %s %s = %d %s, want %d", who, method, target, w.Code, w.Body, want)
			}
			return w.Body.String()
		}
		sum := sha256.Sum256([]byte("the plan"))
		at := "/v2/artifacts/" + hex.EncodeToString(sum[:])
		for range 2 {
			if made := ask("me", "POST", "/v2/artifacts?kind=plan", "the plan", 201); !strings.Contains(made, `"url":"`+at+`"`) {
				t.Errorf("artifact: %s", made)
			}
		}
		if got := ask("me", "GET", at, "", 200); got != "the plan" {
			t.Errorf("artifact = %q", got)
		}
		ask("eve", "GET", at, "", 404)
		if list := ask("me", "POST", "/gdpr/consent", `{"purpose":"research","granted":true}`, 200); !strings.Contains(list, `"purpose":"research","granted":true`) {
			t.Errorf("consents: %s", list)
		}
		var task struct {
			ID string `json:"task_id"`
		}
		if err := json.Unmarshal([]byte(ask("me", "POST", "/v2/tasks", `{"model":"sim-8b","prompt":"hi","max_tokens":3}`, 202)), &task); err != nil {
			t.Fatal(err)
		}
		ask("me", "GET", "/v2/tasks/"+task.ID+"/events", "", 200)
		ask("eve", "GET", "/v2/tasks/"+task.ID+"/events", "", 404)
		ask("eve", "GET", "/gdpr/export?subject=me", "", 403)
		lines := strings.Split(strings.TrimSpace(ask("me", "GET", "/gdpr/export", "", 200)), "\n")
		if last := lines[len(lines)-1]; len(lines) < 4 || !strings.Contains(last, `"section":"manifest"`) {
			t.Errorf("export of %d lines, the last is %s", len(lines), last)
		}
		ask("eve", "POST", "/gdpr/delete", `{"subject":"me"}`, 403)
		if receipt := ask("me", "POST", "/gdpr/delete", `{"reason":"request"}`, 200); !strings.Contains(receipt, `"tasks":1`) {
			t.Errorf("receipt: %s", receipt)
		}
		ask("me", "GET", at, "", 404)
	})
}

// TestKindsOverHTTP: an embedding and a reranking as tasks and as calls, from the
// client to the engine and back (ORC-448, ORC-761, ORC-763).
func TestKindsOverHTTP(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Preset: "zero"}}, func(t *testing.T, b *bench) {
		b.as("vllm", "embedding", "rerank")
		c, stop := b.serve()
		defer stop()
		full := taskapi.Submit{
			TaskID: "0190b1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b", SessionID: "s", ModelRef: "sim-8b", Engine: "vllm", Ctx: 128, Priority: "interactive",
			MaxTokens: 8, DeadlineMS: 60_000, Workload: taskapi.WorkloadEmbedding, Inputs: []string{"a", "b"},
		}
		a, err := c.Submit(t.Context(), full)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := c.Wait(t.Context(), a.TaskID); err != nil || !strings.Contains(string(res.Result), `"embedding"`) {
			t.Errorf("embedding: %s, %v", res.Result, err)
		}
		full.TaskID, full.Workload, full.Prompt = "0190b1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5c", taskapi.WorkloadRerank, "which?"
		if a, err = c.Submit(t.Context(), full); err != nil {
			t.Fatal(err)
		}
		if res, err := c.Wait(t.Context(), a.TaskID); err != nil || !strings.Contains(string(res.Result), `"relevance_score"`) {
			t.Errorf("reranking: %s, %v", res.Result, err)
		}
		h := taskhttp.New(taskhttp.Config{Orchestrator: b.Orchestrator, Authorize: func(*http.Request) (orchestrator.Principal, error) { return me, nil }})
		for path, body := range map[string]string{"/v1/embeddings": `{"model":"sim-8b","input":"x"}`, "/v1/rerank": `{"model":"sim-8b","query":"q","documents":["a"]}`} {
			r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != 200 || w.Header().Get("X-Task-Id") == "" || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	})
}
