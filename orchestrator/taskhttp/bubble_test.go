package taskhttp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

const base = "http://orchestrator"

// open starts a request inside a bubble and fails the test on a transport error.
func open(t *testing.T, m *memory, method, path, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := m.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestStreamsWhileGenerating: each token is at the reader the moment it is
// there, also where the server has short timeouts of its own (ORC-504).
func TestStreamsWhileGenerating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []step{started, token("a", 0).after(time.Second), token("b", 1).after(20 * time.Second), end.after(time.Second)}}
		m := serve(&http.Server{Handler: handler(f, func(c *taskhttp.Config) { c.KeepAlive = -1 }), ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second})
		defer m.stop()
		begin := time.Now()
		res := open(t, m, "GET", eventsPath(""), "")
		defer res.Body.Close()
		at := map[string]time.Duration{}
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				at[id] = time.Since(begin)
			}
			if strings.HasPrefix(lines.Text(), ":") {
				t.Errorf("a comment although they are off: %s", lines.Text())
			}
		}
		want := map[string]time.Duration{"1": 0, "2": time.Second, "3": 21 * time.Second, "4": 22 * time.Second}
		if fmt.Sprint(at) != fmt.Sprint(want) || lines.Err() != nil {
			t.Errorf("events at %v, want %v; %v", at, want, lines.Err())
		}
	})
}

// TestLongCall: a call that does not stream outlives the server's timeouts too,
// and a large answer arrives whole.
func TestLongCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := `{"id":"` + strings.Repeat("x", 300_000) + `"}`
		f := &fake{script: []step{started, {typ: orchestrator.EventResult, data: large}, end.after(time.Minute)}}
		m := serve(&http.Server{Handler: handler(f), ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second})
		defer m.stop()
		res := open(t, m, "POST", "/v1/chat/completions", chatBody)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if string(body) != large || err != nil || res.ContentLength != int64(len(large)) {
			t.Errorf("%d bytes of %d (declared %d), %v", len(body), len(large), res.ContentLength, err)
		}
	})
}

// TestLateRefusal: a refusal after a long wait arrives, whatever the server's
// own WriteTimeout.
func TestLateRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []step{queued, failed(taskapi.QueueTimeout).after(time.Minute)}}
		m := serve(&http.Server{Handler: handler(f), WriteTimeout: 2 * time.Second})
		defer m.stop()
		res := open(t, m, "POST", "/v1/chat/completions", chatBody)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 504 || err != nil || !strings.Contains(string(body), "QUEUE_TIMEOUT") {
			t.Errorf("%d %s, %v", res.StatusCode, body, err)
		}
	})
}

// TestKeepAlive proves ORC-503: after 15 s of silence a comment, counted from
// the last event.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []step{started, token("a", 0).after(20 * time.Second), end.after(40 * time.Second)}}
		m := serve(&http.Server{Handler: handler(f)})
		defer m.stop()
		begin := time.Now()
		res := open(t, m, "GET", eventsPath(""), "")
		defer res.Body.Close()
		var at []time.Duration
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if lines.Text() == ": keep-alive" {
				at = append(at, time.Since(begin))
			}
		}
		if want := []time.Duration{15 * time.Second, 35 * time.Second, 50 * time.Second}; fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("comments at %v, want %v", at, want)
		}
	})
}

// TestOpensWithoutEvents: a reader of a task that says nothing learns within a
// second that it is connected.
func TestOpensWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []step{queued, end.after(time.Hour)}}
		m := serve(&http.Server{Handler: handler(f)})
		defer m.stop()
		begin := time.Now()
		res := open(t, m, "GET", eventsPath("?after=1"), "")
		if took := time.Since(begin); res.StatusCode != 200 || took != time.Second {
			t.Errorf("%d after %v", res.StatusCode, took)
		}
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if line != "retry: 2000\n" || err != nil {
			t.Errorf("first line %q, %v", line, err)
		}
		res.Body.Close()
	})
}

// TestEarlyHeaders proves ORC-506: a refusal in the first 10 s keeps its
// status; later the stream is open, pings, and the failure is a frame.
func TestEarlyHeaders(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		9 * time.Second: "503 9s {}",
		11 * time.Second: "200 10s : ping\n" +
			`data: {"error":{"message":"No worker is available.","type":"server_error","code":"POOL_UNAVAILABLE","param":null}}` + "\n\n",
		26 * time.Second: "200 10s : ping\n: ping\n" +
			`data: {"error":{"message":"No worker is available.","type":"server_error","code":"POOL_UNAVAILABLE","param":null}}` + "\n\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{script: []step{queued, failed(taskapi.PoolUnavailable).after(wait)}}
			m := serve(&http.Server{Handler: handler(f)})
			defer m.stop()
			begin := time.Now()
			res := open(t, m, "POST", "/v1/chat/completions", `{"stream":true,`+chatBody[1:])
			took := time.Since(begin)
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil {
				t.Error(err)
			}
			if res.StatusCode != 200 {
				body = []byte("{}")
			}
			if got := fmt.Sprintf("%d %v %s", res.StatusCode, took, body); got != want {
				t.Errorf("refused after %v: %q, want %q", wait, got, want)
			}
		})
	}
}

// TestEarlyHeadersThenTokens: what comes after the pings is the usual stream.
func TestEarlyHeadersThenTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []step{queued, started.after(12 * time.Second), frame("a").after(16 * time.Second), end.after(time.Second)}}
		m := serve(&http.Server{Handler: handler(f)})
		defer m.stop()
		res := open(t, m, "POST", "/v1/chat/completions", `{"stream":true,`+chatBody[1:])
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		want := ": ping\n: ping\ndata: " + frame("a").data.(string) + "\n\ndata: [DONE]\n\n"
		if string(body) != want || err != nil || res.Header.Get("X-Task-Id") == "" {
			t.Errorf("%q, want %q; %v", body, want, err)
		}
	})
}

// TestDisconnect proves ORC-505 on this side: a client that closes its
// connection is gone for the engine at once, streaming or not.
func TestDisconnect(t *testing.T) {
	for name, tt := range map[string]struct{ method, path, body string }{
		"v2":        {"GET", eventsPath(""), ""},
		"v1 stream": {"POST", "/v1/chat/completions", `{"stream":true,` + chatBody[1:]},
		"v1":        {"POST", "/v1/chat/completions", chatBody},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{script: []step{started, frame("a"), token("a", 0)}, hang: true}
			m := serve(&http.Server{Handler: handler(f)})
			defer m.stop()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, cancel)
			r, err := http.NewRequestWithContext(ctx, tt.method, base+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			if res, err := m.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			synctest.Wait()
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.left) != 1 || f.left[0] != context.Canceled {
				t.Errorf("%s: readers left with %v", name, f.left)
			}
		})
	}
}

// TestSlowReaderIsCut proves ORC-504: who does not read for 10 s is cut, leaves
// a line in the log, and delays nobody else.
func TestSlowReaderIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		f := &fake{script: []step{started}}
		for i := range 200 {
			f.script = append(f.script, token(strings.Repeat("x", 100), i).after(100*time.Millisecond))
		}
		f.script = append(f.script, end)
		m := serve(&http.Server{Handler: handler(f, func(c *taskhttp.Config) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})})
		defer m.stop()
		conn, err := m.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nX-Correlation-Id: slow\r\n\r\n", eventsPath("")) // and reads nothing
		begin := time.Now()
		res := open(t, m, "GET", eventsPath(""), "")
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if took := time.Since(begin); took != 20*time.Second || err != nil || !strings.Contains(string(body), "event: end") {
			t.Errorf("the other reader took %v, want 20s; %v", took, err)
		}
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.left) != 2 || f.left[0] != context.Canceled {
			t.Errorf("readers left with %v, the slow one first", f.left)
		}
		if !strings.Contains(log.String(), "event=slow_reader correlation_id=slow") {
			t.Errorf("log = %s", log.String())
		}
	})
}

// TestCoalesces: a reader that is behind gets what waits in few writes of
// bounded size (ORC-504).
func TestCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []step{started}}
		for i := range 1000 {
			f.script = append(f.script, token(strings.Repeat("x", 1000), i))
		}
		f.script = append(f.script, end)
		w := &slowWriter{header: http.Header{}}
		r, err := http.NewRequestWithContext(t.Context(), "GET", eventsPath(""), nil)
		if err != nil {
			t.Fatal(err)
		}
		handler(f).ServeHTTP(w, r)
		if w.writes > 80 || w.largest < 16<<10 || w.largest > 17<<10+500 {
			t.Errorf("%d writes for 1,002 events, the largest of %d bytes", w.writes, w.largest)
		}
		if got := strings.Count(w.body.String(), "\nid: "); got != 1002 {
			t.Errorf("%d events arrived, want 1002", got)
		}
	})
}

// slowWriter is a connection that takes 1 ms of virtual time for each write.
type slowWriter struct {
	header          http.Header
	body            strings.Builder
	writes, largest int
}

func (w *slowWriter) Header() http.Header { return w.header }
func (w *slowWriter) WriteHeader(int)     {}
func (w *slowWriter) Flush()              {}
func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	w.writes, w.largest = w.writes+1, max(w.largest, len(p))
	return w.body.Write(p)
}

// TestStreamsConcurrentSafe: many readers at once get the same whole stream.
func TestStreamsConcurrentSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []step{queued, started.after(time.Second)}}
		for i := range 50 {
			f.script = append(f.script, token("x", i).after(10*time.Millisecond))
		}
		f.script = append(f.script, end)
		m := serve(&http.Server{Handler: handler(f)})
		defer m.stop()
		bodies := make(chan string)
		const readers = 50
		for range readers {
			go func() {
				res := open(t, m, "GET", eventsPath(""), "")
				defer res.Body.Close()
				body, _ := io.ReadAll(res.Body)
				bodies <- string(body)
			}()
		}
		first := <-bodies
		if !strings.HasSuffix(first, "\n\n") || strings.Count(first, "event: "+orchestrator.EventToken) != 50 {
			t.Errorf("transcript = %s", first)
		}
		for range readers - 1 {
			if b := <-bodies; b != first {
				t.Errorf("readers got different streams: %s", b)
			}
		}
	})
}
