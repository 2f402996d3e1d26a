package deadline_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/deadline"
)

// nowhere is a ResponseWriter that costs nothing and can do what a connection can.
type nowhere struct{ h http.Header }

func (w nowhere) Header() http.Header              { return w.h }
func (w nowhere) Write(p []byte) (int, error)      { return len(p), nil }
func (w nowhere) WriteHeader(int)                  {}
func (w nowhere) SetReadDeadline(time.Time) error  { return nil }
func (w nowhere) SetWriteDeadline(time.Time) error { return nil }

// byHand is what one writes without this module: a number of milliseconds and
// context.WithTimeout, and nobody who answers.
func byHand(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ms, err := strconv.Atoi(r.Header.Get("X-Request-Timeout-Ms"))
		if err != nil {
			http.Error(w, "bad timeout", http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(ms)*time.Millisecond)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// copying makes the copy of the request that nobody who adds a context avoids.
func copying(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(r.Context()))
	})
}

// Goals: none ≤ 500 ns; deadline ≤ 2.5 × WithTimeout and below TimeoutHandler.
func BenchmarkWrap(b *testing.B) {
	text := []byte("hello")
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
	m, err := deadline.New(deadline.Config{})
	if err != nil {
		b.Fatal(err)
	}
	run := func(h http.Handler, stated string) func(*testing.B) {
		return func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
			if stated != "" {
				r.Header.Set("X-Request-Timeout-Ms", stated)
			}
			w := nowhere{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		}
	}
	b.Run("none", run(m.Wrap(hello), ""))
	b.Run("deadline", run(m.Wrap(hello), "60000"))
	b.Run("WithTimeout", func(b *testing.B) {
		ctx := b.Context()
		b.ReportAllocs()
		for b.Loop() {
			_, cancel := context.WithTimeout(ctx, time.Minute)
			cancel()
		}
	})
	b.Run("WithContext", run(copying(hello), ""))
	b.Run("TimeoutHandler", run(http.TimeoutHandler(hello, time.Minute, ""), ""))
	b.Run("byHand", run(byHand(hello), "60000"))
}

// What a request costs does not grow: the exchange and the request's copy, and
// with a deadline what context.WithTimeout needs and the cause.
func TestWrapAllocations(t *testing.T) {
	m, err := deadline.New(deadline.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h, w := m.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), nowhere{http.Header{}}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	none := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) })
	r.Header.Set("X-Request-Timeout-Ms", "60000")
	bounded := testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) })
	least := testing.AllocsPerRun(100, func() {
		_, stop := context.WithTimeout(ctx, time.Minute)
		stop()
	})
	if none > 2 || bounded > least+3 {
		t.Errorf("%v allocations without and %v with a deadline; context.WithTimeout alone has %v", none, bounded, least)
	}
}

// A Middleware and a Transport serve many goroutines.
func TestWrapConcurrentSafe(t *testing.T) {
	client := serve(t, wrap(t, deadline.Config{Default: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel, err := deadline.MergeRelative(r.Context(), 30_000)
		defer cancel()
		if err != nil || deadline.Require(ctx, time.Second) != nil {
			t.Error("no time left")
		}
	}))
	client.Transport = &deadline.Transport{Base: client.Transport, Default: time.Minute}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				resp, err := client.Get("http://hop/")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}
