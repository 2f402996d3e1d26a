package deadline_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/deadline"
)

// nowhere is a ResponseWriter that costs nothing.
type nowhere struct{ h http.Header }

func (w nowhere) Header() http.Header         { return w.h }
func (w nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w nowhere) WriteHeader(int)             {}

func BenchmarkWrap(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
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
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(nowhere{http.Header{}}, r)
			}
		}
	}
	b.Run("none", run(m.Wrap(hello), ""))
	b.Run("deadline", run(m.Wrap(hello), "60000"))
	b.Run("TimeoutHandler", run(http.TimeoutHandler(hello, time.Minute, ""), ""))
	b.Run("WithTimeout", func(b *testing.B) {
		for b.Loop() {
			_, cancel := context.WithTimeout(b.Context(), time.Minute)
			cancel()
		}
	})
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
