package authmin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/llorch/llorch/authmin"
)

func TestGateConcurrentSafe(t *testing.T) {
	tok := authmin.Generate("demo")
	set := keySet(t, authmin.Key{Name: "laptop", Token: tok})
	var mu sync.Mutex
	events := 0
	gate := newGate(t, authmin.Config{Keys: set, Observe: func(_ context.Context, e authmin.Event) {
		mu.Lock()
		defer mu.Unlock()
		events += 1 + e.Suppressed
	}})
	h := gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				c := call{header: bearerHeader(strangerToken)}
				if i%2 == 0 {
					c.header = bearerHeader(tok.Reveal())
				}
				h.ServeHTTP(httptest.NewRecorder(), c.request(t))
				if err := set.Replace(authmin.Key{Name: "laptop", Token: tok}); err != nil {
					t.Errorf("Replace = %v", err)
				}
			}
		})
	}
	wg.Wait()
	h.ServeHTTP(httptest.NewRecorder(), call{header: bearerHeader(tok.Reveal())}.request(t))
	if events != 801 {
		t.Errorf("events count %d decisions, want 801", events)
	}
}

// FuzzGate: arbitrary fields never panic, never pass without the token, and
// never show it.
func FuzzGate(f *testing.F) {
	f.Add("GET", "/v2/tasks", "127.0.0.1", "127.0.0.1:1", "Authorization", "Bearer x")
	f.Add("POST", "/health", "localhost", "10.0.0.1:1", "X-Forwarded-For", "1.2.3.4")
	f.Add("GET", "/%68ealth", "[::1]", "@", "Authorization", "Bearer "+canary[:39])
	set, err := authmin.NewKeySet(authmin.Key{Name: "a", Token: authmin.Generate("a")})
	if err != nil {
		f.Fatal(err)
	}
	gate := newGate(f, authmin.Config{Keys: set, AllowedHosts: []string{"gpu.lan"}})
	f.Fuzz(func(t *testing.T, method, path, host, remote, name, value string) {
		r := call{method: http.MethodGet, remote: remote, host: host}.request(t)
		r.Method, r.URL.Path = method, path
		r.Header[http.CanonicalHeaderKey(name)] = []string{value, value}
		r.Header["X-Canary"] = []string{canary}
		w := httptest.NewRecorder()
		reached := false
		gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })).ServeHTTP(w, r)
		open := (method == "GET" || method == "HEAD") && (path == "/health" || path == "/metrics")
		if reached && !open {
			t.Errorf("%q %q passed without a token", method, path)
		}
		if leaks(w.Body.String() + fmt.Sprint(w.Header())) {
			t.Error("the answer shows the canary")
		}
	})
}

func BenchmarkGate(b *testing.B) {
	tok := authmin.Generate("demo")
	gate := newGate(b, authmin.Config{Keys: keySet(b, authmin.Key{Name: "laptop", Token: tok})})
	bare := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	r := call{header: bearerHeader(tok.Reveal())}.request(b)
	w := httptest.NewRecorder()
	for name, h := range map[string]http.Handler{"allow": gate.Wrap(bare), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
