package nodehttp_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

// spec is what this package needs of openapi.yaml.
type spec struct {
	Paths map[string]map[string]struct {
		Role      nodeapi.Role `json:"x-role"`
		Strict    bool         `json:"x-strict"`
		Body      *struct{}    `json:"requestBody"`
		Security  *[]any       `json:"security"`
		Responses map[string]struct {
			Ref string `json:"$ref"`
		} `json:"responses"`
	} `json:"paths"`
}

func readSpec(t *testing.T) spec {
	t.Helper()
	var s spec
	if err := json.Unmarshal(nodeapi.OpenAPI(), &s); err != nil {
		t.Fatalf("openapi.yaml is not in the JSON subset: %v", err)
	}
	return s
}

// observed notes which status each route answered with.
type observed map[string]map[int]bool

func (o observed) note(pattern string, status int) {
	if o[pattern] == nil {
		o[pattern] = map[int]bool{}
	}
	o[pattern][status] = true
}

// routeOf finds the pattern of a request "METHOD /path".
func routeOf(t *testing.T, r *http.Request) string {
	t.Helper()
	mux := http.NewServeMux()
	for _, r := range nodehttp.Routes() {
		mux.Handle(r.Pattern(), http.NotFoundHandler())
	}
	_, pattern := mux.Handler(r)
	return pattern
}

// PRG-53, PRG-55: openapi.yaml lists the routes of this package with their roles, and
// each with exactly the statuses that it answers with somewhere in these tests.
func TestOpenAPI(t *testing.T) {
	doc := readSpec(t)
	got := observed{}
	watch := func(s *server) *server {
		inner := s.h
		s.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := &status{ResponseWriter: w}
			at := r.Clone(r.Context())
			inner.ServeHTTP(rec, r)
			if pattern := routeOf(t, at); pattern != "" {
				got.note(pattern, rec.code)
			}
		})
		return s
	}
	for _, row := range errorRows() {
		if row.name == "status of Authorize" { // which may be any
			continue
		}
		row.send(watch(row.server(t, "root")))
	}
	for _, r := range nodehttp.Routes() {
		sweep(t, got, watch, r, doc.Paths[r.Path][strings.ToLower(r.Method)].Body != nil)
	}
	successes(t, watch)

	for _, r := range nodehttp.Routes() {
		op, ok := doc.Paths[r.Path][strings.ToLower(r.Method)]
		if !ok || op.Role != r.Role || op.Strict != r.Strict || op.Security != nil || r.Open {
			t.Errorf("%s: documented as %+v", r.Pattern(), op)
			continue
		}
		var want []int
		for text := range op.Responses {
			var n int
			if _, err := fmt.Sscan(text, &n); err != nil {
				t.Fatal(err)
			}
			want = append(want, n)
		}
		slices.Sort(want)
		if have := slices.Sorted(maps.Keys(got[r.Pattern()])); !slices.Equal(have, want) {
			t.Errorf("%s answers with %v, documented are %v", r.Pattern(), have, want)
		}
	}
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Write(b []byte) (int, error) {
	if s.code == 0 {
		s.code = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}

// sweep provokes on one route what every route has in common.
func sweep(t *testing.T, got observed, watch func(*server) *server, r nodeapi.Route, body bool) {
	t.Helper()
	at := strings.Replace(r.Pattern(), "{id}", "a", 1)
	fresh := func() *server {
		s := watch(newServer(t, poolregistry.Config{}, "root"))
		s.register("a")
		return s
	}
	want := func(code int, res *http.Response) {
		t.Helper()
		if res.StatusCode != code {
			t.Errorf("%s: %s, want %d", at, res.Status, code)
		}
	}
	want(401, fresh().do("", at, ""))
	want(403, fresh().do("stranger", at, ""))
	want(500, fresh().do("panic", at, ""))
	res := fresh().do("operator", "PATCH"+at[strings.Index(at, " "):], "")
	want(405, res)
	got.note(r.Pattern(), res.StatusCode)
	if allow := res.Header.Get("Allow"); !strings.Contains(allow, r.Method) {
		t.Errorf("%s: Allow %q", at, allow)
	}
	if strings.Contains(r.Path, "{id}") {
		want(404, fresh().do("operator", strings.Replace(r.Pattern(), "{id}", "unknown", 1), `{"reason":"x"}`))
	}
	if body {
		want(413, fresh().do("operator", at, strings.Repeat(" ", 256<<10+1)+"{}", own))
		want(400, fresh().do("operator", at, `{"a":1,"a":2}`, own))
		want(400, fresh().do("operator", at, `{} {}`, own))
		want(415, fresh().do("operator", at, `{}`, own, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }))
	}
}

// own makes the caller of a heartbeat the principal of the node a.
func own(r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/heartbeat") {
		r.Header.Set("Authorization", "Bearer node")
	}
}

// successes uses every route as it is meant, and the conflicts of leaving.
func successes(t *testing.T, watch func(*server) *server) {
	t.Helper()
	s := watch(newServer(t, poolregistry.Config{}, "root"))
	lease := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(nodeapi.HeaderLease, token) }
	}
	s.register("a")
	old := s.lease
	s.do("node", "POST /v2/nodes/register", strings.Replace(registration("a"), "001\"", `002","lease_token":"`+s.lease+`"`, 1))
	if res := s.do("node", "DELETE /v2/nodes/a", "", lease(old)); res.StatusCode != http.StatusConflict {
		t.Errorf("leave with a lease of before: %s", res.Status)
	}
	s.do("operator", "POST /v2/nodes/a/release", "")
	s.register("a")
	for _, step := range []struct{ who, route, body string }{
		{"node", beatA, s.beat("a")},
		{"reader", "GET /v2/nodes", ""},
		{"reader", "GET /v2/nodes/a", ""},
		{"reader", "GET /v2/catalog/availability", ""},
		{"operator", "POST /v2/nodes/a/cordon", ""},
		{"operator", "POST /v2/nodes/a/uncordon", ""},
		{"operator", "POST /v2/nodes/a/drain", `{"deadline_ms":1}`},
		{"operator", "POST /v2/nodes/a/fail", `{"reason":"x"}`},
		{"operator", "POST /v2/nodes/a/clear", ""},
		{"operator", "POST /v2/nodes/guard/release", ""},
		{"node", "DELETE /v2/nodes/a", ""},
		{"operator", "POST /v2/nodes/a/uncordon", ""},
		{"node", "POST /workers/register", `{"id":"w","host":"10.0.0.9","port":8000,"model":"m"}`},
		{"node", "POST /v2/workers/register", `{"id":"w","host":"10.0.0.9","port":8000,"model":"m"}`},
	} {
		if res := s.do(step.who, step.route, step.body, lease(s.lease)); res.StatusCode/100 != 2 {
			t.Errorf("%s: %s", step.route, res.Status)
		}
	}
	for _, route := range []string{"POST /workers/register", "POST /v2/workers/register"} { // the same refusals at both paths
		s.do("node2", route, `{"id":"w","host":"10.0.0.9","port":8000,"model":"m"}`)
		s.do("node", route, `{"id":"x","host":"10.0.0.9","port":8000,"model":"m"}`)
	}
	without := watch(newServer(t, poolregistry.Config{}, "root", func(c *nodehttp.Config) { c.Static = nil }))
	without.do("node", "POST /workers/register", `{}`)
	without.do("node", "POST /v2/workers/register", `{}`)
}

// PRG-53: the table is what an assembly needs: every route once, nothing open,
// and whatever changes something strict.
func TestRoutes(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range nodehttp.Routes() {
		if seen[r.Pattern()] || r.Open || r.Strict != (r.Method != http.MethodGet) || r.Role == "" {
			t.Errorf("route %+v", r)
		}
		seen[r.Pattern()] = true
	}
	for _, p := range []string{
		nodeapi.RouteRegister, nodeapi.RouteHeartbeat, nodeapi.RouteLeave, nodeapi.RouteNodes, nodeapi.RouteNode, nodeapi.RouteCordon,
		nodeapi.RouteUncordon, nodeapi.RouteNodeDrain, nodeapi.RouteFail, nodeapi.RouteClear, nodeapi.RouteRelease, nodeapi.RouteGuardRelease,
		nodeapi.RouteAvailability, nodeapi.RouteStatic, nodeapi.RouteStaticV2,
	} {
		if !seen[p] {
			t.Errorf("%s is not served", p)
		}
		delete(seen, p)
	}
	if len(seen) > 0 {
		t.Errorf("served and not named: %v", seen)
	}
}
