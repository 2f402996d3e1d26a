package nodehttp_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// commandErrors are the refusals of operators' commands, static workers and lists.
func commandErrors() []errorRow {
	send := func(who, route, body string) func(*server) *http.Response {
		return func(s *server) *http.Response { return s.do(who, route, body) }
	}
	worker := `{"id":"vllm","host":"10.0.0.9","port":8000,"model":"m"}`
	return []errorRow{
		{"node cordons", send("node", "POST /v2/nodes/a/cordon", ""), 403, "FORBIDDEN", nil},
		{"reader drains", send("reader", "POST /v2/nodes/a/drain", `{}`), 403, "FORBIDDEN", nil},
		{"node releases the guard", send("node", "POST /v2/nodes/guard/release", ""), 403, "FORBIDDEN", nil},
		{"unknown node cordoned", send("operator", "POST /v2/nodes/b/cordon", ""), 404, "NODE_UNKNOWN", nil},
		{"unknown node released", send("operator", "POST /v2/nodes/b/release", ""), 404, "NODE_UNKNOWN", nil},
		{"impossible id released", send("operator", "POST /v2/nodes/..%2Fcanary/release", ""), 404, "NODE_UNKNOWN", nil},
		{"cordon while draining", func(s *server) *http.Response {
			s.do("operator", "POST /v2/nodes/a/drain", `{"deadline_ms":60000}`)
			return s.do("operator", "POST /v2/nodes/a/cordon", "")
		}, 409, "ILLEGAL_TRANSITION", nil},
		{"clear without failure", send("operator", "POST /v2/nodes/a/clear", ""), 409, "ILLEGAL_TRANSITION", nil},
		{"failed twice", func(s *server) *http.Response {
			s.do("operator", "POST /v2/nodes/a/fail", `{"reason":"x"}`)
			return s.do("operator", "POST /v2/nodes/a/fail", `{"reason":"x"}`)
		}, 409, "ILLEGAL_TRANSITION", nil},
		{"drain into the past", send("operator", "POST /v2/nodes/a/drain", `{"deadline_ms":-1}`), 400, "INVALID_NODE", wantFields("deadline_ms: range")},
		{"drain for ever", send("operator", "POST /v2/nodes/a/drain", `{"deadline_ms":9223372036854775807}`), 400, "INVALID_NODE", wantFields("deadline_ms: range")},
		{"drain without body", send("operator", "POST /v2/nodes/a/drain", ""), 400, "INVALID_NODE", wantFields("body: json")},
		{"fail without reason", send("operator", "POST /v2/nodes/a/fail", `{}`), 400, "INVALID_NODE", wantFields("reason: required")},
		{"bad list", send("reader", "GET /v2/nodes?limit=1001&status=canary&after=-canary", ""), 400, "INVALID_NODE", wantFields("limit: range", "after: syntax", "status: unknown")},
		{
			"static worker, malformed", send("node", "POST /workers/register", `{"id":"../canary","port":70000,"model":"","region":"canary","slots":-1}`), 400, "INVALID_NODE",
			wantFields("id: charset", "host: required", "port: range", "model: charset", "slots: range", "region: syntax"),
		},
		{"static worker, wrong type", send("node", "POST /workers/register", `{"id":7}`), 400, "INVALID_NODE", wantFields("id: type")},
		{"static worker at the metadata service", send("node", "POST /v2/workers/register", strings.Replace(worker, "10.0.0.9", "169.254.169.254", 1)), 400, "ADDRESS_NOT_ALLOWED", nil},
		{"static worker of another", func(s *server) *http.Response {
			s.do("node", "POST /workers/register", worker)
			return s.do("node2", "POST /workers/register", worker)
		}, 409, "NODE_ID_TAKEN", nil},
		{"static workers, full", func(s *server) *http.Response {
			s.do("node", "POST /workers/register", worker)
			return s.do("node", "POST /workers/register", strings.Replace(worker, "vllm", "tgi", 1))
		}, 503, "NODE_LIMIT", nil},
		{"no static workers", send("node", "POST /workers/register", worker), 404, "NOT_FOUND", nil},
		{"reader registers a worker", send("reader", "POST /workers/register", worker), 403, "FORBIDDEN", nil},
	}
}

func wantFields(want ...string) func(*testing.T, *http.Response, nodeapi.ErrorReply) {
	return func(t *testing.T, _ *http.Response, e nodeapi.ErrorReply) {
		t.Helper()
		if d := e.Error.Details; d == nil || strings.Join(d.Fields, "; ") != strings.Join(want, "; ") {
			t.Errorf("details = %+v, want %q", d, want)
		}
	}
}

// PRG-53, PRG-54: an operator's commands take effect before they are answered, and
// the answer is the node as it is then.
func TestCommands(t *testing.T) {
	for _, mount := range []string{"root", "prefix", "foreign mux"} {
		s := newServer(t, poolregistry.Config{}, mount)
		s.register("a")
		s.do("node", beatA, s.beat("a"))
		for _, step := range []struct{ route, body, status, schedule string }{
			{"POST /v2/nodes/a/cordon", "", "online", "cordoned"},
			{"POST /v2/nodes/a/uncordon", "", "online", "open"},
			{"POST /v2/nodes/a/drain", `{"deadline_ms":60000}`, "draining", "draining"},
			{"POST /v2/nodes/a/drain", `{"deadline_ms":0}`, "draining", "drained"},
			{"POST /v2/nodes/a/uncordon", "", "online", "open"},
			{"POST /v2/nodes/a/fail", `{"reason":"fan is loud"}`, "failed", "open"},
			{"POST /v2/nodes/a/clear", "", "registering", "open"},
		} {
			res := s.do("operator", step.route, step.body)
			if res.StatusCode != http.StatusOK {
				t.Fatalf("%s %s: %s", mount, step.route, res.Status)
			}
			n := read[poolregistry.Node](t, res)
			now, _ := s.reg.View().Node("a")
			if n.Status() != step.status || string(n.Schedule) != step.schedule || now.Status() != step.status || string(now.Schedule) != step.schedule {
				t.Errorf("%s %s: %s and %s, and in the view %s and %s", mount, step.route, n.Status(), n.Schedule, now.Status(), now.Schedule)
			}
			if step.status == "failed" && n.Reason != "fan is loud" {
				t.Errorf("reason %q", n.Reason)
			}
		}
		res := s.do("operator", "POST /v2/nodes/a/release", "")
		if _, ok := s.reg.View().Node("a"); ok || res.StatusCode != http.StatusNoContent {
			t.Errorf("%s release: %s, still there: %t", mount, res.Status, ok)
		}
		// What was wanted of a node that left can be taken back.
		s.register("b")
		s.do("operator", "POST /v2/nodes/b/cordon", "")
		s.do("node", "DELETE /v2/nodes/b", "", func(r *http.Request) { r.Header.Set(nodeapi.HeaderLease, s.lease) })
		if res := s.do("operator", "POST /v2/nodes/b/uncordon", ""); res.StatusCode != http.StatusNoContent {
			t.Errorf("%s uncordon of a node that left: %s", mount, res.Status)
		}
	}
}

// PRG-53: filters know the word that a node shows.
func TestListOfDrainingNodes(t *testing.T) {
	s := newServer(t, poolregistry.Config{}, "root")
	s.register("a")
	s.do("node", beatA, s.beat("a"))
	s.do("operator", "POST /v2/nodes/a/drain", `{"deadline_ms":60000}`)
	for status, want := range map[string]int{"draining": 1, "Draining": 1, "online": 0} {
		if l := read[nodeapi.NodeList](t, s.do("reader", "GET /v2/nodes?status="+status, "")); len(l.Nodes) != want || l.Online != 1 {
			t.Errorf("%s: %d nodes, online %d", status, len(l.Nodes), l.Online)
		}
	}
}

// PRG-36, PRG-53: the guard is released over HTTP.
func TestGuardRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolregistry.Config{Timing: poolregistry.Fast()}, "root")
		go func() { _ = s.reg.Run(t.Context()) }()
		synctest.Wait()
		for _, id := range []string{"a", "b", "c"} {
			s.register(id)
			s.seq = 0
			s.do("node", "POST /v2/nodes/"+id+"/heartbeat", s.beat(id))
		}
		time.Sleep(time.Minute)
		if l := read[nodeapi.NodeList](t, s.do("reader", "GET /v2/nodes", "")); !l.GuardHeld || l.Offline != 0 || l.Suspect != 3 {
			t.Errorf("before: %+v", l)
		}
		if res := s.do("operator", "POST /v2/nodes/guard/release", ""); res.StatusCode != http.StatusNoContent {
			t.Errorf("release: %s", res.Status)
		}
		time.Sleep(2 * time.Second)
		if l := read[nodeapi.NodeList](t, s.do("reader", "GET /v2/nodes", "")); l.GuardHeld || l.Offline != 3 {
			t.Errorf("after: guard %t, %d offline", l.GuardHeld, l.Offline)
		}
	})
}

// PRG-52, PRG-53: the catalogue over HTTP.
func TestAvailability(t *testing.T) {
	s := newServer(t, poolregistry.Config{}, "root")
	s.register("a")
	s.do("node", beatA, strings.Replace(s.beat("a"), `"ready":true`, `"ready":true,"models_available":["m"]`, 1))
	a := read[poolregistry.Availability](t, s.do("reader", "GET /v2/catalog/availability", ""))
	if len(a.Nodes) != 1 || a.TotalModels != 1 || len(a.SingleNodeModels) != 1 || a.SingleNodeModels[0] != "m" {
		t.Errorf("availability %+v", a)
	}
}

// PRG-53: a static worker: the answer, and the node that it becomes.
func TestStaticWorkerOverHTTP(t *testing.T) {
	policy := poolregistry.AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrPrivate}}
	s := newServer(t, poolregistry.Config{Address: policy}, "root")
	for _, route := range []string{"POST /workers/register", "POST /v2/workers/register"} {
		res := s.do("node", route, `{"id":"vllm","host":"gpu.lan","port":8000,"model":"m","region":"DE"}`)
		if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(body) != "OK" || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %s %q", route, res.Status, body)
		}
	}
	n, ok := s.reg.View().Node("static-vllm")
	if !ok || n.Region.Country != "DE" || n.Principal != "node" || n.Epoch != 1 || n.Address != "" {
		t.Errorf("node %+v", n)
	}
}
