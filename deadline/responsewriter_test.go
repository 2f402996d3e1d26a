package deadline_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
	"pgregory.net/rapid"
)

// DL-16: a hijacked connection is the handler's; nothing is answered on it.
func TestHijack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		exceeded := make(chan struct{}, 2)
		m, err := deadline.New(deadline.Config{
			Answer: func(http.ResponseWriter, *http.Request, int, error) {
				t.Error("answered on a connection that is not the server's")
			},
			Hooks: deadline.Hooks{Exceeded: func(*deadline.Exceeded) { exceeded <- struct{}{} }},
		})
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			<-r.Context().Done()
			fmt.Fprint(conn, "mine")
		}))}
		var wg sync.WaitGroup
		wg.Go(func() { _ = srv.Serve(l) })
		conn, err := l.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: hop\r\nX-Request-Timeout-Ms: 1000\r\n\r\n")
		got, err := io.ReadAll(conn)
		_ = srv.Close()
		wg.Wait()
		<-exceeded
		synctest.Wait()
		if string(got) != "mine" || err != nil || len(exceeded) != 0 {
			t.Errorf("%q, %v, %d more expiries", got, err, len(exceeded))
		}
	})
}

// DL-15: a handler blocked in Write is released WriteGrace after the deadline.
func TestBlockedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		returned := make(chan time.Duration, 1)
		start := time.Now()
		client := serve(t, wrap(t, deadline.Config{WriteGrace: 2 * time.Second}, func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(make([]byte, 1<<16)); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
			}
			returned <- time.Since(start)
		}))
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hop/", nil)
		r.Header.Set("X-Request-Timeout-Ms", "1000")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if took := <-returned; took != 3*time.Second { // nobody reads resp.Body
			t.Errorf("released after %v", took)
		}
		resp.Body.Close()
	})
}

// G5: a copy from an upstream that fails before its first byte leaves the 504
// possible; one that fails later does not get a second answer. Real sockets, so
// that net/http's own ReadFrom is in play.
func TestReadFrom(t *testing.T) {
	h := wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		ready := strings.Repeat("x", 512)
		switch r.URL.Path {
		case "/whole":
			_, _ = io.Copy(w, strings.NewReader(strings.Repeat("y", 1<<17)))
			return
		case "/empty":
			ready = ""
		}
		_, _ = io.Copy(w, io.MultiReader(strings.NewReader(ready), readerFunc(func([]byte) (int, error) {
			<-r.Context().Done()
			return 0, r.Context().Err()
		})))
	})
	srv := httptest.NewServer(h)
	defer srv.Close()
	for path, want := range map[string]string{"/whole": "200 131072", "/empty": "504 47", "/later": "200 512"} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if path != "/whole" {
			r.Header.Set("X-Request-Timeout-Ms", "20")
		}
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", len(body)); got != want || err != nil {
			t.Errorf("%s: %s %v, want %s", path, got, err, want)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// DL-14, DL-16: the same over HTTP/2, and full duplex over both.
func TestHTTP2AndFullDuplex(t *testing.T) {
	h := wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		for in := bufio.NewScanner(r.Body); in.Scan(); {
			fmt.Fprintln(w, in.Text())
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, http2 := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(h)
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		client := srv.Client()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/hang", nil)
		r.Header.Set("X-Request-Timeout-Ms", "20")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 504 || resp.Header.Get("Retry-After") != "1" || (resp.ProtoMajor == 2) != http2 {
			t.Errorf("%s: %d %v", resp.Proto, resp.StatusCode, resp.Header)
		}
		up, feed := io.Pipe()
		r, _ = http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/echo", up)
		r.Header.Set("X-Request-Timeout-Ms", "10000")
		go fmt.Fprintln(feed, "one")
		resp, err = client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		back := bufio.NewReader(resp.Body)
		one, _ := back.ReadString('\n')
		go fmt.Fprintln(feed, "two")
		two, _ := back.ReadString('\n')
		if one+two != "one\ntwo\n" {
			t.Errorf("%s: %q %q", resp.Proto, one, two)
		}
		feed.Close()
		resp.Body.Close()
		srv.Close()
	}
}

// A server that cannot flush or hijack says so and nothing counts as written.
func TestUnsupported(t *testing.T) {
	plain := httptest.NewRecorder()
	h := wrap(t, deadline.Config{Default: time.Millisecond * 5}, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Flush: %v", err)
		}
		if _, _, err := rc.Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack: %v", err)
		}
		<-r.Context().Done()
	})
	h.ServeHTTP(struct{ http.ResponseWriter }{plain}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if plain.Code != 504 {
		t.Errorf("%d", plain.Code)
	}
}

// The state machine of one exchange, in virtual time: whatever a handler does,
// the client never gets an early 504, never a late one, and exactly one answer.
func TestMiddlewareModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []string
		var pauses []time.Duration
		client := serve(t, wrap(t, deadline.Config{Default: time.Second}, func(w http.ResponseWriter, r *http.Request) {
			for i, step := range steps {
				switch step {
				case "write":
					fmt.Fprint(w, "x")
				case "sleep":
					time.Sleep(pauses[i])
				case "hang":
					<-r.Context().Done()
				case "panic":
					panic(http.ErrAbortHandler)
				}
			}
		}))
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			steps = rapid.SliceOfN(rapid.SampledFrom([]string{"write", "sleep", "sleep", "hang", "panic"}), 0, 5).Draw(rt, "steps")
			pauses = rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) time.Duration {
				return time.Duration(rapid.IntRange(0, 700).Draw(rt, "ms"))*time.Millisecond + time.Microsecond
			}), 5, 5).Draw(rt, "pauses")
			clock, wrote, aborted := predict(steps, pauses)
			start := time.Now()
			resp, err := client.Get("http://hop/")
			took := time.Since(start)
			if aborted || wrote > 0 && clock > 2*time.Second { // no byte of the handler goes out after deadline and WriteGrace
				if err == nil {
					resp.Body.Close()
					rt.Fatalf("answered with %d after %v, aborted: %v", resp.StatusCode, clock, aborted)
				}
				return
			}
			if err != nil {
				rt.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			want := 200
			if wrote == 0 && clock >= time.Second {
				want = 504
			}
			late := clock > 2*time.Second // beyond WriteGrace the connection is gone
			if resp.StatusCode != want || took != clock || want == 200 && len(body) != wrote || err != nil && !late {
				rt.Fatalf("%d %q after %v, %v; want %d with %d bytes after %v", resp.StatusCode, body, took, err, want, wrote, clock)
			}
		})
	})
}

// predict says how long the handler takes, how much it writes and whether it ends
// in a panic.
func predict(steps []string, pauses []time.Duration) (clock time.Duration, wrote int, aborted bool) {
	for i, step := range steps {
		switch step {
		case "write":
			wrote++
		case "sleep":
			clock += pauses[i]
		case "hang":
			clock = max(clock, time.Second)
		case "panic":
			return clock, wrote, true
		}
	}
	return clock, wrote, false
}
