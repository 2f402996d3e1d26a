package nodehttp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

const uuid1 = "00000000-0000-4000-8000-000000000001"

type statusError int

func (s statusError) Error() string   { return "no" }
func (s statusError) HTTPStatus() int { return int(s) }

// authorize knows the bearers node, node2, operator and reader.
func authorize(r *http.Request) (nodeapi.Principal, error) {
	switch who := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); who {
	case "node", "node2":
		return nodeapi.Principal{ID: who, Role: nodeapi.RoleNode}, nil
	case "operator", "reader":
		return nodeapi.Principal{ID: who, Role: nodeapi.Role(who)}, nil
	case "stranger":
		return nodeapi.Principal{ID: who, Role: "stranger"}, nil
	case "misdirected":
		return nodeapi.Principal{}, statusError(http.StatusMisdirectedRequest)
	case "panic":
		panic("secret in a hook")
	}
	return nodeapi.Principal{}, errors.New("wrong token: secret")
}

// server is the handler at one place of one kind of mux.
type server struct {
	t      *testing.T
	reg    *poolregistry.Registry
	h      http.Handler
	prefix string
	lease  string
	seq    int
}

func newServer(t *testing.T, cfg poolregistry.Config, mount string, edit ...func(*nodehttp.Config)) *server {
	t.Helper()
	reg, err := poolregistry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	probe, err := poolclient.NewStaticProbe(poolclient.StaticConfig{Registry: reg, Address: cfg.Address, Most: 1})
	if err != nil {
		t.Fatal(err)
	}
	hc := nodehttp.Config{Registry: reg, Authorize: authorize, Static: probe}
	for _, e := range edit {
		e(&hc)
	}
	h, err := nodehttp.New(hc)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, reg: reg}
	switch mount {
	case "root":
		s.h = h
	case "prefix":
		s.h, s.prefix = http.StripPrefix("/api", h), "/api"
	case "foreign mux":
		mux := http.NewServeMux()
		mounted := map[string]bool{}
		for _, r := range nodehttp.Routes() {
			if !mounted[r.Path] {
				mux.Handle(r.Path, h)
			}
			mounted[r.Path] = true
		}
		mux.Handle("/unknown", h)
		mux.Handle("GET /v2/tasks/{id}", http.NotFoundHandler())
		s.h = mux
	}
	outer := s.h // the program's outermost middleware
	s.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Correlation-Id", "c-1")
		outer.ServeHTTP(w, r)
	})
	return s
}

// do sends "METHOD /path" as who; edit may change the request.
func (s *server) do(who, route, body string, edit ...func(*http.Request)) *http.Response {
	s.t.Helper()
	method, path, _ := strings.Cut(route, " ")
	r := httptest.NewRequestWithContext(s.t.Context(), method, s.prefix+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+who)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w.Result()
}

func read[T any](t *testing.T, res *http.Response) (v T) {
	t.Helper()
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func registration(id string) string {
	return fmt.Sprintf(`{"node_id":%q,"instance_id":%q,"address":"http://10.0.0.1:9200","pools":["p0"],"labels":{"zone":"a"}}`, id, uuid1)
}

func (s *server) register(id string) {
	s.t.Helper()
	res := s.do("node", "POST /v2/nodes/register", registration(id))
	if res.StatusCode != http.StatusOK {
		s.t.Fatalf("register: %s", res.Status)
	}
	s.lease = read[poolregistry.Grant](s.t, res).LeaseToken
}

func (s *server) beat(id string) string {
	s.seq++
	return fmt.Sprintf(`{"node_id":%q,"lease_token":%q,"seq":%d,"pools":[{"pool_id":"p0","state":"Ready","ready":true}]}`, id, s.lease, s.seq)
}

const beatA = "POST /v2/nodes/a/heartbeat"

// errorRow is one way to be refused.
type errorRow struct {
	name   string
	send   func(s *server) *http.Response
	status int
	code   string
	check  func(t *testing.T, res *http.Response, e nodeapi.ErrorReply)
}

func errorRows() []errorRow {
	return append(commandErrors(), []errorRow{
		{"malformed registration", func(s *server) *http.Response {
			return s.do("node", "POST /v2/nodes/register", `{"node_id":"canary canary","instance_id":"x"}`)
		}, 400, "INVALID_NODE", func(t *testing.T, _ *http.Response, e nodeapi.ErrorReply) {
			if d := e.Error.Details; d == nil || len(d.Fields) != 3 {
				t.Errorf("details = %+v", d)
			}
		}},
		{"not JSON", func(s *server) *http.Response { return s.do("node", "POST /v2/nodes/register", `{canary`) }, 400, "INVALID_NODE", nil},
		{"trailing bytes", func(s *server) *http.Response {
			return s.do("node", "POST /v2/nodes/register", registration("b")+"canary")
		}, 400, "INVALID_NODE", nil},
		{"duplicate members", func(s *server) *http.Response {
			return s.do("node", "POST /v2/nodes/register", `{"node_id":"b","node_id":"canary"}`)
		}, 400, "INVALID_NODE", nil},
		{"too deep", func(s *server) *http.Response {
			return s.do("node", "POST /v2/nodes/register", strings.Repeat("[", 65)+strings.Repeat("]", 65))
		}, 400, "INVALID_NODE", nil},
		{"wrong type", func(s *server) *http.Response {
			return s.do("node", "POST /v2/nodes/register", `{"node_id":7}`)
		}, 400, "INVALID_NODE", nil},
		{"malformed beat", func(s *server) *http.Response { return s.do("node", beatA, `{`) }, 400, "INVALID_BEAT", nil},
		{"beat of another node", func(s *server) *http.Response { return s.do("node", beatA, s.beat("b")) }, 400, "INVALID_BEAT", nil},
		{"address", func(s *server) *http.Response {
			return s.do("node", "POST /v2/nodes/register", strings.Replace(registration("b"), "10.0.0.1", "169.254.169.254", 1))
		}, 400, "ADDRESS_NOT_ALLOWED", nil},
		{"bad page", func(s *server) *http.Response { return s.do("reader", "GET /v2/nodes?limit=0", "") }, 400, "INVALID_NODE", nil},
		{"no token", func(s *server) *http.Response { return s.do("", "GET /v2/nodes", "") }, 401, "UNAUTHORIZED", func(t *testing.T, res *http.Response, _ nodeapi.ErrorReply) {
			if h := res.Header.Get("WWW-Authenticate"); h != "Bearer" {
				t.Errorf("WWW-Authenticate %q", h)
			}
		}},
		{"reader registers", func(s *server) *http.Response { return s.do("reader", "POST /v2/nodes/register", registration("b")) }, 403, "FORBIDDEN", nil},
		{"no role", func(s *server) *http.Response { return s.do("stranger", "GET /v2/nodes", "") }, 403, "FORBIDDEN", nil},
		{"another principal beats", func(s *server) *http.Response { return s.do("node2", beatA, s.beat("a")) }, 403, "FORBIDDEN", nil},
		{"another principal leaves", func(s *server) *http.Response {
			return s.do("node2", "DELETE /v2/nodes/a", "", func(r *http.Request) { r.Header.Set("X-Node-Lease", s.lease) })
		}, 403, "FORBIDDEN", nil},
		{"wrong lease", func(s *server) *http.Response {
			return s.do("node", beatA, strings.Replace(s.beat("a"), s.lease, "canary", 1))
		}, 403, "LEASE_INVALID", nil},
		{"leave without lease", func(s *server) *http.Response { return s.do("node", "DELETE /v2/nodes/a", "") }, 403, "LEASE_INVALID", nil},
		{"unknown node", func(s *server) *http.Response {
			return s.do("node", "POST /v2/nodes/b/heartbeat", s.beat("b"))
		}, 404, "NODE_UNKNOWN", nil},
		{"impossible id", func(s *server) *http.Response { return s.do("reader", "GET /v2/nodes/..%2Fcanary", "") }, 404, "NODE_UNKNOWN", nil},
		{"no route", func(s *server) *http.Response { return s.do("node", "GET /unknown", "") }, 404, "NOT_FOUND", nil},
		{"wrong method", func(s *server) *http.Response { return s.do("node", "PUT "+strings.TrimPrefix(beatA, "POST "), "") }, 405, "METHOD_NOT_ALLOWED", func(t *testing.T, res *http.Response, _ nodeapi.ErrorReply) {
			if h := res.Header.Get("Allow"); h != "POST" {
				t.Errorf("Allow %q", h)
			}
		}},
		{"taken", func(s *server) *http.Response {
			s.do("node", beatA, s.beat("a"))
			return s.do("node", "POST /v2/nodes/register", registration("a"))
		}, 409, "NODE_ID_TAKEN", wantRetry},
		{"fenced", func(s *server) *http.Response {
			old := s.beat("a")
			s.do("node", "POST /v2/nodes/register", strings.Replace(registration("a"), "001\"", `002","lease_token":"`+s.lease+`"`, 1))
			return s.do("node", beatA, old)
		}, 409, "LEASE_FENCED", nil},
		{"replayed", func(s *server) *http.Response {
			b := s.beat("a")
			s.do("node", beatA, b)
			return s.do("node", beatA, b)
		}, 409, "BEAT_REPLAYED", nil},
		{"too large", func(s *server) *http.Response {
			return s.do("node", beatA, strings.Repeat(" ", 256<<10)+s.beat("a"))
		}, 413, "BODY_TOO_LARGE", nil},
		{"media type", func(s *server) *http.Response {
			return s.do("node", beatA, s.beat("a"), func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") })
		}, 415, "UNSUPPORTED_MEDIA_TYPE", nil},
		{"status of Authorize", func(s *server) *http.Response { return s.do("misdirected", "GET /v2/nodes", "") }, 421, "FORBIDDEN", nil},
		{"too many", func(s *server) *http.Response {
			for range 8 {
				s.do("node", beatA, s.beat("a"))
			}
			return s.do("node", beatA, s.beat("a"))
		}, 429, "TOO_MANY_BEATS", wantRetry},
		{"panic", func(s *server) *http.Response { return s.do("panic", "GET /v2/nodes", "") }, 500, "INTERNAL", nil},
		{"full", func(s *server) *http.Response { return s.do("node", "POST /v2/nodes/register", registration("b")) }, 503, "NODE_LIMIT", wantRetry},
	}...)
}

// PRG-53, PRG-55, PRG-56: each row of the error table, over the wire, wherever the
// handler is mounted.
func TestErrorTable(t *testing.T) {
	rows := errorRows()
	for _, mount := range []string{"root", "prefix", "foreign mux"} {
		for _, c := range rows {
			t.Run(mount+"/"+c.name, func(t *testing.T) {
				s := c.server(t, mount)
				res := c.send(s)
				raw, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				var e nodeapi.ErrorReply
				if err := json.Unmarshal(raw, &e); err != nil {
					t.Fatalf("%v: %s", err, raw)
				}
				if res.StatusCode != c.status || e.Error.Code != c.code {
					t.Fatalf("%d %s, want %d %s", res.StatusCode, e.Error.Code, c.status, c.code)
				}
				if e.Success || e.Message == "" || e.Message != e.Error.Message || e.Error.CorrelationID != "c-1" {
					t.Errorf("body %s", raw)
				}
				if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Content-Type") != "application/json" {
					t.Errorf("header %v", res.Header)
				}
				for _, secret := range []string{"canary", "secret", s.lease} {
					if strings.Contains(string(raw), secret) {
						t.Errorf("the body repeats %q: %s", secret, raw)
					}
				}
				if c.check != nil {
					c.check(t, res, e)
				}
			})
		}
	}
}

// server is one with the node a.
func (c errorRow) server(t *testing.T, mount string) *server {
	t.Helper()
	limits := poolregistry.Limits{}
	if c.name == "full" {
		limits.Nodes = 1
	}
	s := newServer(t, poolregistry.Config{Limits: limits}, mount, func(hc *nodehttp.Config) {
		if c.name == "no static workers" {
			hc.Static = nil
		}
	})
	s.register("a")
	return s
}

func wantRetry(t *testing.T, res *http.Response, e nodeapi.ErrorReply) {
	t.Helper()
	if e.Error.RetryAfterMS <= 0 || res.Header.Get("Retry-After") == "" || !e.Error.Retriable {
		t.Errorf("retry after %d ms, %q, retriable %t", e.Error.RetryAfterMS, res.Header.Get("Retry-After"), e.Error.Retriable)
	}
}

// PRG-53, PRG-54: the way of a node, as JSON.
func TestNodeLifeOverHTTP(t *testing.T) {
	s := newServer(t, poolregistry.Config{Active: func(poolregistry.NodeID) map[poolregistry.PoolID]int {
		return map[poolregistry.PoolID]int{"p0": 2}
	}}, "root")
	s.register("a")
	reply := read[poolregistry.BeatReply](t, s.do("node", beatA, s.beat("a")))
	if !reply.Success || reply.Active["p0"] != 2 || reply.Status != poolregistry.Online || reply.NextHeartbeatMS < 9500 || reply.NextHeartbeatMS > 10500 {
		t.Errorf("reply %+v", reply)
	}
	n := read[map[string]any](t, s.do("reader", "GET /v2/nodes/a", ""))
	if n["status"] != "online" || n["placeable"] != true || n["last_heartbeat_age_ms"] == nil {
		t.Errorf("node %v", n)
	}
	if raw := fmt.Sprint(n); strings.Contains(raw, s.lease) {
		t.Error("the lease token is shown")
	}
	res := s.do("node", "DELETE /v2/nodes/a", "", func(r *http.Request) { r.Header.Set("X-Node-Lease", s.lease) })
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusNoContent || len(body) != 0 {
		t.Errorf("leave: %s %q", res.Status, body)
	}
	if l := read[nodeapi.NodeList](t, s.do("reader", "GET /v2/nodes", "")); l.Nodes == nil || len(l.Nodes) != 0 {
		t.Errorf("list %+v", l)
	}
}

// PRG-54: all nodes are listed, filtered and paged.
func TestNodeList(t *testing.T) {
	s := newServer(t, poolregistry.Config{}, "root")
	for _, id := range []string{"c", "a", "d", "b"} {
		s.register(id)
		s.seq = 0
		if id != "d" {
			s.do("node", "POST /v2/nodes/"+id+"/heartbeat", s.beat(id))
		}
	}
	for query, want := range map[string]string{
		"":                                  "a b c d next=",
		"?after=zz":                         "next=",
		"?status=online&status=registering": "a b c d next=",
		"?limit=2":                          "a b next=b",
		"?limit=2&after=b":                  "c d next=",
		"?status=Online":                    "a b c next=",
		"?status=online&limit=1":            "a next=a",
		"?status=registering":               "d next=",
		"?status=suspect":                   "next=",
		"?label=zone":                       "a b c d next=",
		"?label=zone=a&status=online":       "a b c next=",
		"?label=zone=b":                     "next=",
		"?label=rack":                       "next=",
	} {
		l := read[nodeapi.NodeList](t, s.do("operator", "GET /v2/nodes"+query, ""))
		var got []string
		for _, n := range l.Nodes {
			got = append(got, string(n.ID))
		}
		got = append(got, "next="+string(l.Next))
		if g := strings.Join(got, " "); g != want || l.Total != 4 || l.Online != 3 {
			t.Errorf("%s: %s (total %d, online %d), want %s", query, g, l.Total, l.Online, want)
		}
	}
}
