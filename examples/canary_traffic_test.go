package examples_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// keep notes an answer as its reader got it, and returns its body.
func (r *rig) keep(res *http.Response) string {
	r.t.Helper()
	text := body(r.t, res)
	fmt.Fprintf(&r.answers, "%s %s\n", res.Request.Method, res.Status)
	_ = res.Header.Write(&r.answers)
	fmt.Fprintln(&r.answers, text)
	return text
}

func (r *rig) task(prompt string, n int, more string) string {
	return fmt.Sprintf(`{"model":"sim-8b","prompt":%q,"max_tokens":%d%s}`, prompt, n, more)
}

func (r *rig) chat(stream bool) string {
	return fmt.Sprintf(`{"model":"sim-8b","messages":[{"role":"user","content":%q}],"max_tokens":4,"stream":%t}`, r.secrets.prompt, stream)
}

// good is the work of an honest client. Nothing that it gets holds a token.
func (r *rig) good() {
	t, token := r.t, r.secrets.token
	acc := decode[taskapi.Accepted](t, r.o.call("POST", "/v2/tasks", token, r.task(r.secrets.prompt, 4, "")), http.StatusAccepted)
	for _, e := range all(t, r.o.stream(token, acc.TaskID, 0)) {
		fmt.Fprintln(&r.answers, e.typ, e.data)
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v2/tasks/" + acc.TaskID + "/explain", ""},
		{"GET", "/v2/tasks", ""},
		{"POST", "/v1/chat/completions", r.chat(false)},
		{"POST", "/v1/chat/completions", r.chat(true)},
		{"POST", "/v1/completions", r.task(r.secrets.prompt, 3, "")},
		{"GET", "/v1/models", ""},
		{"GET", "/v2/nodes", ""},
		{"GET", "/v2/nodes/gpu-7", ""},
		{"GET", "/readyz", ""},
		{"GET", "/metrics", ""},
	} {
		res := r.o.call(c.method, c.path, token, c.body)
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s %s = %d", c.method, c.path, res.StatusCode)
		}
		r.keep(res)
	}
	for _, path := range []string{"/pools", "/pools/gpu0/status", "/pools/gpu0/workers", "/metrics", "/health"} {
		if text := r.keep(r.n.call("GET", path, r.secrets.second, "")); strings.Contains(text, "UNAUTHENTICATED") {
			t.Errorf("%s: %s", path, text)
		}
	}
	r.keep(r.o.call("GET", "/v2/tasks/"+r.secrets.second, r.secrets.second, "")) // a token in the wrong place
	r.keep(r.o.call("GET", "/nowhere/"+r.secrets.second, r.secrets.second, ""))
}

// everyRoute asks each route of both daemons in every wrong way.
func (r *rig) everyRoute() {
	s := r.secrets
	routes := []string{
		nodeapi.RouteRegister, nodeapi.RouteHeartbeat, nodeapi.RouteLeave, nodeapi.RouteNodes, nodeapi.RouteNode,
		nodeapi.RoutePools, nodeapi.RoutePoolStatus, nodeapi.RoutePoolWorkers, "GET /metrics", "GET /readyz", "GET /health", "GET /", "PUT /nowhere",
	}
	for _, route := range taskhttp.Routes() {
		routes = append(routes, route.Method+" "+route.Path)
	}
	basic := base64.StdEncoding.EncodeToString([]byte("ada:" + s.wrong))
	careless := []string{"Cookie", "session=" + s.header, "X-Api-Key", s.header, "Proxy-Authorization", "Bearer " + s.wrong, "X-Correlation-Id", "not one: " + s.header}
	query := "?access_token=" + url.QueryEscape(s.query) + "&token=" + url.QueryEscape(s.token) + "&" + s.query + "=1"
	for _, p := range []*program{r.o, r.n} {
		for _, route := range routes {
			method, path, _ := strings.Cut(route, " ")
			path = strings.ReplaceAll(path, "{id}", "x")
			for _, authorization := range []string{"", "Bearer " + s.wrong, "Bearer " + s.short, "Basic " + basic, "Bearer  " + s.wrong, s.token, "Bearer " + s.token + " x", "Bearer " + strings.ToLower(s.token)} {
				headers := careless
				if authorization != "" {
					headers = append(slices.Clone(careless), "Authorization", authorization)
				}
				res := p.call(method, path+query, "", "", headers...)
				if path != "/health" && res.StatusCode != http.StatusUnauthorized {
					r.t.Errorf("%s with a wrong token = %d", route, res.StatusCode)
				}
				r.keep(res)
			}
			if !strings.Contains(path, "register") { // with the token too, and with careless things beside it
				r.keep(p.call(method, path+query, s.token, "", careless...))
			}
		}
	}
}

// malformed sends bodies that are refused; each holds the prompt and a token.
func (r *rig) malformed() {
	s := r.secrets
	text := fmt.Sprintf("%q", s.prompt)
	token := fmt.Sprintf("%q", s.wrong)
	for _, b := range []string{
		`{"model":` + text, `{"model":"sim-8b","prompt":` + text + `,"max_tokens":` + token + `}`, `{"model":"sim-8b","prompt":` + text + `,"priority":` + token + `}`,
		`{"model":` + text + `,"prompt":"x"}`, `{"model":"sim-8b","model":` + token + `,"prompt":` + text + `}`, `{"model":"sim-8b","prompt":"` + s.wrong + `\u0000"}`,
		`{"model":"sim-8b","prompt":` + text + `,"deadline_ms":-1}`, `{"model":"sim-8b","prompt":` + text + `,` + token + `:1}`, `{"model":"sim-8b","prompt":` + text + `} ` + token,
		`{"model":"sim-8b","prompt":` + text + `,"placement":{"pin":` + token + `}}`, text, `[` + text + `]`, `{"model":"sim-8b","messages":[{"role":` + token + `,"content":` + text + `}]}`,
	} {
		for _, path := range []string{"/v2/tasks", "/v1/chat/completions", "/v1/completions"} {
			if rest, ok := strings.CutPrefix(b, "{"); ok && !strings.Contains(b, "max_tokens") {
				b = `{"max_tokens":2,` + rest // what one route refuses another one may serve
			}
			r.keep(r.o.call("POST", path, s.token, b, "X-Correlation-Id", "malformed"))
		}
	}
	ok := r.task(s.prompt, 3, "")
	for _, h := range [][]string{
		{"Content-Type", "text/" + s.wrong},
		{"X-Deadline", s.wrong},
		{"X-Deadline", fmt.Sprint(time.Now().Add(-time.Minute).UnixMilli())},
		{"Idempotency-Key", s.prompt[:3] + "é"},
		{"Origin", "https://" + s.header + ".example"},
		{"Traceparent", "00-" + s.wrong},
		{"Last-Event-Id", s.wrong},
		{"X-Forwarded-For", s.wrong},
		{"Accept", s.wrong},
	} {
		r.keep(r.o.call("POST", "/v2/tasks", s.token, ok, h...))
	}
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.o.url+"/v2/tasks", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = "attacker.example"
	req.Header.Set("Authorization", "Bearer "+s.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.keep(res); res.StatusCode != http.StatusMisdirectedRequest {
		r.t.Errorf("a foreign host = %d", res.StatusCode)
	}
}

// nodeRoutes plays a node with a lease that nobody granted.
func (r *rig) nodeRoutes() {
	s := r.secrets
	r.keep(r.o.call("POST", "/v2/nodes/register", s.token, fmt.Sprintf(`{"node_id":"gpu-7","instance_id":"x","lease_token":%q}`, s.lease)))
	r.keep(r.o.call("POST", "/v2/nodes/register", s.token, fmt.Sprintf(`{"node_id":%q,"lease_token":7}`, s.wrong)))
	r.keep(r.o.call("POST", "/v2/nodes/gpu-7/heartbeat", s.token, fmt.Sprintf(`{"node_id":"gpu-7","lease_token":%q,"seq":1,"pools":[]}`, s.lease)))
	res := r.o.call("DELETE", "/v2/nodes/gpu-7", s.token, "", nodeapi.HeaderLease, s.lease)
	if r.keep(res); res.StatusCode < 400 {
		r.t.Errorf("a foreign lease was accepted: %d", res.StatusCode)
	}
}

// failures ends tasks by cancel, by deadline, by hanging up and by the death of
// the engine, and returns what their readers were told.
func (r *rig) failures() (told string) {
	t, s := r.t, r.secrets
	var out strings.Builder
	long := func(more string) string {
		return decode[taskapi.Accepted](t, r.o.call("POST", "/v2/tasks", s.token, r.task(s.prompt, 2000, more)), http.StatusAccepted).TaskID
	}
	read := func(id string, after func()) {
		events(t, r.o.stream(s.token, id, 0), func(e sse) bool {
			if e.id == 3 && after != nil {
				after()
			}
			if e.typ != "token" {
				fmt.Fprintln(&out, e.typ, e.data)
			}
			return true
		})
	}
	id := long("")
	read(id, func() { r.keep(r.o.call("POST", "/v2/tasks/"+id+"/cancel", s.token, "")) })
	read(long(`,"deadline_ms":500`), nil)
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", r.o.url+"/v1/chat/completions", strings.NewReader(strings.Replace(r.chat(true), `"max_tokens":4`, `"max_tokens":2000`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := res.Body.Read(make([]byte, 64)); err != nil {
		t.Error(err)
	}
	hangUp()
	res.Body.Close()
	var dead []int
	read(long(""), func() {
		dead = children(r.n.cmd.Process.Pid)
		for _, engine := range dead {
			_ = syscall.Kill(engine, syscall.SIGKILL)
		}
	})
	for _, want := range []string{"CANCELLED", "DEADLINE", "WORKER_RESET"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no stream ended with %s: %s", want, &out)
		}
	}
	within(t, 15*time.Second, "a new engine is ready", func() bool {
		now := children(r.n.cmd.Process.Pid)
		return len(now) > 0 && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(dead, pid) }) && strings.Contains(body(t, r.n.call("GET", "/pools", s.second, "")), `"status":"ready"`)
	})
	return out.String()
}
