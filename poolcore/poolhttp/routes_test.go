package poolhttp_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/poolhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// on writes a route's pattern with a pool, worker, model or operation that does not
// exist.
func on(r nodeapi.Route) string {
	return r.Method + " " + strings.ReplaceAll(r.Path, "{id}", "unknown")
}

// TestRoutesAreData (PCO-73): the handler serves what nodeapi names and nothing
// else, and only two routes are open.
func TestRoutesAreData(t *testing.T) {
	var patterns, open []string
	for _, r := range poolhttp.Routes() {
		patterns = append(patterns, r.Pattern())
		if r.Open {
			open = append(open, r.Pattern())
		}
		if want := r.Method != "GET" && !r.Open || r.Path == "/pools/{id}/workers"; (r.Role == nodeapi.RoleOperator) != want || r.Strict != want {
			t.Errorf("%s has role %q, strict %v", r.Pattern(), r.Role, r.Strict)
		}
	}
	want := []string{
		nodeapi.RouteHealth, nodeapi.RoutePools, nodeapi.RoutePoolStatus, nodeapi.RoutePoolWorkers, nodeapi.RoutePreload, nodeapi.RoutePoolDrain,
		nodeapi.RouteUndrain, nodeapi.RouteReload, nodeapi.RoutePurge, nodeapi.RouteRestart, nodeapi.RouteBreakerReset, nodeapi.RouteState,
		nodeapi.RouteWorkerStart, nodeapi.RouteWorkerStop, nodeapi.RouteWorker, nodeapi.RouteWorkerLogs, nodeapi.RouteWorkerDrain,
		nodeapi.RouteWorkerReady, nodeapi.RouteModels, nodeapi.RouteModelFetch, nodeapi.RouteModel, nodeapi.RouteModelDelete,
		nodeapi.RouteModelVerify, nodeapi.RouteModelState, nodeapi.RouteOperation, nodeapi.RouteCancel,
	}
	if !slices.Equal(patterns, want) {
		t.Errorf("routes = %q,\nwant %q", patterns, want)
	}
	if !slices.Equal(open, []string{nodeapi.RouteHealth, nodeapi.RouteWorkerReady}) {
		t.Errorf("open routes = %q", open)
	}
}

// TestEveryRoute (PCO-72, PCO-73, PCO-76): each route with each kind of caller and
// each kind of bad body, wherever the handler is mounted. No refusal has an effect:
// there is still no pool at the end.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	for how := range mounts() {
		n.mount(how)
		for _, r := range poolhttp.Routes() {
			t.Run(how+"/"+r.Pattern(), func(t *testing.T) { tryCallers(t, n, r) })
			if bodies()[r.Pattern()] != "" {
				t.Run(how+"/"+r.Pattern()+"/body", func(t *testing.T) { tryBodies(t, n, r) })
			}
		}
	}
	if len(slices.Collect(n.Pools())) != 0 {
		t.Error("a refused request made a pool")
	}
}

func tryCallers(t *testing.T, n *node, r nodeapi.Route) {
	body, own := bodies()[r.Pattern()], 0
	if r.Method == http.MethodPost {
		body = `{"canary":1}` // nobody but an operator gets so far that it is read
	}
	check := func(role string, status int, code string) {
		t.Helper()
		got := n.do(role, on(r), body)
		checkRefusal(t, got, status, code)
	}
	if !r.Open {
		check("", 401, "UNAUTHORIZED")
		check("node", 403, "FORBIDDEN")
		check("limited", 429, "TOO_MANY_REQUESTS")
		check("busy", 503, "UNAVAILABLE")
		check("misdirected", 421, "FORBIDDEN")
		check("wrong status", 401, "UNAUTHORIZED")
		check("panic", 500, "INTERNAL")
		if r.Role == nodeapi.RoleOperator {
			check("reader", 403, "FORBIDDEN")
		} else {
			own = n.do("reader", on(r), "").status
		}
		if got := n.do("operator", on(r), body).status; got == 401 || got == 403 || own != 0 && got != own {
			t.Errorf("an operator gets %d, a reader %d", got, own)
		}
	}
	for _, method := range []string{"PUT", "PATCH", "GET", "POST", "DELETE"} {
		other := slices.ContainsFunc(poolhttp.Routes(), func(o nodeapi.Route) bool {
			return o.Method == method && (o.Path == r.Path || matchesToo(o.Path, r.Path))
		})
		if other {
			continue
		}
		got := n.do("operator", method+" "+strings.ReplaceAll(r.Path, "{id}", "unknown"), "")
		checkRefusal(t, got, 405, "METHOD_NOT_ALLOWED")
		if !slices.Contains(strings.Split(got.header.Get("Allow"), ", "), r.Method) {
			t.Errorf("%s: Allow = %q", method, got.header.Get("Allow"))
		}
	}
}

// matchesToo reports whether pattern serves the fixed path too.
func matchesToo(pattern, path string) bool {
	a, b := strings.Split(pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(a, b, func(x, y string) bool { return x == "{id}" || x == y })
}

func tryBodies(t *testing.T, n *node, r nodeapi.Route) {
	good := bodies()[r.Pattern()]
	padded := strings.Repeat(" ", 256<<10) + good
	for _, c := range []struct {
		name, body string
		status     int
		code       string
		header     string
	}{
		{"oversize", padded, 413, "BODY_TOO_LARGE", ""},
		{"bad JSON", `{"canary"`, 400, "INVALID_PARAMS", ""},
		{"no object", `["canary"]`, 400, "INVALID_PARAMS", ""},
		{"null", `null`, 400, "INVALID_PARAMS", ""},
		{"unknown member", `{"canary":1}`, 400, "INVALID_PARAMS", ""},
		{"repeated member", `{"canary":1,"canary":2}`, 400, "INVALID_PARAMS", ""},
		{"trailing bytes", good + `{}`, 400, "INVALID_PARAMS", ""},
		{"too deep", strings.Repeat(`{"canary":`, 65) + "1" + strings.Repeat("}", 65), 400, "INVALID_PARAMS", ""},
		{"no UTF-8", "{\"canary\xff\":1}", 400, "INVALID_PARAMS", ""},
		{"media type", good, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: text/plain"},
		{"no media type", good, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type: "},
		{"deadline passed", good, 504, "DEADLINE_EXCEEDED", "X-Request-Timeout-Ms: 0"},
		{"malformed deadline", good, 400, "INVALID_PARAMS", "X-Request-Timeout-Ms: canary"},
	} {
		headers := []string{"Peer: 127.0.0.1:5000"}
		if c.header != "" {
			headers = append(headers, c.header)
		}
		got := n.op(on(r), c.body, headers...)
		if got.status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, got.status, c.status, got.body)
			continue
		}
		checkRefusal(t, got, c.status, c.code)
	}
}

// checkRefusal looks at everything that all refusals have in common.
func checkRefusal(t *testing.T, got reply, status int, code string) {
	t.Helper()
	var e nodeapi.ErrorReply
	if err := json.Unmarshal([]byte(got.body), &e); err != nil {
		t.Errorf("%d %q: %v", got.status, got.body, err)
		return
	}
	if got.status != status || e.Error.Code != code || e.Success || e.Message == "" || e.Error.Message != e.Message || e.Error.CorrelationID != correlation {
		t.Errorf("answer = %d %s, want %d %s", got.status, got.body, status, code)
	}
	if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers = %v", got.header)
	}
	if strings.Contains(got.body, "canary") {
		t.Errorf("the body repeats what was sent: %s", got.body)
	}
	if (status == 401) != (got.header.Get("WWW-Authenticate") == "Bearer") {
		t.Errorf("%d: WWW-Authenticate = %q", status, got.header.Get("WWW-Authenticate"))
	}
	if (status == 429 || status == 503) && (got.header.Get("Retry-After") == "" || !e.Error.Retriable || e.Error.RetryAfterMS <= 0) {
		t.Errorf("%d without a hint when to try again: %s", status, got.body)
	}
}

// TestStatusIsGET (PCO-73): what reads is GET, and what posts to it is told so.
func TestStatusIsGET(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(cfg *poolcore.Config) { cfg.Pools = nil })
	got := n.op("POST /pools/p1/status", "{}")
	checkRefusal(t, got, 405, "METHOD_NOT_ALLOWED")
	if allow := got.header.Get("Allow"); !strings.Contains(allow, "GET") {
		t.Errorf("Allow = %q", allow)
	}
	checkRefusal(t, n.op("GET /nothing", ""), 404, "NOT_FOUND")
	checkRefusal(t, n.op("GET /metrics", ""), 404, "NOT_FOUND")
}
