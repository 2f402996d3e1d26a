package deadline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

// bubbled counts the goroutines of the bubble that it is called in.
func bubbled() int {
	for size := 1 << 16; ; size *= 2 {
		if buf := make([]byte, size); runtime.Stack(buf, true) < size {
			return strings.Count(string(buf), ", synctest bubble ")
		}
	}
}

// fault is one way in which an exchange goes wrong.
type fault struct {
	handle func(via *http.Client, w http.ResponseWriter, r *http.Request)
	body   func() (io.Reader, func()) // of the request, and what ends it
	gone   time.Duration              // when the client leaves; 0 = it waits
	mute   bool                       // the client reads the header only
	status int                        // that the client sees; 0 = none
	took   time.Duration              // by the handler
	hooks  int                        // calls of Hooks.Exceeded
}

// stalled is a request body that begins and never goes on.
func stalled() (io.Reader, func()) {
	up, feed := io.Pipe()
	go func() { _, _ = feed.Write([]byte("beginning")) }()
	return up, func() { feed.Close() }
}

// One second is what every one of these requests may take.
func faults() map[string]fault {
	return map[string]fault{
		"handler waits for its context": {
			handle: func(_ *http.Client, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			status: 504, took: time.Second, hooks: 1,
		},
		"blocked Body.Read": {
			handle: func(_ *http.Client, _ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
			body:   stalled, status: 504, took: time.Second + 50*time.Millisecond, hooks: 1,
		},
		"blocked Write on a full socket": {
			handle: func(_ *http.Client, w http.ResponseWriter, _ *http.Request) {
				for _, err := w.Write(make([]byte, 1<<16)); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
				}
			},
			mute: true, status: 200, took: 2 * time.Second, hooks: 1,
		},
		"client gone before expiry": {
			handle: func(_ *http.Client, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			gone:   300 * time.Millisecond, took: 300 * time.Millisecond,
		},
		"client gone after expiry": {
			handle: func(_ *http.Client, _ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				time.Sleep(3 * time.Second)
			},
			gone: 1500 * time.Millisecond, took: 4 * time.Second, hooks: 1,
		},
		"client gone before expiry, handler late": {
			handle: func(*http.Client, http.ResponseWriter, *http.Request) { time.Sleep(3 * time.Second) },
			gone:   300 * time.Millisecond, took: 3 * time.Second,
		},
		"unread body that stops": {
			handle: func(_ *http.Client, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			body:   stalled, status: 504, took: time.Second, hooks: 1,
		},
		"full duplex, blocked Body.Read": {
			handle: func(_ *http.Client, w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				_, _ = rc.EnableFullDuplex(), rc.Flush()
				_, _ = io.Copy(io.Discard, r.Body)
			},
			body: stalled, status: 200, took: time.Second + 50*time.Millisecond, hooks: 1,
		},
		"upstream sends headers and stops": {
			handle: func(via *http.Client, w http.ResponseWriter, r *http.Request) {
				out, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://upstream/", nil)
				resp, err := via.Do(out)
				if err != nil {
					return
				}
				defer resp.Body.Close()
				_, _ = io.Copy(w, resp.Body)
			},
			status: 504, took: time.Second, hooks: 1,
		},
	}
}

// G5, DL-14, DL-15, DL-17: whatever stops, the handler is released, a client
// that still waits has its 504 within 100 ms of the deadline where nothing was
// written, and no goroutine is left although the server goes on.
func TestNoLeak(t *testing.T) {
	for name, f := range faults() {
		for major := 1; major <= 2; major++ {
			t.Run(fmt.Sprintf("%s, HTTP/%d", name, major), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { f.check(t, major) })
			})
		}
	}
}

func (f *fault) check(t *testing.T, major int) {
	t.Helper()
	upstream := serveOver(t, major, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	idle := upstream.Transport.(*http.Transport).CloseIdleConnections
	upstream.Transport = &deadline.Transport{Base: upstream.Transport}
	hooks, took := 0, time.Duration(0)
	cfg := deadline.Config{Hooks: deadline.Hooks{Exceeded: func(*deadline.Exceeded) { hooks++ }}}
	client := serveOver(t, major, wrap(t, cfg, func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		f.handle(upstream, w, r)
		took = time.Since(began)
	}))
	synctest.Wait()
	before := bubbled()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if f.gone > 0 {
		defer time.AfterFunc(f.gone, cancel).Stop()
	}
	var body io.Reader
	end := func() {}
	if f.body != nil {
		body, end = f.body()
	}
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://hop/", body)
	r.Header.Set("X-Request-Timeout-Ms", "1000")
	began := time.Now()
	resp, err := client.Do(r)
	answered := time.Since(began)
	switch {
	case f.status == 0:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the client that left has %v, %v", resp, err)
		}
	case err != nil:
		t.Fatal(err)
	case resp.StatusCode != f.status || f.status == 504 && (answered < time.Second || answered > 1100*time.Millisecond):
		t.Errorf("%d after %v, want %d", resp.StatusCode, answered, f.status)
	}
	time.Sleep(5 * time.Second) // longer than any grace; the server stays
	if err == nil {
		if !f.mute {
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		resp.Body.Close()
	}
	end()
	client.CloseIdleConnections()
	idle()
	time.Sleep(5 * time.Second)
	synctest.Wait()
	if after := bubbled(); after != before {
		t.Errorf("%d goroutines, %d before the request", after, before)
	}
	if took != f.took || hooks != f.hooks {
		t.Errorf("the handler took %v, want %v; %d expiries, want %d", took, f.took, hooks, f.hooks)
	}
}
