package taskhttp_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

// TestRest proves ORC-760 for the routes beside tasks: what was asked reaches the
// engine, and what it answers has the documented form.
func TestRest(t *testing.T) {
	const operation = `{"operation_id":"n1/op-1","pool_id":"p1","node_id":"n1","command":"drain","state":"running","phase":"load","bytes_done":5}`
	const consents = `{"consents":[{"purpose":"chat","granted":true,"at":"1970-01-01T00:00:00Z"}]}`
	for _, tt := range []struct{ method, target, body, reply, calls, location string }{
		{"POST", "/v2/sessions", "", `{"session_id":"s-new","ttl_ms_remaining":60000,"turns":2,"kv_warmth":true,"tokens_budget_remaining":90,"worker":"n1/p1/r0"}`, "open session s-new 0", "/v2/sessions/s-new"},
		{"POST", "/v2/sessions", `{"session_id":"s-2","budget":{"tokens":7}}`, "", "open session s-2 7", "/v2/sessions/s-2"},
		{"DELETE", "/v2/sessions/s%2F3", "", "", "end session s/3", ""},
		{"POST", "/v2/artifacts?kind=logs", "{}", `{"id":"` + artifactID + `","kind":"logs","bytes":2,"created_at":"1970-01-01T00:00:00Z","url":"/v2/artifacts/` + artifactID + `"}`, `put logs "{}"`, "/v2/artifacts/" + artifactID},
		{"GET", "/v2/artifacts/" + artifactID, "", "<b>test", "", ""},
		{"GET", "/v2/catalog/models/owner%2Frepo", "", `{"id":"owner/repo","state":"Active","last_verified_ms":7,"verified":[{"node_id":"n1","result":"pass"}]}`, "", ""},
		{"POST", "/v2/catalog/models", `{"id":"a/b","tags":["t"]}`, `{"id":"a/b","state":"Active","tags":["t"]}`, "put model {ID:a/b Digest: Source: State:Active Aliases:[] Tags:[t] Successor: Deadline:0001-01-01 00:00:00 +0000 UTC LastVerified:0001-01-01 00:00:00 +0000 UTC Verified:[]}", "/v2/catalog/models/a%2Fb"},
		{"POST", "/v2/catalog/models/owner%2Frepo/state", `{"state":"Retired","deadline_ms":1500}`, `{"id":"owner/repo","state":"Retired"}`, "model state owner/repo Retired 1.5s", ""},
		{"POST", "/v2/catalog/models/owner%2Frepo/verify", "", strings.Replace(operation, "drain", "verify", 1), "", "/v2/operations/n1%2Fop-1"},
		{"DELETE", "/v2/catalog/models/a%2Fb", "", "", "delete model a/b", ""},
		{"POST", "/v2/pools/n1%2Fp1/drain", `{"deadline_ms":2000,"force":true}`, operation, "drain n1/p1 model= within=2s force=true", "/v2/operations/n1%2Fop-1"},
		{"POST", "/v2/pools/p1/reload", `{"model":"m"}`, "", "reload n1/p1 model=m within=0s force=false", "/v2/operations/n1%2Fop-1"},
		{"POST", "/v2/pools/n2%2Fp2/restart", "", "", "restart n2/p2 model= within=0s force=false", "/v2/operations/n1%2Fop-1"},
		{"GET", "/v2/pools/n1%2Fp2/health", "", `{"pool_id":"p2","node_id":"n1","ready":false,"draining":false,"reason":"starting","models":[],"slots_total":0,"slots_active":0,"workers_quarantined":0}`, "", ""},
		{"GET", "/v2/operations/n1%2Fop-1", "", operation, "", ""},
		{"GET", "/v2/queue", "", `{"capacity":100,"waiting":2,"bytes":64,"oldest_ms":3000,"classes":{"batch":2}}`, "", ""},
		{"GET", "/v2/tenants", "", `{"tenants":[{"tenant":"acme","weight":2,"waiting":2,"running":1,"virtual_time":7,"tokens_today":99}]}`, "", ""},
		{"GET", "/v2/decisions?limit=7", "", "", "decisions 7", ""},
		{"POST", "/gdpr/delete", "", `{"key_id":"k-1","audit_seq":9,"at":"1970-01-01T00:00:00Z","tasks":3,"outputs":0,"documents":0,"cancelled":0}`, "erase u ", ""},
		{"POST", "/gdpr/delete", `{"subject":"acme/eva","reason":"art-17"}`, "", "erase acme/eva art-17", ""},
		{"GET", "/gdpr/consent?subject=acme%2Feva", "", consents, "consents acme/eva", ""},
		{"POST", "/gdpr/consent", `{"purpose":"chat","granted":true}`, consents, "consent u chat true, consents u", ""},
		{"GET", "/v2/meta/version", "", "", "", ""},
		{"POST", "/v2/tasks/preview", simpleBody, "", "preview llama3:8b", ""},
	} {
		f := playing()
		f.verdicts = []orchestrator.Verdict{{Node: "n1", Result: "pass"}}
		w := do(handler(f, asRoot), tt.method, tt.target, tt.body)
		if got := strings.Join(f.calls, ", "); w.Code > 299 || got != tt.calls || tt.reply != "" && w.Body.String() != tt.reply || w.Header().Get("Location") != tt.location {
			t.Errorf("%s %s: %d %v\n%s\nwant %s\ncalls %q, want %q", tt.method, tt.target, w.Code, w.Header(), w.Body, tt.reply, got, tt.calls)
		}
	}
}

// TestPreview: each check says whether it passes, and by which code it would not.
func TestPreview(t *testing.T) {
	w := do(handler(playing()), "POST", "/v2/tasks/preview", simpleBody)
	var p taskapi.Preview
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	want := []taskapi.Check{{Name: "accepting", Pass: true}, {Name: "quota", Code: taskapi.QuotaExceeded}}
	if !slices.Equal(p.Checks, want) || p.QueuePosition != 3 || p.PredictedStartMS != 1000 || p.PredictedBandMS != 1 || p.Explanation == nil {
		t.Errorf("preview = %s", w.Body)
	}
}

// TestPoolNames proves ORC-760: a bare name must be one node's alone.
func TestPoolNames(t *testing.T) {
	h := handler(playing(), asRoot)
	for id, want := range map[string]string{
		"p1": "OK", "n1%2Fp1": "OK", "n2%2Fp2": "OK", "p2": "CONFLICT", "p3": "POOL_NOT_FOUND", "n2%2Fp1": "POOL_NOT_FOUND", "n1": "POOL_NOT_FOUND",
		"n1%2F": "POOL_NOT_FOUND", "%2Fp1": "POOL_NOT_FOUND", "n1%2Fp1%2Fr0": "POOL_NOT_FOUND",
	} {
		if w := do(h, "GET", "/v2/pools/"+id+"/health", ""); code(w) != want {
			t.Errorf("pool %s: %d %s, want %s", id, w.Code, w.Body, want)
		}
		if w := do(h, "POST", "/v2/pools/"+id+"/undrain", ""); want != "OK" && code(w) != want {
			t.Errorf("undrain %s: %d %s, want %s", id, w.Code, w.Body, want)
		}
	}
}

// TestUnknownIs404 proves ORC-764: what nobody knows is 404 with the code of its
// kind, never an object made up for the answer.
func TestUnknownIs404(t *testing.T) {
	f := playing()
	h := handler(f, asRoot)
	for target, want := range map[string]string{
		"GET /v2/tasks/" + foreignID: "NOT_FOUND", "DELETE /v2/tasks/" + foreignID: "NOT_FOUND", "GET /v2/tasks/" + foreignID + "/events": "NOT_FOUND",
		"GET /v2/sessions/none": "SESSION_NOT_FOUND", "POST /v2/sessions/none/touch": "SESSION_NOT_FOUND",
		"GET /v2/artifacts/" + strings.Repeat("0", 64): "NOT_FOUND", "GET /v2/artifacts/x": "NOT_FOUND", "GET /v2/artifacts/" + strings.ToUpper(artifactID): "NOT_FOUND",
		"GET /v2/catalog/models/none": "MODEL_NOT_FOUND", "GET /v1/models/none": "MODEL_NOT_FOUND", "POST /v2/catalog/models/none/verify": "MODEL_NOT_FOUND",
		"GET /v2/pools/none/health": "POOL_NOT_FOUND", "POST /v2/pools/none/drain": "POOL_NOT_FOUND", "GET /v2/operations/none": "NOT_FOUND",
	} {
		method, path, _ := strings.Cut(target, " ")
		if w := do(h, method, path, ""); w.Code != 404 || code(w) != want {
			t.Errorf("%s: %d %s, want %s", target, w.Code, w.Body, want)
		}
	}
	if len(f.calls) > 0 {
		t.Errorf("the engine was told %q", f.calls)
	}
}

// TestFullTaskID: ids are told apart by all of their 16 bytes, on every route.
func TestFullTaskID(t *testing.T) {
	h := handler(playing())
	for i := range theID {
		other := theID
		other[i] ^= 1
		for _, rt := range taskhttp.Routes() {
			if !strings.HasPrefix(rt.Path, "/v2/tasks/{id}") {
				continue
			}
			if w := do(h, rt.Method, strings.Replace(rt.Path, "{id}", other.String(), 1), ""); w.Code != 404 {
				t.Errorf("%s %s of a task that differs in byte %d: %d", rt.Method, rt.Path, i, w.Code)
			}
		}
	}
}

// TestArtifacts: bytes of any media type go in and come out as they were, and no
// browser shall take them for a page.
func TestArtifacts(t *testing.T) {
	f := playing()
	w := do(handler(f), "POST", "/v2/artifacts?kind=diff", "\x00\xff", "Content-Type: image/png")
	if w.Code != 201 || len(f.calls) != 1 || f.calls[0] != `put diff "\x00\xff"` {
		t.Errorf("%d %s, %q", w.Code, w.Body, f.calls)
	}
	w = do(handler(f), "GET", "/v2/artifacts/"+artifactID, "")
	h := w.Header()
	if w.Body.String() != "<b>test" || h.Get("Content-Type") != "application/octet-stream" || h.Get("X-Content-Type-Options") != "nosniff" ||
		h.Get("Content-Disposition") != "attachment" || h.Get("X-Artifact-Kind") != "plan" || h.Get("Content-Length") != "7" {
		t.Errorf("%v %s", h, w.Body)
	}
	large := strings.Repeat("x", taskapi.MaxArtifact+1)
	if w := do(handler(f), "POST", "/v2/artifacts?kind=diff", large); w.Code != 413 || !strings.Contains(w.Body.String(), `"limit":4194304`) {
		t.Errorf("too large: %d %s", w.Code, w.Body)
	}
	if w := do(handler(f), "POST", "/v2/artifacts?kind=diff", large[1:]); w.Code != 201 {
		t.Errorf("as large as may be: %d %s", w.Code, w.Body)
	}
}

// TestExport proves ORC-840 on this side: one line for each thing; a failure keeps
// its status before the first byte, and is the last line after it.
func TestExport(t *testing.T) {
	items := []orchestrator.ExportItem{{Section: "tasks", Data: map[string]int{"n": 1}}, {Section: "manifest", Data: "x"}}
	const lines = `{"section":"tasks","data":{"n":1}}` + "\n" + `{"section":"manifest","data":"x"}` + "\n"
	for name, tt := range map[string]struct {
		f    fakeRest
		code int
		want string
	}{
		"whole":   {fakeRest{exported: items}, 200, lines},
		"nothing": {fakeRest{}, 200, ""},
		"refused": {fakeRest{fault: taskapi.NewError(taskapi.Forbidden)}, 403, `{"error":{"code":"FORBIDDEN","message":"This caller may not do that.","retriable":false,"correlation_id":"c-1"}}`},
		"broken": {
			fakeRest{exported: items[:1], exportErr: errors.New("secret")}, 200, lines[:35] +
				`{"error":{"code":"INTERNAL","message":"Something went wrong here; the correlation id finds it in the log.","retriable":false,"correlation_id":"c-1"}}` + "\n",
		},
		"no JSON": {
			fakeRest{exported: append(items[:1:1], orchestrator.ExportItem{Data: func() {}})}, 200, lines[:35] +
				`{"error":{"code":"INTERNAL","message":"Something went wrong here; the correlation id finds it in the log.","retriable":false,"correlation_id":"c-1"}}` + "\n",
		},
	} {
		w := do(handler(&fake{fakeRest: tt.f}, asRoot), "GET", "/gdpr/export?subject=eva", "")
		if w.Code != tt.code || w.Body.String() != tt.want || tt.code == 200 && w.Header().Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s: %d %v %s\nwant %s", name, w.Code, w.Header(), w.Body, tt.want)
		}
	}
}

// TestHealth proves ORC-760: no caller is asked who they are; readiness follows the
// engine's word.
func TestHealth(t *testing.T) {
	f := playing()
	h := handler(f, func(c *taskhttp.Config) {
		c.Authorize = func(*http.Request) (orchestrator.Principal, error) { return orchestrator.Principal{}, errors.New("no") }
	})
	for _, target := range []string{"/health", "/readyz"} {
		if w := do(h, "GET", target, ""); w.Code != 200 || w.Body.String() != `{"status":"ok"}` {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	f.notReady = taskapi.NewError(taskapi.ShuttingDown)
	if w := do(h, "GET", "/readyz", ""); w.Code != 503 || code(w) != "SHUTTING_DOWN" || w.Header().Get("Retry-After") != "2" {
		t.Errorf("/readyz: %d %s", w.Code, w.Body)
	}
	if w := do(h, "GET", "/health", ""); w.Code != 200 {
		t.Errorf("/health: %d", w.Code)
	}
}

// TestMeta proves ORC-764: versions are those of the document, and lists are never
// null.
func TestMeta(t *testing.T) {
	h := handler(playing(), func(c *taskhttp.Config) { c.Version = "1.2.3" })
	var v taskapi.Version
	var doc struct{ Info struct{ Version string } }
	if err := errors.Join(json.Unmarshal(do(h, "GET", "/v2/meta/version", "").Body.Bytes(), &v), json.Unmarshal(taskapi.OpenAPI(), &doc)); err != nil {
		t.Fatal(err)
	}
	if v.APIVersion != "2.0.0" || doc.Info.Version != v.APIVersion || v.Version != "1.2.3" || !strings.HasPrefix(v.Go, "go1.") {
		t.Errorf("version = %+v, document %s", v, doc.Info.Version)
	}
	const want = `{"api_version":"2.0.0","engines":[{"engine":"vllm","versions":["0.11"],"models":["m"],"workloads":["chat"],"features":[],"ctx_max":8192,"slots":4,"batching":true}]}`
	if w := do(h, "GET", "/v2/meta/capabilities", ""); w.Body.String() != want {
		t.Errorf("capabilities = %s", w.Body)
	}
}
