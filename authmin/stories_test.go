package authmin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
)

// TestStories tells the six stories of the specification over real servers,
// HTTP/1.1 and HTTP/2.
func TestStories(t *testing.T) {
	tok := authmin.Generate("demo")
	set := keySet(t, authmin.Key{Name: "laptop", Token: tok})
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := authmin.PrincipalFrom(r.Context())
		io.WriteString(w, p.String())
	})
	code := func(w http.ResponseWriter, _ *http.Request, r *authmin.Refusal) { fmt.Fprint(w, r.AuthCode) }
	optional := newGate(t, authmin.Config{Keys: set, LoopbackOptional: true, Answer: code})
	closed := newGate(t, authmin.Config{Keys: set, Answer: code})
	for _, c := range []struct {
		story  string
		h      http.Handler
		token  string
		status int
		body   string
	}{
		{"1 loopback is optional: without a token as localhost", optional.Wrap(who), "", 200, "localhost"},
		{"2 loopback is not optional: without a token refused", closed.Wrap(who), "", 401, "40101"},
		{"4 a wrong token", closed.Wrap(who), strangerToken, 401, "40102"},
		{"5 the right token", closed.Wrap(who), tok.Reveal(), 200, "token:" + authmin.FP6(tok.Reveal())},
		{"6 registration under WrapStrict without a token", optional.WrapStrict(who), "", 401, "40101"},
	} {
		for _, srv := range bothProtocols(t, c.h) {
			fields := http.Header{}
			if c.token != "" {
				fields = bearerHeader(c.token)
			}
			resp, body := srv.do(t, http.MethodPost, "/v2/nodes", fields)
			if resp.StatusCode != c.status || body != c.body {
				t.Errorf("%s, %s: %d %s, want %d %s", c.story, resp.Proto, resp.StatusCode, body, c.status, c.body)
			}
		}
	}
	// 3 other machines could reach the listener and there is no token
	ln, err := authmin.BindPolicy{}.Listen(t.Context(), "tcp", "0.0.0.0:0", false)
	if refused, ok := errors.AsType[*authmin.BindError](err); ln != nil || !ok || refused.AuthCode != 40301 || !errors.Is(err, authmin.ErrBindRefused) {
		t.Errorf("Listen = %v, %v, want a refusal", ln, err)
	}
}

// AUTH-26: under WrapStrict a local caller needs a token as soon as there are
// keys, and everything else is as under Wrap.
func TestWrapStrict(t *testing.T) {
	tok := authmin.Generate("demo")
	set := keySet(t, authmin.Key{Name: "node", Token: tok})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := authmin.PrincipalFrom(r.Context())
		fmt.Fprint(w, p)
	})
	optional := newGate(t, authmin.Config{Keys: set, LoopbackOptional: true})
	closed := newGate(t, authmin.Config{Keys: set})
	keyless := newGate(t, authmin.Config{LoopbackOptional: true})
	proxied := call{header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}}
	cross := call{method: http.MethodPost, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}}
	for _, c := range []struct {
		name string
		gate *authmin.Gate
		call
		wrap, strict int
	}{
		{"optional, local", optional, call{}, 200, 401},
		{"optional, local with a token", optional, call{header: bearerHeader(tok.Reveal())}, 200, 200},
		{"optional, a bad token", optional, call{header: bearerHeader(strangerToken)}, 401, 401},
		{"optional, open path", optional, call{target: "/health"}, 200, 200},
		{"optional, cross origin", optional, cross, 403, 401},
		{"closed, local", closed, call{}, 401, 401},
		{"keyless, local", keyless, call{}, 200, 200},
		{"keyless, through a proxy", keyless, proxied, 403, 403},
		{"keyless, cross origin", keyless, cross, 403, 403},
		{"keyless, foreign host", keyless, call{host: "evil.example"}, 421, 421},
	} {
		for want, h := range map[*int]http.Handler{&c.wrap: c.gate.Wrap(handler), &c.strict: c.gate.WrapStrict(handler)} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, c.request(t))
			if w.Code != *want {
				t.Errorf("%s: %d, want %d under Wrap and %d under WrapStrict", c.name, w.Code, c.wrap, c.strict)
			}
		}
	}
}

// AUTH-29: a program renders the refusal in its own shape; only what is worth
// retrying says so.
func TestHookRendersOwnShape(t *testing.T) {
	type shape struct {
		Error struct {
			Code      string         `json:"code"`
			Message   string         `json:"message"`
			Retriable bool           `json:"retriable"`
			RetryMS   int64          `json:"retry_after_ms"`
			Details   map[string]any `json:"details"`
		} `json:"error"`
	}
	hook := func(w http.ResponseWriter, _ *http.Request, r *authmin.Refusal) {
		var s shape
		s.Error.Code, s.Error.Message = r.Code, r.Message
		s.Error.Retriable, s.Error.RetryMS = r.RetryAfter > 0, r.RetryAfter.Milliseconds()
		s.Error.Details = map[string]any{"auth_code": r.AuthCode, "reason": r.Reason, "hint": r.Hint}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s); err != nil {
			t.Error(err)
		}
	}
	set := keySet(t, authmin.Key{Name: "laptop", Token: authmin.Generate("demo")})
	nobody := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached the handler") })
	for _, c := range []struct {
		cfg    authmin.Config
		fields http.Header
		status int
		code   float64
	}{
		{authmin.Config{Keys: set}, nil, 401, 40101},
		{authmin.Config{Keys: set}, bearerHeader(strangerToken), 401, 40102},
		{authmin.Config{Keys: set}, bearerHeader("a b"), 401, 40102},
		{authmin.Config{LoopbackOptional: true}, http.Header{"Via": {"1.1 x"}}, 403, 40301},
		{authmin.Config{LoopbackOptional: true}, http.Header{"Origin": {"https://evil.example"}}, 403, 40303},
		{authmin.Config{Keys: set}, http.Header{"Host": {"evil.example"}}, 421, 42101},
		{authmin.Config{Keys: failing{context.DeadlineExceeded}}, bearerHeader(strangerToken), 503, 50301},
	} {
		c.cfg.Answer = hook
		for _, srv := range bothProtocols(t, newGate(t, c.cfg).Wrap(nobody)) {
			resp, body := srv.do(t, http.MethodPost, "/v2/tasks", c.fields)
			var s shape
			if err := json.Unmarshal([]byte(body), &s); err != nil || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%v: %s, %v", c.code, body, err)
				continue
			}
			d := s.Error.Details
			if resp.StatusCode != c.status || d["auth_code"] != c.code || d["reason"] == "" || d["hint"] == "" || s.Error.Code == "" || s.Error.Message == "" {
				t.Errorf("%s: %d %s, want %d %v", resp.Proto, resp.StatusCode, body, c.status, c.code)
			}
			if s.Error.Retriable != (c.status == 503) || s.Error.RetryMS != map[bool]int64{true: 1000}[c.status == 503] {
				t.Errorf("%v is retriable: %v after %d ms", c.code, s.Error.Retriable, s.Error.RetryMS)
			}
		}
	}
}

// AUTH-22: the scenarios of testdata/rebinding.tsv against a service on
// loopback that needs no token.
func TestForeignScenarios(t *testing.T) {
	gate := newGate(t, authmin.Config{LoopbackOptional: true})
	ln, err := authmin.BindPolicy{}.Listen(t.Context(), "tcp", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	defer srv.Close()
	_, port, _ := strings.Cut(ln.Addr().String(), ":")
	for _, cols := range tsv(t, "rebinding.tsv") {
		r := request(t, cols[0], srv.URL+"/mcp", http.NoBody)
		r.Host = strings.ReplaceAll(cols[1], "PORT", port)
		for i, name := range []string{"Origin", "Sec-Fetch-Site"} {
			if value := strings.ReplaceAll(cols[2+i], "PORT", port); value != "-" {
				r.Header.Set(name, value)
			}
		}
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Errorf("%s: %v", cols, err)
			continue
		}
		resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode); got != cols[4] {
			t.Errorf("%s: %s", cols, got)
		}
	}
}
