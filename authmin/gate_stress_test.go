package authmin_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/authmin"
)

// TestGateConcurrentSafe (AUTH-12, AUTH-36): many requests beside changes of the
// keys; every decision is counted once. A hundred times in the nightly run.
func TestGateConcurrentSafe(t *testing.T) {
	times := 1
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		times = 100
	}
	for range times {
		hammerGate(t)
	}
}

func hammerGate(t *testing.T) {
	tok := authmin.Generate("demo")
	set := keySet(t, authmin.Key{Name: "laptop", Token: tok})
	var mu sync.Mutex
	events := 0
	gate := newGate(t, authmin.Config{Keys: set, Observe: func(_ context.Context, e authmin.Event) {
		mu.Lock()
		defer mu.Unlock()
		events += 1 + e.Suppressed
	}})
	reached := 0
	h := gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		reached++
	}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				c := call{header: bearerHeader(strangerToken)}
				if i%2 == 0 {
					c.header = bearerHeader(tok.Reveal())
				}
				h.ServeHTTP(httptest.NewRecorder(), c.request(t))
				switch i % 20 {
				case 5:
					if err := set.Replace(authmin.Key{Name: "laptop", Token: tok}); err != nil {
						t.Errorf("Replace = %v", err)
					}
				case 15:
					if _, _, err := set.Rotate("laptop", authmin.Generate("next"), 24*time.Hour); err != nil {
						t.Errorf("Rotate = %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	h.ServeHTTP(httptest.NewRecorder(), call{header: bearerHeader(tok.Reveal())}.request(t))
	if events != 801 || reached != 401 {
		t.Errorf("events count %d decisions and %d requests reached the handler, want 801 and 401", events, reached)
	}
}

// FuzzGate (AUTH-23, AUTH-24, AUTH-25, G2, G4): arbitrary requests never panic,
// never pass without the live token or an independent reason, and nothing that
// comes out shows another token that they carry.
func FuzzGate(f *testing.F) {
	live := authmin.Generate("a")
	f.Add("GET", "/v2/tasks", "127.0.0.1", "127.0.0.1:1", "Authorization: Bearer x\nAccept: */*", true)
	f.Add("POST", "/health", "localhost", "10.0.0.1:1", "X-Forwarded-For: 1.2.3.4", true)
	f.Add("GET", "/%68ealth", "[::1]", "@", "authorization: Bearer y\nCookie: token=x\nCookie: b", true)
	f.Add("GET", "/metrics", "gpu.lan:80", "[::1%eth0]:1", "Origin: https://evil.example\nSec-Fetch-Site: cross-site", false)
	f.Add("GET", "/v2/tasks", "localhost", "127.0.0.1:1", "Authorization: Bearer LIVE", true)
	f.Add("GET", "/v2/tasks", "localhost", "127.0.0.1:1", "Authorization: bearer LIVE\nAuthorization: Bearer LIVE", true)
	f.Fuzz(func(t *testing.T, method, path, host, remote, fields string, here bool) {
		var out bytes.Buffer
		c := call{method: http.MethodGet, local: publicAddr}
		if here {
			c.local = loopbackAddr
		}
		r := c.request(t)
		r.Method, r.URL.Path, r.Host, r.RemoteAddr = method, path, host, remote
		r.Header = http.Header{"X-Canary": {canary}, "Proxy-Authorization": {"Bearer " + canary}}
		for line := range strings.SplitSeq(fields, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			name = http.CanonicalHeaderKey(name)
			r.Header[name] = append(r.Header[name], strings.ReplaceAll(value, "LIVE", live.Reveal()))
		}
		if _, own := r.Header["Authorization"]; !own && len(fields)%2 == 0 {
			r.Header.Set("Authorization", "Bearer "+canary)
		}
		opts := &slog.HandlerOptions{Level: slog.LevelDebug}
		cfg := authmin.Config{
			AllowedHosts: []string{"gpu.lan"}, Logger: slog.New(slog.NewTextHandler(&out, opts)),
			Observe: func(_ context.Context, e authmin.Event) { fmt.Fprintf(&out, "%+v", e) },
		}
		with := cfg
		with.Keys = keySet(t, authmin.Key{Name: "a", Token: live})
		cfg.LoopbackOptional = true
		if pass(t, newGate(t, with), r, &out) && !open(r, here) && !carries(r, live) {
			t.Errorf("%q %q passed without a token", method, path)
		}
		if pass(t, newGate(t, cfg), r, &out) && !open(r, here) && !mayBeLocal(r, here) {
			t.Errorf("%q from %q passed as a local request", method, remote)
		}
		if leaks(strings.ReplaceAll(out.String(), live.Reveal(), "")) {
			t.Error("something shows the canary")
		}
	})
}

// pass sends a request through a gate and reports whether it reached the
// handler, which must not see a credential.
func pass(t *testing.T, gate *authmin.Gate, r *http.Request, out *bytes.Buffer) (reached bool) {
	w := httptest.NewRecorder()
	gate.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached = true
		if r.Header.Get("Authorization") != "" || r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the handler sees a credential")
		}
	})).ServeHTTP(w, r)
	fmt.Fprintln(out, w.Code, w.Header(), w.Body)
	if reached == (w.Header().Get("Cache-Control") == "no-store") {
		t.Errorf("reached the handler: %v, answer %d", reached, w.Code)
	}
	return reached
}

// open reports whether r may pass without a token from where it comes.
func open(r *http.Request, here bool) bool {
	return (r.Method == "GET" || r.Method == "HEAD") && (r.URL.Path == "/health" || r.URL.Path == "/metrics" && mayBeLocal(r, here))
}

// carries reports whether r has the token in its one Authorization field.
func carries(r *http.Request, tok authmin.Token) bool {
	fields := r.Header["Authorization"]
	return len(fields) == 1 && len(fields[0]) == 7+len(tok.Reveal()) && strings.HasSuffix(fields[0], " "+tok.Reveal())
}

// mayBeLocal is the least that must hold for a request from this machine.
func mayBeLocal(r *http.Request, here bool) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	for name := range r.Header {
		if n := strings.ToLower(name); n == "forwarded" || n == "via" || n == "x-real-ip" || strings.HasPrefix(n, "x-forwarded-") {
			return false
		}
	}
	return here && err == nil && ap.Addr().Unmap().IsLoopback()
}
