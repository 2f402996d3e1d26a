package authmin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
)

var (
	loopbackAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	publicAddr   = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8080}
)

// call describes a request as a server would see it. Zero: GET /v2/tasks from
// this machine to this machine, with Host 127.0.0.1:8080 and no fields.
type call struct {
	method, target, host, remote string
	local                        net.Addr
	header                       http.Header
}

func (c call) request(t testing.TB) *http.Request {
	t.Helper()
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	r := httptest.NewRequestWithContext(t.Context(), or(c.method, http.MethodGet), or(c.target, "/v2/tasks"), http.NoBody)
	r.Host, r.RemoteAddr = or(c.host, "127.0.0.1:8080"), or(c.remote, "127.0.0.1:50000")
	local := c.local
	if local == nil {
		local = loopbackAddr
	}
	maps.Copy(r.Header, c.header)
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
}

func bearerHeader(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func newGate(t testing.TB, cfg authmin.Config) *authmin.Gate {
	t.Helper()
	g, err := authmin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func keySet(t testing.TB, keys ...authmin.Key) *authmin.KeySet {
	t.Helper()
	set, err := authmin.NewKeySet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// decide returns the principal, or the auth code of the refusal.
func decide(t testing.TB, g *authmin.Gate, c call) string {
	t.Helper()
	p, err := g.Authorize(c.request(t))
	if err == nil {
		return p.String()
	}
	refusal, ok := errors.AsType[*authmin.Refusal](err)
	if !ok {
		t.Fatalf("Authorize = %v, want a *Refusal", err)
	}
	return fmt.Sprint(refusal.AuthCode)
}

const strangerToken = "stranger_ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// AUTH-22 to AUTH-26: the rules one by one, for the three kinds of gates.
func TestGateDecisions(t *testing.T) {
	tok := authmin.Generate("demo")
	id := "token:" + authmin.FP6(tok.Reveal())
	set := keySet(t, authmin.Key{Name: "laptop", Token: tok})
	closed := newGate(t, authmin.Config{Keys: set})
	optional := newGate(t, authmin.Config{Keys: set, LoopbackOptional: true})
	keyless := newGate(t, authmin.Config{LoopbackOptional: true})
	hosts := newGate(t, authmin.Config{Keys: set, LoopbackOptional: true, AllowedHosts: []string{"GPU.lan", "box.lan:8443", "[fd00::1]"}})
	remote := call{remote: "198.51.100.9:4000", local: publicAddr, host: "192.0.2.7:8080"}
	withToken := func(c call, token string) call { c.header = bearerHeader(token); return c }
	with := func(name, value string) call { return call{header: http.Header{name: {value}}} }
	for _, c := range []struct {
		name string
		call
		closed, optional, keyless string
	}{
		{"local", call{}, "40101", "localhost", "localhost"},
		{"local over IPv6", call{remote: "[::1]:5", local: &net.TCPAddr{IP: net.IPv6loopback}, host: "[::1]:80"}, "40101", "localhost", "localhost"},
		{"mapped loopback", call{remote: "[::ffff:127.0.0.1]:5"}, "40101", "localhost", "localhost"},
		{"local with a token", call{header: bearerHeader(tok.Reveal())}, id, id, "localhost"},
		{"local with a bad token", call{header: bearerHeader(strangerToken)}, "40102", "40102", "localhost"},
		{"local with a malformed token", call{header: http.Header{"Authorization": {"Bearer a b"}}}, "40102", "40102", "localhost"},
		{"local with two tokens", call{header: http.Header{"Authorization": {"Bearer " + tok.Reveal(), "Bearer " + tok.Reveal()}}}, "40102", "40102", "localhost"},
		{"local with another scheme", call{header: http.Header{"Authorization": {"Basic eA=="}}}, "40101", "localhost", "localhost"},
		{"remote", remote, "40101", "40101", "40301"},
		{"remote with a token", withToken(remote, tok.Reveal()), id, id, "40301"},
		{"remote with a bad token", withToken(remote, strangerToken), "40102", "40102", "40301"},
		{"remote peer on a loopback listener", call{remote: "10.0.0.9:1"}, "40101", "40101", "40301"},
		{"loopback peer on a public listener", call{local: publicAddr}, "40101", "40101", "40301"},
		{"unparsable peer", call{remote: "@"}, "40101", "40101", "40301"},
		{"peer with a zone", call{remote: "[::1%eth0]:5"}, "40101", "40101", "40301"},
		{"Forwarded", with("Forwarded", "for=1.2.3.4"), "40101", "40101", "40301"},
		{"X-Forwarded-For", with("X-Forwarded-For", ""), "40101", "40101", "40301"},
		{"X-Forwarded-Anything", with("X-Forwarded-Anything", "x"), "40101", "40101", "40301"},
		{"odd spelling", with("x-forwarded-for", "1.2.3.4"), "40101", "40101", "40301"},
		{"X-Real-Ip", with("X-Real-Ip", "1.2.3.4"), "40101", "40101", "40301"},
		{"Via", with("Via", "1.1 proxy"), "40101", "40101", "40301"},
		{"foreign host", call{host: "evil.example"}, "42101", "42101", "42101"},
		{"foreign host on an open path", call{target: "/health", host: "evil.example"}, "42101", "42101", "42101"},
		{"foreign host with a token", call{host: "evil.example", header: bearerHeader(tok.Reveal())}, "42101", "42101", "42101"},
		{"host that begins like loopback", call{host: "127.0.0.1.evil.example"}, "42101", "42101", "42101"},
		{"host localhost", call{host: "LOCALHOST:8080"}, "40101", "localhost", "localhost"},
		{"host with a dot", call{host: "localhost."}, "42101", "42101", "42101"},
		{"host 2130706433", call{host: "2130706433"}, "42101", "42101", "42101"},
		{"host with a bad port", call{host: "localhost:x"}, "42101", "42101", "42101"},
		{"host bare IPv6", call{host: "::1"}, "42101", "42101", "42101"},
		{"remote host is not checked", call{remote: "198.51.100.9:1", local: publicAddr, host: "any.example"}, "40101", "40101", "40301"},
		{"open", call{target: "/health"}, "anonymous", "anonymous", "anonymous"},
		{"open HEAD", call{target: "/health?x=1", method: http.MethodHead}, "anonymous", "anonymous", "anonymous"},
		{"open with a bad token", call{target: "/health", header: bearerHeader(strangerToken)}, "anonymous", "anonymous", "anonymous"},
		{"open from afar", call{target: "/health", remote: remote.remote, local: remote.local, host: remote.host}, "anonymous", "anonymous", "anonymous"},
		{"open to POST", call{target: "/health", method: http.MethodPost}, "40101", "localhost", "localhost"},
		{"open locally", call{target: "/metrics"}, "anonymous", "anonymous", "anonymous"},
		{"open locally from afar", call{target: "/metrics", remote: remote.remote, local: remote.local, host: remote.host}, "40101", "40101", "40301"},
		{"cross origin", call{method: http.MethodPost, header: http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}}, "40101", "40303", "40303"},
		{"same origin", call{method: http.MethodPost, header: http.Header{"Origin": {"http://127.0.0.1:8080"}, "Sec-Fetch-Site": {"same-origin"}}}, "40101", "localhost", "localhost"},
		{"cross origin with a token", call{method: http.MethodPost, header: http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}, "Authorization": {"Bearer " + tok.Reveal()}}}, id, id, "40303"},
	} {
		for gate, want := range map[*authmin.Gate]string{closed: c.closed, optional: c.optional, keyless: c.keyless} {
			if got := decide(t, gate, c.call); got != want {
				t.Errorf("%s: %s, want %s (closed, optional, keyless: %s, %s, %s)", c.name, got, want, c.closed, c.optional, c.keyless)
			}
		}
	}
	for host, want := range map[string]string{
		"gpu.lan": "localhost", "gpu.lan:1234": "localhost", "box.lan:8443": "localhost", "box.lan": "42101", "box.lan:1": "42101", "[fd00::1]:8080": "localhost", "x.gpu.lan": "42101", "127.0.0.1": "localhost",
	} {
		if got := decide(t, hosts, call{host: host}); got != want {
			t.Errorf("allowed hosts, Host %s: %s, want %s", host, got, want)
		}
	}
	far := remote
	far.host, far.target = "evil.example", "/health"
	if got := decide(t, hosts, far); got != "42101" {
		t.Errorf("with AllowedHosts a public listener takes Host %s: %s", far.host, got)
	}
}

type failing struct{ err error }

func (f failing) Verify(context.Context, authmin.Token) (authmin.Principal, error) {
	return authmin.Principal{}, f.err
}

// AUTH-28: every row, over HTTP/1.1 and HTTP/2, with the hook of a program.
func TestGateAnswers(t *testing.T) {
	set := keySet(t, authmin.Key{Name: "laptop", Token: authmin.Generate("demo")})
	down := failing{fmt.Errorf("database of %s: %w", canary, authmin.ErrMissing)}
	for _, c := range []struct {
		name                   string
		cfg                    authmin.Config
		method, host           string
		header                 http.Header
		status                 int
		body, challenge, retry string
	}{
		{name: "missing", cfg: authmin.Config{Keys: set, Realm: "home lab"}, status: 401, body: "UNAUTHENTICATED MISSING_TOKEN 40101", challenge: `Bearer realm="home lab"`},
		{name: "rejected", cfg: authmin.Config{Keys: set}, header: bearerHeader(canary), status: 401, body: "UNAUTHENTICATED BAD_TOKEN 40102", challenge: `Bearer realm="llorch", error="invalid_token"`},
		{name: "expired", cfg: authmin.Config{Keys: failing{authmin.ErrExpired}}, header: bearerHeader(canary), status: 401, body: "UNAUTHENTICATED BAD_TOKEN 40102", challenge: `Bearer realm="llorch", error="invalid_token"`},
		{name: "malformed", cfg: authmin.Config{Keys: set}, header: http.Header{"Authorization": {"Bearer " + canary + " x"}}, status: 401, body: "UNAUTHENTICATED BAD_TOKEN 40102", challenge: `Bearer realm="llorch", error="invalid_request"`},
		{name: "no keys, not local", cfg: authmin.Config{LoopbackOptional: true}, header: http.Header{"X-Forwarded-For": {"1.2.3.4"}}, status: 403, body: "FORBIDDEN NON_LOOPBACK_WITHOUT_TOKEN 40301"},
		{name: "cross origin", cfg: authmin.Config{LoopbackOptional: true}, method: http.MethodPost, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, status: 403, body: "FORBIDDEN CROSS_ORIGIN 40303"},
		{name: "host", cfg: authmin.Config{Keys: set}, host: "evil.example", status: 421, body: "FORBIDDEN HOST_NOT_ALLOWED 42101"},
		{name: "verifier down", cfg: authmin.Config{Keys: down}, header: bearerHeader(canary), status: 503, body: "AUTH_UNAVAILABLE VERIFIER_DOWN 50301", retry: "1"},
		{name: "head", cfg: authmin.Config{Keys: set}, method: http.MethodHead, status: 401, challenge: `Bearer realm="llorch"`},
	} {
		cfg := c.cfg
		cfg.Answer = func(w http.ResponseWriter, r *http.Request, refusal *authmin.Refusal) {
			if r.Header.Get("Authorization") != "" {
				t.Errorf("%s: the hook sees the token", c.name)
			}
			w.Header().Set("Content-Type", "text/x-refusal")
			w.WriteHeader(http.StatusTeapot) // must not count
			fmt.Fprintf(w, "%s %s %d", refusal.Code, refusal.Reason, refusal.AuthCode)
		}
		gate := newGate(t, cfg)
		for _, h2 := range []bool{false, true} {
			srv := httptest.NewUnstartedServer(gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s: reached the handler", c.name) })))
			srv.EnableHTTP2 = h2
			srv.StartTLS()
			method := c.method
			if method == "" {
				method = http.MethodGet
			}
			r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"/v2/tasks", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = c.host
			maps.Copy(r.Header, c.header)
			resp, err := srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			srv.Close()
			if err != nil || (resp.ProtoMajor == 2) != h2 {
				t.Fatalf("%s: %v, protocol %s", c.name, err, resp.Proto)
			}
			h := resp.Header
			if resp.StatusCode != c.status || string(body) != c.body || h.Get("WWW-Authenticate") != c.challenge || h.Get("Retry-After") != c.retry ||
				h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/x-refusal" {
				t.Errorf("%s (HTTP/2 %v): %d %q %v", c.name, h2, resp.StatusCode, body, h)
			}
		}
	}
}

// AUTH-27, and the default answer.
func TestGateWrap(t *testing.T) {
	tok := authmin.Generate("demo")
	gate := newGate(t, authmin.Config{Keys: keySet(t, authmin.Key{Name: "laptop", Token: tok})})
	var seen *http.Request
	h := gate.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }))
	r := call{header: http.Header{"Authorization": {"Bearer " + tok.Reveal()}, "Proxy-Authorization": {"Basic eA=="}, "Accept": {"a", "b"}}}.request(t)
	r.Header["authorization"], r.Header["proxy-AUTHORIZATION"] = []string{"x"}, []string{"x"} // as no server spells them
	h.ServeHTTP(httptest.NewRecorder(), r)
	if seen == nil || len(seen.Header) != 1 || len(seen.Header["Accept"]) != 2 {
		t.Fatalf("the handler sees %v", seen)
	}
	if p, ok := authmin.PrincipalFrom(seen.Context()); !ok || p.Name != "laptop" || p.Client != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("PrincipalFrom = %+v, %v", p, ok)
	}
	if len(r.Header) != 5 {
		t.Errorf("the caller's request was changed: %d fields", len(r.Header))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, call{}.request(t))
	if w.Code != 401 || w.Body.String() != "A token is required.\n" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("default answer = %d %q %v", w.Code, w.Body, w.Header())
	}
	silent := newGate(t, authmin.Config{LoopbackOptional: true, Answer: func(http.ResponseWriter, *http.Request, *authmin.Refusal) {}})
	w = httptest.NewRecorder()
	silent.Wrap(h).ServeHTTP(w, call{host: "x.example"}.request(t))
	if w.Code != 421 || w.Body.Len() != 0 {
		t.Errorf("a silent hook gives %d %q", w.Code, w.Body)
	}
}

// boastful says that every caller is local.
type boastful struct{}

func (boastful) Verify(context.Context, authmin.Token) (authmin.Principal, error) {
	return authmin.Principal{Name: "any", Local: true}, nil
}

// AUTH-24: whether a caller is local is for the gate to say.
func TestVerifierCannotMakeLocal(t *testing.T) {
	p, err := newGate(t, authmin.Config{Keys: boastful{}}).Authorize(call{remote: "192.0.2.1:1", local: publicAddr, header: bearerHeader(strangerToken)}.request(t))
	if err != nil || p.Local || p.Name != "any" {
		t.Errorf("Authorize = %+v, %v", p, err)
	}
}

// The seam of the suite: the error of Authorize carries its HTTP status.
func TestRefusalIsError(t *testing.T) {
	gate := newGate(t, authmin.Config{Keys: failing{authmin.ErrExpired}})
	_, err := gate.Authorize(call{header: bearerHeader(canary)}.request(t))
	status, ok := errors.AsType[interface {
		error
		HTTPStatus() int
	}](err)
	if !ok || status.HTTPStatus() != 401 || !errors.Is(err, authmin.ErrExpired) || !errors.Is(err, authmin.ErrRejected) || err.Error() != "authmin: The token is not valid." {
		t.Errorf("Authorize = %v", err)
	}
	if p, err := newGate(t, authmin.Config{LoopbackOptional: true}).Authorize(call{}.request(t)); err != nil || !p.Local {
		t.Errorf("Authorize = %v, %v: a nil *Refusal must be a nil error", p, err)
	}
}

// AUTH-23, AUTH-32: faults of the configuration, all at once.
func TestNewRefuses(t *testing.T) {
	set := keySet(t, authmin.Key{Name: "a", Token: authmin.Generate("a")})
	loop := netip.MustParsePrefix("127.0.0.1/32")
	for name, cfg := range map[string]authmin.Config{
		"nothing":            {},
		"nil set":            {Keys: (*authmin.KeySet)(nil)},
		"empty set":          {Keys: new(authmin.KeySet)},
		"wildcard":           {Keys: set, Open: []string{"/a*"}},
		"dots":               {Keys: set, Open: []string{"/a/../b"}},
		"double slash":       {Keys: set, OpenLocal: []string{"//a"}},
		"trailing slash":     {Keys: set, Open: []string{"/a/"}},
		"root":               {Keys: set, Open: []string{"/"}},
		"relative":           {Keys: set, Open: []string{"a"}},
		"everybody v4":       {Keys: set, Proxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
		"everybody v6":       {Keys: set, Proxies: []netip.Prefix{netip.MustParsePrefix("::/0")}},
		"zero prefix":        {Keys: set, Proxies: []netip.Prefix{{}}},
		"loopback proxy":     {Keys: set, LoopbackOptional: true, Proxies: []netip.Prefix{loop}},
		"wide proxy":         {Keys: set, LoopbackOptional: true, Proxies: []netip.Prefix{netip.MustParsePrefix("64.0.0.0/2")}},
		"mapped proxy":       {Keys: set, LoopbackOptional: true, Proxies: []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.0/120")}},
		"quote in realm":     {Keys: set, Realm: `a"b`},
		"backslash in realm": {Keys: set, Realm: `a\b`},
		"newline in realm":   {Keys: set, Realm: "a\nb"},
		"long realm":         {Keys: set, Realm: strings.Repeat("r", 65)},
		"bad host":           {Keys: set, AllowedHosts: []string{"a b"}},
		"host with path":     {Keys: set, AllowedHosts: []string{"a/b"}},
		"empty host":         {Keys: set, AllowedHosts: []string{""}},
	} {
		if g, err := authmin.New(cfg); err == nil || g != nil {
			t.Errorf("%s: New = %v", name, err)
		}
	}
	_, err := authmin.New(authmin.Config{Realm: `"`, Open: []string{"/x/"}})
	if !errors.Is(err, authmin.ErrNoKeys) || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("New = %v, want three faults", err)
	}
	for name, cfg := range map[string]authmin.Config{
		"loopback proxy beside hosts": {Keys: set, LoopbackOptional: true, Proxies: []netip.Prefix{loop}, AllowedHosts: []string{"gpu.lan"}},
		"loopback proxy, all tokens":  {Keys: set, Proxies: []netip.Prefix{loop}},
		"long realm":                  {Keys: set, Realm: strings.Repeat("r", 64)},
		"no open path":                {Keys: set, Open: []string{}, OpenLocal: []string{}},
	} {
		g, err := authmin.New(cfg)
		if err != nil {
			t.Errorf("%s: New = %v", name, err)
		} else if name == "no open path" && (decide(t, g, call{target: "/health"}) != "40101" || decide(t, g, call{target: "/metrics"}) != "40101") {
			t.Errorf("%s: an empty list opens the default paths", name)
		}
	}
}
