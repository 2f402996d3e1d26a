package authmin_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
)

// hyperium/headers#141, owncast#3376
func TestTrap_LowerCaseScheme(t *testing.T) {
	for _, scheme := range []string{"bearer", "BEARER", "beArer"} {
		if tok, err := authmin.ParseBearer(scheme + " abc"); tok.Reveal() != "abc" {
			t.Errorf("ParseBearer(%s abc) = %v", scheme, err)
		}
	}
}

// Kubernetes' bearertoken: only the second word of the field was looked at.
func TestTrap_ExtraParts(t *testing.T) {
	if _, err := authmin.ParseBearer("Bearer abc def"); !errors.Is(err, authmin.ErrMalformed) {
		t.Errorf("ParseBearer = %v", err)
	}
}

// golang-rest-api-template#92, switchboard-go#1: an empty secret authenticates
// an empty header.
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

// tinkerdown#181, AnchorNet#122: ConstantTimeCompare returns at once on unequal
// length, so the length of a secret can be measured. Here only digests meet: the
// types of the scan allow nothing else, and a set has no place for a token.
func TestTrap_LengthLeak(t *testing.T) {
	var _ func(*[sha256.Size]byte, [][sha256.Size]byte) (int, int) = authmin.Scan // compiles with digests only
	long := strings.Repeat("abcdefgh", 8)
	keys := keySet(t, authmin.Key{Name: "long", Token: parsed(t, long+"XYZ-9")})
	if dump := fmt.Sprintf("%#v", authmin.Table(keys)); strings.Contains(dump, long) || strings.Contains(dump, "[token ") {
		t.Error("a set keeps tokens")
	}
	for _, guess := range []string{"a", long, long + "XYZ-8", long + "XYZ-99"} {
		if _, err := keys.Verify(t.Context(), parsed(t, guess)); !errors.Is(err, authmin.ErrRejected) {
			t.Errorf("Verify(%s) = %v", guess, err)
		}
	}
}

// gosoline#1387: the loop over the keys stops at the match, so its place can be
// measured. Here the first match costs as many comparisons as the last and none.
func TestTrap_KeyPositionLeak(t *testing.T) {
	digests := make([][sha256.Size]byte, 100)
	for i := range digests {
		digests[i] = sha256.Sum256([]byte{byte(i)})
	}
	absent := sha256.Sum256(nil)
	for at, want := range map[int]*[sha256.Size]byte{0: &digests[0], 50: &digests[50], 99: &digests[99], -1: &absent} {
		if found, compared := authmin.Scan(want, digests); found != at || compared != len(digests) {
			t.Errorf("Scan = %d after %d comparisons, want %d after %d", found, compared, at, len(digests))
		}
	}
}

// modelcontextprotocol/go-sdk#760: a page makes its own name resolve to
// 127.0.0.1 and calls the local service.
func TestTrap_DNSRebinding(t *testing.T) {
	gate := newGate(t, authmin.Config{LoopbackOptional: true})
	if got := decide(t, gate, call{host: "rebind.evil.example:8080"}); got != "42101" {
		t.Errorf("a rebound name gets %s", got)
	}
}

// gptme#3324: the default address listened on every interface.
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
