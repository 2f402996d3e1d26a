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
