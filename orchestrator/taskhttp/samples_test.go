package taskhttp_test

import (
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

// sample is one request to a route that succeeds, and what the documents say of it.
type sample struct {
	summary string
	target  string
	body    string
	want    int
	request any            // value of the type of the body; nil = none
	reply   any            // value of the type of the answer; nil = none, a string = another media type
	query   []parameter    // of the query, and headers
	refused []taskapi.Code // what the engine may answer beside NOT_FOUND, INTERNAL and STORE_UNAVAILABLE
}

// parameter is one that a route reads. bad is a value that is refused, "" if
// none is.
type parameter struct{ in, name, text, bad string }

// asRoot makes a handler let everybody in with every role.
func asRoot(c *taskhttp.Config) { c.Authorize = root }

// playing is an engine on which every sample succeeds.
func playing() *fake {
	regional := started
	regional.data = taskapi.Started{JobID: theID.String(), QueueWaitMS: 42, Attempt: 1, Model: "llama3:8b", NodeID: "n1", NodeRegion: "DE"}
	return &fake{script: []step{regional, {typ: orchestrator.EventResult, data: `{"id":"x"}`}, end}, fakeRest: fakeRest{inSession: "s-1"}}
}

func sampleOf(t testing.TB, rt taskhttp.Route) sample {
	s, ok := samples()[rt.Method+" "+rt.Path]
	if !ok {
		t.Fatalf("%s %s has no sample", rt.Method, rt.Path)
	}
	return s
}

// admission is what a task may be refused with.
func admission() []taskapi.Code {
	return []taskapi.Code{
		taskapi.InvalidParams, taskapi.ConsentRequired, taskapi.ModelNotFound, taskapi.SessionLimit, taskapi.ModelDeprecated,
		taskapi.QueueFull, taskapi.DeadlineUnmet,
	}
}

// generation is what a task of a call may end with.
func generation() []taskapi.Code { return append(admission(), taskapi.Cancelled) }

func samples() map[string]sample {
	task := "/v2/tasks/" + theID.String()
	header := func(name, text, bad string) parameter { return parameter{"header", name, text, bad} }
	query := func(name, text, bad string) parameter { return parameter{"query", name, text, bad} }
	limit := query("limit", "1…1,000; default 100", "0")
	subject := query("subject", "tenant/user, or user; absent: the caller", "é")
	key := header("Idempotency-Key", "at most 128 printable ASCII bytes; makes the request repeatable", "é")
	v1 := []parameter{
		header("X-Priority", "interactive (default) or batch", "x"), header("X-Session-Id", "groups tasks", "a/b"),
		header("X-Allowed-Regions", "as DE, EU or EU-DE, with commas; they only narrow", "x"),
	}
	errorsOf := func(c ...taskapi.Code) []taskapi.Code { return c }
	operation := taskapi.Operation{}
	pool := func(what string) sample {
		return sample{what, "/v2/pools/n1%2Fp1/", "{}", 202, taskapi.PoolCommand{}, operation, nil, errorsOf(taskapi.OperationRunning)}
	}
	m := map[string]sample{
		"POST /v2/tasks":               {"Hand a task in; both shapes.", "/v2/tasks", `{"session_id":"s-1",` + simpleBody[1:], 202, taskapi.Submit{}, taskapi.Accepted{}, []parameter{key}, admission()},
		"POST /v2/tasks/preview":       {"What would happen to a task.", "/v2/tasks/preview", simpleBody, 200, taskapi.Submit{}, taskapi.Preview{}, []parameter{key}, admission()},
		"GET /v2/tasks":                {"Tasks, newest first; operators see all.", "/v2/tasks", "", 200, nil, taskapi.TaskList{}, []parameter{query("status", "of taskapi.Statuses, with commas", "x"), query("model", "", ""), query("session", "", ""), query("since", "RFC 3339", "x"), query("before", "a task id", "x"), limit}, nil},
		"GET /v2/tasks/{id}":           {"One task, without its text.", task, "", 200, nil, taskapi.Task{}, nil, nil},
		"DELETE /v2/tasks/{id}":        {"Cancel a task; its record stays.", task, "", 202, nil, taskapi.Stopped{}, nil, nil},
		"GET /v2/tasks/{id}/events":    {"Events of a task, resumable.", task + "/events", "", 200, nil, "text/event-stream", []parameter{query("after", "id of the last event that the reader has", "x"), query("verbose", "true: metrics carry prep, phase and human", ""), header("Last-Event-ID", "as after, and wins over it", "x")}, errorsOf(taskapi.ResumeWindowLost)},
		"POST /v2/tasks/{id}/cancel":   {"Cancel a task; an ended one is left as it is.", task + "/cancel", "", 204, nil, nil, nil, nil},
		"GET /v2/tasks/{id}/explain":   {"Why it went where it went, or why it waits.", task + "/explain", "", 200, nil, placement.Explanation{}, nil, nil},
		"POST /v2/sessions":            {"Open a session.", "/v2/sessions", "{}", 201, taskapi.OpenSession{}, taskapi.Session{}, nil, nil},
		"GET /v2/sessions/{id}":        {"One session; never makes one.", "/v2/sessions/s-1", "", 200, nil, taskapi.Session{}, nil, nil},
		"DELETE /v2/sessions/{id}":     {"End a session; cancels nothing.", "/v2/sessions/s-1", "", 204, nil, nil, nil, nil},
		"POST /v2/sessions/{id}/touch": {"Begin a session's time anew.", "/v2/sessions/s-1/touch", "", 204, nil, nil, nil, nil},
		"POST /v2/artifacts":           {"Keep bytes, at most 4 MiB, of any media type.", "/v2/artifacts?kind=plan", "{}", 201, "application/octet-stream", taskapi.Artifact{}, []parameter{query("kind", "of taskapi.ArtifactKinds; required", "x")}, nil},
		"GET /v2/artifacts/{id}":       {"The bytes of an artifact.", "/v2/artifacts/" + artifactID, "", 200, nil, "application/octet-stream", nil, nil},
		"GET /v2/catalog/models":       {"The catalogue.", "/v2/catalog/models", "", 200, nil, taskapi.CatalogList{}, nil, nil},
		"GET /v2/catalog/models/{id}":  {"One entry of the catalogue.", "/v2/catalog/models/owner%2Frepo", "", 200, nil, taskapi.CatalogModel{}, nil, nil},
		"GET /v2/meta/capabilities":    {"What workers report now.", "/v2/meta/capabilities", "", 200, nil, taskapi.Capabilities{}, nil, nil},
		"GET /v2/meta/version":         {"Versions.", "/v2/meta/version", "", 200, nil, taskapi.Version{}, nil, nil},
		"GET /openapi.yaml":            {"This document.", "/openapi.yaml", "", 200, nil, "application/yaml", nil, nil},

		"POST /v1/chat/completions": {"As OpenAI's.", "/v1/chat/completions", chatBody, 200, "application/json", "application/json", v1, generation()},
		"POST /v1/completions":      {"As OpenAI's.", "/v1/completions", simpleBody, 200, "application/json", "application/json", v1, generation()},
		"POST /v1/embeddings":       {"As OpenAI's.", "/v1/embeddings", `{"model":"m","input":"x"}`, 200, "application/json", "application/json", v1, generation()},
		"POST /v1/rerank":           {"Scores documents for a query.", "/v1/rerank", `{"model":"m","query":"x","documents":["y"]}`, 200, "application/json", "application/json", v1, generation()},
		"GET /v1/models":            {"What can be placed now.", "/v1/models", "", 200, nil, taskapi.ModelList{}, nil, nil},
		"GET /v1/models/{id}":       {"One model that can be placed now.", "/v1/models/owner%2Frepo", "", 200, nil, taskapi.Model{}, nil, nil},

		"POST /v2/catalog/models":             {"Add or replace an entry.", "/v2/catalog/models", `{"id":"owner/repo"}`, 201, taskapi.CatalogModel{}, taskapi.CatalogModel{}, nil, errorsOf(taskapi.Conflict)},
		"DELETE /v2/catalog/models/{id}":      {"Remove an entry.", "/v2/catalog/models/owner%2Frepo", "", 204, nil, nil, nil, nil},
		"POST /v2/catalog/models/{id}/verify": {"Have every node hash the model.", "/v2/catalog/models/owner%2Frepo/verify", "", 202, nil, operation, nil, errorsOf(taskapi.OperationRunning)},
		"POST /v2/catalog/models/{id}/state":  {"Retire a model, or bring it back.", "/v2/catalog/models/owner%2Frepo/state", `{"state":"Retired"}`, 202, taskapi.ModelState{}, taskapi.CatalogModel{}, nil, nil},
		"GET /v2/pools":                       {"All pools.", "/v2/pools", "", 200, nil, taskapi.PoolList{}, nil, nil},
		"GET /v2/pools/{id}/health":           {"One pool.", "/v2/pools/p1/health", "", 200, nil, taskapi.Pool{}, nil, errorsOf(taskapi.Conflict)},
		"POST /v2/pools/{id}/drain":           pool("No new work, and what runs may end."),
		"POST /v2/pools/{id}/undrain":         pool("Open for new work again."),
		"POST /v2/pools/{id}/reload":          pool("Another model in the same pool."),
		"POST /v2/pools/{id}/restart":         pool("Start the engines anew."),
		"POST /v2/pools/{id}/purge":           pool("Remove what the pool keeps on disk."),
		"GET /v2/operations/{id}":             {"How a command stands.", "/v2/operations/n1%2Fop-1", "", 200, nil, operation, nil, nil},
		"GET /v2/queue":                       {"The queue.", "/v2/queue", "", 200, nil, taskapi.Queue{}, nil, nil},
		"GET /v2/tenants":                     {"Tenants and their shares.", "/v2/tenants", "", 200, nil, taskapi.TenantList{}, nil, nil},
		"GET /v2/decisions":                   {"The newest decisions.", "/v2/decisions", "", 200, nil, taskapi.DecisionList{}, []parameter{limit}, nil},

		"GET /gdpr/export":   {"Everything stored about a person, then a manifest.", "/gdpr/export", "", 200, nil, "application/x-ndjson", []parameter{subject}, errorsOf(taskapi.Forbidden)},
		"POST /gdpr/delete":  {"Forget a person.", "/gdpr/delete", "{}", 200, taskapi.EraseRequest{}, taskapi.Erasure{}, nil, errorsOf(taskapi.Forbidden)},
		"GET /gdpr/consent":  {"What a person has said.", "/gdpr/consent", "", 200, nil, taskapi.ConsentList{}, []parameter{subject}, errorsOf(taskapi.Forbidden)},
		"POST /gdpr/consent": {"Record a consent or its revocation.", "/gdpr/consent", `{"purpose":"chat","granted":true}`, 200, taskapi.Consent{}, taskapi.ConsentList{}, nil, errorsOf(taskapi.Forbidden)},
		"GET /health":        {"The process answers.", "/health", "", 200, nil, taskapi.Status{}, nil, nil},
		"GET /readyz":        {"Tasks are admitted.", "/readyz", "", 200, nil, taskapi.Status{}, nil, nil},
	}
	for _, do := range []string{"drain", "undrain", "reload", "restart", "purge"} {
		s := m["POST /v2/pools/{id}/"+do]
		if s.target += do; do == "reload" {
			s.body = `{"model":"m"}`
		}
		m["POST /v2/pools/{id}/"+do] = s
	}
	return m
}
