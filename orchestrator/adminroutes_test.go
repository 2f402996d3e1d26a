package orchestrator_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestAdminOverHTTP: sessions, catalogue, pools, queue and previews through the real
// handlers and the real engine (ORC-760, 540, 541, 600, 240).
func TestAdminOverHTTP(t *testing.T) {
	ctl := new(nodes)
	inBubble(t, orchestrator.Config{Control: ctl}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		h := taskhttp.New(taskhttp.Config{Orchestrator: b.Orchestrator, Authorize: func(r *http.Request) (orchestrator.Principal, error) {
			p := orchestrator.Principal{User: r.Header.Get("X-User"), Roles: orchestrator.RoleUser}
			if p.User == "op" {
				p.Roles |= orchestrator.RoleOperator
			}
			return p, nil
		}})
		ask := func(who, method, target, body string, want int, part string) http.Header {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
			r.Header.Set("X-User", who)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != want || !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s: %s %s = %d %s, want %d with %s", who, method, target, w.Code, w.Body, want, part)
			}
			return w.Header()
		}
		ask("me", "GET", "/v2/sessions/s", "", 404, "SESSION_NOT_FOUND")
		ask("me", "POST", "/v2/sessions", `{"session_id":"s","budget":{"tokens":500}}`, 201, `"tokens_budget_remaining":500`)
		ask("eve", "GET", "/v2/sessions/s", "", 404, "SESSION_NOT_FOUND")
		task := `{"model":"best","prompt":"hi","max_tokens":3,"session_id":"s"}`
		ask("op", "POST", "/v2/catalog/models", `{"id":"sim-8b","aliases":["best"]}`, 201, `"state":"Active"`)
		ask("me", "POST", "/v2/catalog/models", `{"id":"x"}`, 403, "FORBIDDEN")
		ask("me", "POST", "/v2/tasks/preview", task, 200, `"sim-8b"`)
		ask("me", "GET", "/v2/sessions/s", "", 200, `"turns":0`)
		if left := ask("me", "POST", "/v2/tasks", task, 202, "").Get("X-Budget-Tokens-Remaining"); left == "" || left == "500" {
			t.Errorf("X-Budget-Tokens-Remaining = %q, want less than 500", left)
		}
		ask("me", "GET", "/v2/sessions/s", "", 200, `"turns":1`)
		ask("me", "POST", "/v2/sessions/s/touch", "", 204, "")
		ask("op", "POST", "/v2/catalog/models/sim-8b/verify", "", 202, `"command":"verify"`)
		ask("op", "GET", "/v2/pools", "", 200, `"pool_id":"p"`)
		at := ask("op", "POST", "/v2/pools/p/drain", `{"deadline_ms":1000}`, 202, `"command":"drain"`).Get("Location")
		ask("op", "GET", at, "", 200, `"state":"running"`)
		ask("me", "GET", at, "", 403, "FORBIDDEN")
		ask("op", "GET", "/v2/operations/"+url.PathEscape("nothing"), "", 404, "NOT_FOUND")
		ask("op", "GET", "/v2/queue", "", 200, `"capacity":100`)
		ask("op", "GET", "/v2/tenants", "", 200, `"tenant":"default"`)
		ask("op", "POST", "/v2/catalog/models/sim-8b/state", `{"state":"Sleeping"}`, 400, `"field":"state"`)
		ask("op", "POST", "/v2/catalog/models/sim-8b/state", `{"state":"Retired"}`, 202, `"state":"Retired"`)
		ask("me", "POST", "/v2/tasks", task, 410, "MODEL_DEPRECATED")
		ask("op", "DELETE", "/v2/catalog/models/sim-8b", "", 204, "")
		for range 2 {
			ask("me", "DELETE", "/v2/sessions/s", "", 204, "")
		}
		synctest.Wait()
	})
}
