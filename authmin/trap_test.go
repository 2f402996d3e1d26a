package authmin_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
)

// hyperium/headers#141, owncast#3376
func TestTrap_LowerCaseScheme(t *testing.T) {
	if tok, err := authmin.ParseBearer("bearer abc"); tok.Reveal() != "abc" {
		t.Errorf("ParseBearer = %v", err)
	}
}

// Only the second word of the field was looked at.
func TestTrap_ExtraParts(t *testing.T) {
	if _, err := authmin.ParseBearer("Bearer abc def"); !errors.Is(err, authmin.ErrMalformed) {
		t.Errorf("ParseBearer = %v", err)
	}
}

// An empty secret authenticates an empty header.
func TestTrap_EmptyConfiguredToken(t *testing.T) {
	for _, k := range []authmin.Key{{Name: "a"}, {Name: "a", Digest: sha256.Sum256(nil)}} {
		if _, err := authmin.NewKeySet(k); err == nil {
			t.Error("an empty secret is a key")
		}
	}
	var none *authmin.KeySet
	if _, err := authmin.New(authmin.Config{Keys: none}); !errors.Is(err, authmin.ErrNoKeys) {
		t.Errorf("New with a typed nil = %v", err)
	}
	optional := newGate(t, authmin.Config{Keys: none, LoopbackOptional: true})
	for _, field := range []string{"Bearer ", "Bearer", ""} {
		if got := decide(t, optional, call{remote: "192.0.2.1:1", local: publicAddr, header: http.Header{"Authorization": {field}}}); got != "40301" {
			t.Errorf("%q from afar: %s", field, got)
		}
	}
}

// ConstantTimeCompare returns at once on unequal length, a loop at the match:
// here both sides are digests and all are compared.
func TestTrap_LengthLeak(t *testing.T) {
	keys := keySet(t, authmin.Key{Name: "long", Token: parsed(t, strings.Repeat("abcdefgh", 8)+"XYZ-9")})
	for _, guess := range []string{"a", strings.Repeat("abcdefgh", 8), strings.Repeat("abcdefgh", 8) + "XYZ-8"} {
		if _, err := keys.Verify(t.Context(), parsed(t, guess)); !errors.Is(err, authmin.ErrRejected) {
			t.Errorf("Verify(%s) = %v", guess, err)
		}
	}
}

// A page makes its own name resolve to 127.0.0.1 and calls the local service.
func TestTrap_DNSRebinding(t *testing.T) {
	gate := newGate(t, authmin.Config{LoopbackOptional: true})
	if got := decide(t, gate, call{host: "rebind.evil.example:8080"}); got != "42101" {
		t.Errorf("a rebound name gets %s", got)
	}
}

func TestTrap_WildcardBind(t *testing.T) {
	for _, addr := range []string{":8080", "0.0.0.0:8080", "[::]:8080", "*:8080"} {
		if err := (authmin.BindPolicy{}).Check(t.Context(), "tcp", addr, false); !errors.Is(err, authmin.ErrBindRefused) {
			t.Errorf("Check(%s) = %v", addr, err)
		}
	}
}

// A resolver reads these as 127.0.0.1, and the next one as something else.
func TestTrap_DecimalLoopback(t *testing.T) {
	for _, addr := range []string{"2130706433:80", "127.1:80", "0x7f.1:80", "017700000001:80"} {
		if err := (authmin.BindPolicy{}).Check(t.Context(), "tcp", addr, true); !errors.Is(err, authmin.ErrBadAddress) {
			t.Errorf("Check(%s) = %v", addr, err)
		}
	}
}

// A proxy on the same host forwards the Internet to loopback.
func TestTrap_ProxyToLoopback(t *testing.T) {
	gate := newGate(t, authmin.Config{LoopbackOptional: true})
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-Ip", "Via"} {
		if got := decide(t, gate, call{header: http.Header{name: {"x"}}}); got != "40301" {
			t.Errorf("with %s: %s", name, got)
		}
	}
}

// Cutting a long token inside a character panicked.
func TestTrap_FingerprintSlicesUTF8(t *testing.T) {
	for i := range 20 {
		if got := authmin.FP6(strings.Repeat("\U0001f600", 5)[:i]); len(got) != 6 {
			t.Errorf("FP6 = %q", got)
		}
	}
}

func TestTrap_UnexportedFieldLeak(t *testing.T) {
	type client struct{ secret authmin.Token }
	if out := fmt.Sprintf("%+v %#v %v %+#v", client{parsed(t, canary)}, client{parsed(t, canary)}, client{parsed(t, canary)}, client{parsed(t, canary)}); leaks(out) {
		t.Error("an unexported token is printed")
	}
}

func TestTrap_OpenPathTricks(t *testing.T) {
	tok := authmin.Generate("demo")
	gate := newGate(t, authmin.Config{Keys: keySet(t, authmin.Key{Name: "a", Token: tok})})
	srv := httptest.NewServer(gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	defer srv.Close()
	noFollow := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, want := range map[string]int{
		"GET /health": 200, "HEAD /health": 200, "GET /health?x": 200,
		"GET /health/": 401, "GET //health": 401, "GET /health/../v2/tasks": 401, "GET /%68ealth": 401, "POST /health": 401, "GET /health;x": 401, "GET /Health": 401, "GET /health%00": 401, "GET /healthz": 401, "OPTIONS /health": 401,
	} {
		method, target, _ := strings.Cut(path, " ")
		resp, err := noFollow.Do(request(t, method, srv.URL+target, http.NoBody))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s = %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// talkative says too much.
type talkative struct{}

func (talkative) Verify(_ context.Context, t authmin.Token) (authmin.Principal, error) {
	return authmin.Principal{}, fmt.Errorf("backend says no to %s", t.Reveal())
}

// TestNoLeak drives all outcomes with a canary token and searches every output.
func TestNoLeak(t *testing.T) {
	var out bytes.Buffer
	opts := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	observe := func(_ context.Context, e authmin.Event) { fmt.Fprintf(&out, "%+v\n", e) }
	own := keySet(t, authmin.Key{Name: "own", Token: parsed(t, canary)})
	other := keySet(t, authmin.Key{Name: "other", Token: authmin.Generate("x")})
	for _, logger := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, opts)), slog.New(slog.NewJSONHandler(&out, opts))} {
		for _, cfg := range []authmin.Config{{Keys: own}, {Keys: other, LoopbackOptional: true}, {LoopbackOptional: true}, {Keys: talkative{}}, {Keys: failing{authmin.ErrExpired}}} {
			cfg.Logger, cfg.Observe = logger, observe
			gate := newGate(t, cfg)
			h := gate.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%v %v", r.Header, r.Context())
				panic(fmt.Sprintf("handler of %+v", r.Header))
			}))
			for _, field := range []string{"Bearer " + canary, "Bearer " + canary + " x", "bearer  " + canary, "Basic " + canary} {
				for _, c := range []call{{}, {host: "evil.example"}, {remote: "192.0.2.1:1", local: publicAddr}, {target: "/health"}, {method: http.MethodPost, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}}} {
					r := c.request(t)
					r.Header.Set("Authorization", field)
					r.Header.Set("Proxy-Authorization", field)
					w := httptest.NewRecorder()
					func() {
						defer func() {
							if v := recover(); v != nil {
								fmt.Fprintln(&out, v)
							}
						}()
						h.ServeHTTP(w, r)
					}()
					fmt.Fprintln(&out, w.Header(), w.Body)
					p, err := gate.Authorize(r)
					fmt.Fprintf(&out, "%+v %v\n", p, err)
				}
			}
			fmt.Fprintf(&out, "%+v %#v\n", gate, gate)
		}
	}
	fmt.Fprintf(&out, "%+v %#v\n", own, own)
	if out.Len() < 10_000 || leaks(out.String()) {
		t.Errorf("of %d bytes of output some show the token", out.Len())
	}
}

// TestSourceHasNoTokenCompare: token bytes and digests are compared nowhere but
// in equalDigest.
func TestSourceHasNoTokenCompare(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source: %v", err)
	}
	secret := func(n ast.Node) bool { // mentions what holds token bytes
		found := false
		ast.Inspect(n, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Reveal" || sel.Sel.Name == "reveal" || sel.Sel.Name == "digest") {
					found = true
				}
				if fn, ok := call.Fun.(*ast.Ident); ok && fn.Name == "len" {
					return false // a length is no content
				}
			}
			return true
		})
		return found
	}
	compares := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && (secret(n.X) || secret(n.Y)) {
					t.Errorf("%s compares a secret with %s", fset.Position(n.Pos()), n.Op)
				}
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				switch sel.Sel.Name {
				case "Equal", "Compare", "EqualFold", "HasPrefix", "Contains":
					for _, arg := range n.Args {
						if secret(arg) {
							t.Errorf("%s compares a secret by %s", fset.Position(n.Pos()), sel.Sel.Name)
						}
					}
				case "ConstantTimeCompare":
					compares++
				}
			}
			return true
		})
	}
	if compares != 1 {
		t.Errorf("ConstantTimeCompare is called in %d places, want 1", compares)
	}
}
