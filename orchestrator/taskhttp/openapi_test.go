package taskhttp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

// object is a piece of the document.
type object = map[string]any

// seen is what the routes really answered: per route and status, the headers.
type seen map[string]map[int]map[string]bool

func (s seen) note(route string, w *httptest.ResponseRecorder) {
	if s[route] == nil {
		s[route] = map[int]map[string]bool{}
	}
	if s[route][w.Code] == nil {
		s[route][w.Code] = map[string]bool{}
	}
	for name := range w.Header() {
		s[route][w.Code][name] = true
	}
}

// TestOpenAPIRoutes proves ORC-760 and chapter 6: taskapi/openapi.yaml says of
// every route exactly what it does: role, parameters, bodies, each status that
// these requests bring about, the headers of the answers, and the members of all
// types. With -update the document is written anew from the code.
func TestOpenAPIRoutes(t *testing.T) {
	got := seen{}
	for _, rt := range taskhttp.Routes() {
		sweep(t, got, rt)
	}
	doc := append(layout(t, nil, document(t, got), 0), '\n')
	if *update {
		if err := os.WriteFile("../taskapi/openapi.yaml", doc, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	var served, want object
	if err := json.Unmarshal(taskapi.OpenAPI(), &served); err != nil {
		t.Fatalf("openapi.yaml is not in the JSON subset: %v", err)
	}
	if err := json.Unmarshal(doc, &want); err != nil {
		t.Fatal(err)
	}
	differ(t, "", served, want)
	if w := do(handler(playing()), "GET", "/openapi.yaml", ""); !bytes.Equal(w.Body.Bytes(), taskapi.OpenAPI()) {
		t.Error("GET /openapi.yaml serves something else")
	}
}

// layout writes objects of the first levels member by member, and what is below on
// one line each, so that a person can read the document and its changes.
func layout(t *testing.T, dst []byte, v any, level int) []byte {
	const unfolded = 4 // down to the responses of an operation, and the members of a schema
	o, ok := v.(object)
	if !ok || level > unfolded || len(o) == 0 {
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		return append(dst, bytes.TrimSpace(buf.Bytes())...)
	}
	margin := "\n" + strings.Repeat("  ", level)
	sep := "{" + margin + "  "
	for _, name := range slices.Sorted(maps.Keys(o)) {
		dst = append(append(append(dst, sep...), strconv.Quote(name)...), ": "...)
		dst = layout(t, dst, o[name], level+1)
		sep = "," + margin + "  "
	}
	return append(append(dst, margin...), '}')
}

// differ names what the document and the code do not agree on.
func differ(t *testing.T, at string, doc, code any) {
	t.Helper()
	d, ok1 := doc.(object)
	c, ok2 := code.(object)
	if !ok1 || !ok2 {
		a, _ := json.Marshal(doc)
		b, _ := json.Marshal(code)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: documented as %.300s, the code says %.300s", at, a, b)
		}
		return
	}
	both := maps.Clone(d)
	maps.Copy(both, c)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		differ(t, at+" "+name, d[name], c[name])
	}
}

// sweep brings about what a route has to offer.
func sweep(t *testing.T, got seen, rt taskhttp.Route) {
	t.Helper()
	s, key := sampleOf(t, rt), rt.Method+" "+rt.Path
	ask := func(f *fake, target, body, head string, edit ...func(*taskhttp.Config)) *httptest.ResponseRecorder {
		method, rest, other := strings.Cut(target, " ")
		if !other {
			method, rest = rt.Method, target
		}
		w := do(handler(f, append([]func(*taskhttp.Config){asRoot}, edit...)...), method, rest, body, head)
		got.note(key, w)
		return w
	}
	want := func(status int, w *httptest.ResponseRecorder) {
		t.Helper()
		if w.Code != status {
			t.Errorf("%s: %d %s, want %d", key, w.Code, w.Body, status)
		}
	}
	const plain = "X-Session-Id: s-1"
	want(s.want, ask(playing(), s.target, s.body, plain))
	want(405, ask(playing(), "PATCH "+s.target, s.body, plain))
	if rt.Role != 0 {
		want(401, ask(playing(), s.target, s.body, plain, func(c *taskhttp.Config) {
			c.Authorize = func(*http.Request) (orchestrator.Principal, error) { return orchestrator.Principal{}, errors.New("no") }
		}))
		want(403, ask(playing(), s.target, s.body, plain, func(c *taskhttp.Config) {
			c.Authorize = func(*http.Request) (orchestrator.Principal, error) {
				return orchestrator.Principal{Roles: ^rt.Role}, nil
			}
		}))
	}
	if s.request != nil {
		want(413, ask(playing(), s.target, s.body, plain, func(c *taskhttp.Config) { c.MaxBody = 1 }))
		want(415, ask(playing(), s.target, s.body, "Content-Encoding: br"))
		if s.request != "application/octet-stream" {
			want(415, ask(playing(), s.target, s.body, "Content-Type: text/plain"))
			want(400, ask(playing(), s.target, "[]", plain))
		}
	}
	for _, p := range s.query {
		switch {
		case p.bad != "" && p.in == "header":
			want(400, ask(playing(), s.target, s.body, p.name+": "+p.bad))
		case p.bad != "":
			path, _, _ := strings.Cut(s.target, "?")
			want(400, ask(playing(), path+"?"+p.name+"="+p.bad, s.body, plain))
		}
	}
	if before, after, ok := strings.Cut(rt.Path, "{id}"); ok {
		w := ask(playing(), before+"unknown"+after, s.body, plain)
		if w.Code != 404 && w.Code != 204 {
			t.Errorf("%s of what does not exist: %d", key, w.Code)
		}
	}
	if strings.HasSuffix(rt.Path, "/events") {
		want(204, ask(playing(), s.target+"?after=3", "", plain))
	}
	for _, c := range append([]taskapi.Code{taskapi.Internal, taskapi.StoreUnavailable}, s.refused...) {
		f := playing()
		e := taskapi.NewError(c)
		f.refusal, f.readErr, f.fault, f.notReady = e, e, e, e
		ask(f, s.target, s.body, plain)
	}
}

// document is the whole of it.
func document(t *testing.T, got seen) object {
	types := newSchemas(t)
	paths := object{}
	for _, rt := range taskhttp.Routes() {
		at, ok := paths[rt.Path].(object)
		if !ok {
			at = object{}
			paths[rt.Path] = at
		}
		at[strings.ToLower(rt.Method)] = operation(t, rt, got[rt.Method+" "+rt.Path], types)
	}
	for _, v := range []any{
		taskapi.ErrorBody{},
		taskapi.OpenAIErrorBody{},
		taskapi.Queued{},
		taskapi.Started{},
		taskapi.Token{},
		taskapi.Metrics{},
		taskapi.End{},
		taskapi.ErrorEvent{},
		taskapi.ExportLine{},
	} {
		types.ref(v)
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "llorch: tasks", "version": taskapi.APIVersion, "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Tasks with resumable event streams under /v2, OpenAI-compatible calls under /v1. Unknown members of a body are ignored. " +
				"Ids in paths are one percent-encoded segment; a pool is node/pool, or a bare name that only one node has. " +
				"X-Tenant-Id, where it is sent, must be the caller's own. Of X-Deadline, X-Request-Timeout-Ms, grpc-timeout and deadline_ms the earliest binds. " +
				"Every answer carries X-Correlation-Id. No answer may be stored; no error repeats what was sent.",
		},
		"security": []any{object{"bearer": []any{}}},
		"paths":    paths,
		"components": object{
			"securitySchemes": object{"bearer": object{"type": "http", "scheme": "bearer"}},
			"responses":       refusals(t, got), "schemas": types.out,
		},
	}
}

// operation describes one route.
func operation(t *testing.T, rt taskhttp.Route, answers map[int]map[string]bool, types *schemas) object {
	t.Helper()
	s := sampleOf(t, rt)
	op := object{"operationId": operationID(rt), "summary": s.summary, "x-role": roles(rt.Role), "x-group": groups()[rt.Group]}
	if rt.Role == 0 {
		op["security"] = []any{}
	}
	var params []any
	if strings.Contains(rt.Path, "{id}") {
		params = append(params, object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range s.query {
		params = append(params, object{"name": p.name, "in": p.in, "description": p.text, "schema": object{"type": "string"}})
	}
	if params != nil {
		op["parameters"] = params
	}
	if s.request != nil {
		op["requestBody"] = object{"content": types.content(s.request)}
	}
	if strings.HasSuffix(rt.Path, "/events") {
		op["x-events"] = object{
			"queued": types.ref(taskapi.Queued{}), "started": types.ref(taskapi.Started{}), "token": types.ref(taskapi.Token{}),
			"metrics": types.ref(taskapi.Metrics{}), "result": object{}, "end": types.ref(taskapi.End{}), "error": types.ref(taskapi.ErrorEvent{}),
		}
	}
	responses := object{}
	for status, headers := range answers {
		text := strconv.Itoa(status)
		if status >= 400 {
			responses[text] = object{"$ref": "#/components/responses/" + family(rt.Path) + text}
			continue
		}
		r := object{"description": http.StatusText(status), "headers": documented(t, headers)}
		if s.reply != nil && status != http.StatusNoContent {
			r["content"] = types.content(s.reply)
		}
		responses[text] = r
	}
	op["responses"] = responses
	return op
}

// operationID names a route for programs that are made from the document.
func operationID(rt taskhttp.Route) string {
	words := strings.FieldsFunc(rt.Path, func(r rune) bool { return strings.ContainsRune("/{}.-", r) })
	return strings.ToLower(rt.Method) + "_" + strings.Join(words, "_")
}

func family(path string) string {
	if strings.HasPrefix(path, "/v1/") {
		return "V1E"
	}
	return "E"
}

func groups() map[taskhttp.Group]string {
	return map[taskhttp.Group]string{0: "always", taskhttp.OpenAI: "openai", taskhttp.Privacy: "privacy", taskhttp.Admin: "admin", taskhttp.Health: "health"}
}

func roles(r orchestrator.Role) []string {
	out := []string{}
	for _, x := range []struct {
		r orchestrator.Role
		s string
	}{{orchestrator.RoleUser, "user"}, {orchestrator.RoleOperator, "operator"}, {orchestrator.RolePrivacy, "privacy"}} {
		if r&x.r != 0 {
			out = append(out, x.s)
		}
	}
	return out
}

// refusals are the error answers, whose body is one for each front.
func refusals(t *testing.T, got seen) object {
	t.Helper()
	headers := map[string]map[string]bool{}
	for route, answers := range got {
		_, path, _ := strings.Cut(route, " ")
		for status, names := range answers {
			if key := family(path) + strconv.Itoa(status); status >= 400 {
				if headers[key] == nil {
					headers[key] = map[string]bool{}
				}
				maps.Copy(headers[key], names)
			}
		}
	}
	out := object{}
	for key, names := range headers {
		status, _ := strconv.Atoi(key[len(key)-3:])
		var codes []string
		for _, c := range taskapi.Codes() {
			if c.Status() == status || status == 400 && c == taskapi.DeadlineUnmet {
				codes = append(codes, string(c))
			}
		}
		body := "ErrorBody"
		if strings.HasPrefix(key, "V1") {
			body = "OpenAIErrorBody"
		}
		out[key] = object{
			"description": strings.Join(codes, ", "), "headers": documented(t, names),
			"content": object{"application/json": object{"schema": object{"$ref": "#/components/schemas/" + body}}},
		}
	}
	return out
}

// documented describes headers; those of every answer go without saying.
func documented(t *testing.T, names map[string]bool) object {
	t.Helper()
	texts := map[string]string{
		"X-Correlation-Id": "finds the request in logs", "X-Request-Id": "the same, as OpenAI clients read it", "Location": "of what was made or begun",
		"X-Budget-Tokens-Remaining": "of the session, if it has a budget", "X-Task-Id": "of the task that ran", "X-Queue-Ms": "how long it waited",
		"X-Node-Region": "country or group of the node, if known", "Allow": "the methods of the path", "Www-Authenticate": "Bearer",
		"Retry-After": "seconds, at least 1", "X-Backoff-Ms": "the same hint in ms", "Retry-After-Ms": "the same hint in ms",
		"X-Artifact-Kind": "of taskapi.ArtifactKinds", "Content-Disposition": "attachment", "Connection": "keep-alive, on HTTP/1.1", "X-Accel-Buffering": "no",
	}
	out := object{}
	for name := range names {
		switch text := texts[name]; {
		case slices.Contains([]string{"Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options"}, name):
		case text == "":
			t.Errorf("header %s is not described", name)
		default:
			out[name] = object{"description": text, "schema": object{"type": "string"}}
		}
	}
	return out
}
