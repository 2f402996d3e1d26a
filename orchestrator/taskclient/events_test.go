package taskclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskclient"
)

// cut is a connection whose server goes away after so many bytes.
type cut struct {
	net.Conn
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		n, _ := c.Conn.Write(p[:c.left])
		c.left = 0
		_ = c.Close()
		return n, io.ErrClosedPipe
	}
	c.left -= len(p)
	return c.Conn.Write(p)
}

// TestResumesAnywhere proves ORC-940: wherever a connection breaks, also inside a
// line of the headers or of an event, the reader gets every event once.
func TestResumesAnywhere(t *testing.T) {
	for at := 1; at < 1400; at += 13 {
		synctest.Test(t, func(t *testing.T) {
			w, f := newWorld(t), &fake{events: answer(10)}
			defer w.stop()
			broken := false
			w.add("a", handler(f), func(c net.Conn) net.Conn {
				if broken {
					return c
				}
				broken = true
				return &cut{c, at}
			})
			var ids []uint64
			for ev, err := range w.client("a").Events(t.Context(), theID.String()) {
				if err != nil {
					t.Fatalf("cut after %d bytes: %v", at, err)
				}
				ids = append(ids, ev.ID)
			}
			if fmt.Sprint(ids) != "[1 2 3 4 5 6 7 8 9 10 11 12]" {
				t.Errorf("cut after %d bytes: %v", at, ids)
			}
		})
	}
}

// TestNextReplicaFirst: after a break the next replica is asked, for what is missing.
func TestNextReplicaFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := newWorld(t), &fake{events: answer(10)}, &fake{events: answer(10)}
		defer w.stop()
		w.add("a", handler(a), func(c net.Conn) net.Conn { return &cut{c, 700} })
		w.add("b", handler(b), nil)
		res, err := w.client("a", "b").Wait(t.Context(), theID.String())
		if err != nil || res.Text != "t0 t1 t2 t3 t4 t5 t6 t7 t8 t9 " || res.End.TokensOut != 10 {
			t.Errorf("%+v, %v", res, err)
		}
		if len(a.opened) != 1 || len(b.opened) != 1 || b.opened[0] == 0 {
			t.Errorf("readers of a had %v, of b %v", a.opened, b.opened)
		}
	})
}

// raw serves bodies as they are, one per connection, the last one again and again.
func raw(status int, media string, bodies ...string) (http.Handler, *[]string) {
	var had []string
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := bodies[min(len(had), len(bodies)-1)]
		had = append(had, r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}), &had
}

const stream = "text/event-stream"

// TestEventSourceCases retells cases of the web platform's EventSource suite, as
// far as they concern a reader that resumes: what counts as an event, when it
// connects again and with which id, and when it does not.
func TestEventSourceCases(t *testing.T) {
	const last = "id: 2\nevent: end\ndata: {}\n\n"
	for _, tt := range []struct {
		name, media string
		status      int
		bodies      []string
		want        string // type and id of each event, then the error
		had         string // Last-Event-ID of each connection
	}{
		{"byte order mark", stream, 200, []string{"\ufeffid: 1\nevent: token\ndata: {}\n\n" + last}, "token1 end2 <nil>", `[""]`},
		{"comments and retry", stream, 200, []string{": hi\n\nretry: 3000\n\nid: 1\ndata: {}\n\n:\n" + last}, "1 end2 <nil>", `[""]`},
		{"CR and CRLF", stream, 200, []string{"id: 1\r\nevent: token\rdata: {}\r\n\r\n" + last}, "token1 end2 <nil>", `[""]`},
		{"media type with a parameter", stream + ";charset=utf-8", 200, []string{"id: 1\ndata: {}\n\n" + last}, "1 end2 <nil>", `[""]`},
		{"an event without its blank line is none", stream, 200, []string{"id: 1\ndata: a\n\nid: 2\nevent: end\ndata: {}\n", last}, "1 end2 <nil>", `["" "1"]`},
		{"reconnects after the end of the body", stream, 200, []string{"id: 1\ndata: a\n\n", last}, "1 end2 <nil>", `["" "1"]`},
		{"events that come twice", stream, 200, []string{"id: 1\ndata: a\n\n", "id: 1\ndata: a\n\n" + last}, "1 end2 <nil>", `["" "1"]`},
		{"nothing behind the terminal event", stream, 200, []string{"id: 1\nevent: error\ndata: {}\n\n" + last}, "error1 <nil>", `[""]`},
		{"204 ends it", stream, 204, []string{""}, "<nil>", `[""]`},
		{"410 ends it", "application/json", 410, []string{`{"error":{"code":"RESUME_WINDOW_LOST"}}`}, "RESUME_WINDOW_LOST", `[""]`},
		{"404 ends it", "text/html", 404, []string{"x"}, "INTERNAL: HTTP status 404 without an error body", `[""]`},
		{"a gap", stream, 200, []string{"id: 1\ndata: a\n\nid: 5\nevent: end\ndata: {}\n\n"}, "1 gap end5 <nil>", `[""]`},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.stop()
			h, had := raw(tt.status, tt.media, tt.bodies...)
			w.add("a", h, nil)
			var got []string
			var end error
			for ev, err := range w.client("a").Events(t.Context(), theID.String()) {
				if errors.Is(err, taskclient.ErrGap) {
					got = append(got, "gap")
				} else if err != nil {
					end = err
					continue
				}
				got = append(got, fmt.Sprint(ev.Type, ev.ID))
			}
			if text := strings.Join(append(got, fmt.Sprint(end)), " "); text != tt.want || fmt.Sprintf("%q", *had) != tt.had {
				t.Errorf("%s: %s, connections %q; want %s, %s", tt.name, text, *had, tt.want, tt.had)
			}
		})
	}
}

// TestStreamLost: after ten connections that bring nothing new the stream is given
// up, whatever they answer; one event begins the count anew.
func TestStreamLost(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		media  string
		bodies []string
		tries  int
	}{
		"no stream":     {200, "text/html", []string{"x"}, 10},
		"unavailable":   {503, "application/json", []string{`{"error":{"code":"NO_LEADER","retriable":true}}`}, 10},
		"empty streams": {200, stream, []string{""}, 10},
		"no id":         {200, stream, []string{"event: token\ndata: {}\n\n"}, 10},
		"one event":     {200, stream, []string{"", "", "", "id: 1\ndata: {}\n\n", ""}, 14},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.stop()
			h, had := raw(tt.status, tt.media, tt.bodies...)
			w.add("a", h, nil)
			_, err := w.client("a").Wait(t.Context(), theID.String())
			if !errors.Is(err, taskclient.ErrStreamLost) || len(*had) != tt.tries {
				t.Errorf("%s: %v after %d connections, want %d", name, err, len(*had), tt.tries)
			}
		})
	}
}

// TestSilence: 45 s without a byte are a dead connection; keep-alives are life.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{events: answer(1), pace: 10 * time.Minute}
		defer w.stop()
		w.add("alive", handler(f), nil)
		var opened atomic.Int32
		w.add("dead", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			opened.Add(1)
			rw.Header().Set("Content-Type", stream)
			_, _ = io.WriteString(rw, ": hello\n\n")
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
		}), nil)
		begin := time.Now()
		res, err := w.client("dead", "alive").Wait(t.Context(), theID.String())
		took := time.Since(begin)
		if err != nil || res.Text != "t0 " || opened.Load() != 1 || took < 30*time.Minute+45*time.Second || took > 30*time.Minute+46*time.Second || len(f.opened) != 1 {
			t.Errorf("%+v, %v after %v; %d dead connections, %d live ones", res, err, took, opened.Load(), len(f.opened))
		}
	})
}

// TestBreakLeavesNothing: a left loop frees its connection and the server's
// reader; the bubble would not end with a goroutine in it.
func TestBreakLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{events: answer(100), pace: time.Second}
		defer w.stop()
		w.add("a", handler(f), nil)
		for ev, err := range w.client("a").Events(t.Context(), theID.String()) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.ID == 3 {
				break
			}
		}
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.opened) != 1 || f.left != 1 {
			t.Errorf("%d readers came, %d left", len(f.opened), f.left)
		}
	})
}

// TestContextEnds: the end of the context is the last thing that is yielded.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(t), &fake{events: answer(100), pace: time.Second}
		defer w.stop()
		w.add("a", handler(f), nil)
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		n := 0
		var last error
		for _, last = range w.client("a").Events(ctx, theID.String()) {
			n++
		}
		if n != 3 || !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("%d events, then %v", n, last)
		}
	})
}

// TestWait: how a task ends is what Wait returns.
func TestWait(t *testing.T) {
	batch := []orchestrator.Event{
		event(1, "token", map[string]any{"batch": []taskapi.Token{{T: "a", I: 0}, {T: "b", I: 1}}}),
		event(2, "metrics", map[string]any{}),
		event(3, "result", map[string]any{"data": []int{1}}),
		event(4, "end", taskapi.End{TokensOut: 2}),
	}
	lost := append([]orchestrator.Event{event(1, "token", taskapi.Token{T: "a"})}, event(9, "end", taskapi.End{TokensOut: 8}))
	failed := []orchestrator.Event{event(1, "token", taskapi.Token{T: "a"}), event(2, "error", taskapi.NewError(taskapi.WorkerReset).Event("c", time.Time{}))}
	for name, tt := range map[string]struct {
		events []orchestrator.Event
		want   string
		err    error
	}{
		"batch":   {batch, `ab {"data":[1]} 2`, nil},
		"gap":     {lost, "a  8", taskclient.ErrGap},
		"failed":  {failed, "a  0", taskapi.WorkerReset},
		"broken":  {[]orchestrator.Event{{ID: 1, Type: "token", Data: []byte("x")}}, "  0", errAny},
		"broken2": {[]orchestrator.Event{{ID: 1, Type: "end", Data: []byte("x")}}, "  0", errAny},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.stop()
			w.add("a", handler(&fake{events: tt.events}), nil)
			res, err := w.client("a").Wait(t.Context(), theID.String())
			if got := fmt.Sprintf("%s %s %d", res.Text, res.Result, res.End.TokensOut); got != tt.want {
				t.Errorf("%s: %q, want %q", name, got, tt.want)
			}
			if !errors.Is(err, tt.err) && (tt.err != errAny || err == nil) {
				t.Errorf("%s: %v, want %v", name, err, tt.err)
			}
		})
	}
}

var errAny = errors.New("any")

func ExampleClient_Events() {
	srv := httptest.NewServer(handler(&fake{events: answer(2)})) // stands for an orchestrator
	defer srv.Close()
	c, err := taskclient.New(taskclient.Config{BaseURLs: []string{srv.URL}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	task, err := c.Submit(ctx, taskapi.Submit{Model: "llama3:8b", Prompt: "Say hello."})
	if err != nil {
		fmt.Println(err)
		return
	}
	for ev, err := range c.Events(ctx, task.TaskID) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(ev.ID, ev.Type)
	}
	// Output:
	// 1 started
	// 2 token
	// 3 token
	// 4 end
}

// frames is a connection that hands out one event with each read until its request ends.
type frames struct {
	ctx  context.Context
	left []string
}

func (f *frames) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil || len(f.left) == 0 {
		return 0, errors.Join(err, io.EOF)
	}
	n := copy(p, f.left[0])
	f.left = f.left[1:]
	return n, nil
}

func (f *frames) Close() error { return nil }

// TestSlowConsumerKeepsConnection is ORC-940: the time that the caller spends on an
// event is not silence of the connection; to leave would cancel the task.
func TestSlowConsumerKeepsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		c, err := taskclient.New(taskclient.Config{BaseURLs: []string{"http://a"}, HTTPClient: &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
			opened++
			body := &frames{r.Context(), []string{"id: 1\nevent: started\ndata: {}\n\n", "id: 2\nevent: token\ndata: {}\n\n", "id: 3\nevent: end\ndata: {}\n\n"}}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body}, nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range c.Events(t.Context(), theID.String()) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if opened != 1 {
			t.Errorf("%d connections, want one", opened)
		}
	})
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestHintIsBounded is ORC-940: a server's hint is kept to, but a client does not
// sleep for years because of one, nor runs in circles for one below 0.
func TestHintIsBounded(t *testing.T) {
	for _, hint := range []int64{1 << 43, -1 << 43} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			c, err := taskclient.New(taskclient.Config{BaseURLs: []string{"http://a"}, HTTPClient: &http.Client{Transport: trip(func(*http.Request) (*http.Response, error) {
				tries++
				body := fmt.Sprintf(`{"error":{"code":"QUEUE_FULL","retriable":true,"retry_after_ms":%d}}`, hint)
				return &http.Response{StatusCode: http.StatusTooManyRequests, Body: io.NopCloser(strings.NewReader(body))}, nil
			})}})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = c.Task(t.Context(), theID.String())
			if e, ok := errors.AsType[*taskapi.Error](err); !ok || e.RetryAfter < 0 || e.RetryAfter > time.Hour || tries != 5 || time.Since(began) > 4*time.Hour {
				t.Errorf("%v after %d tries in %v", err, tries, time.Since(began))
			}
		})
	}
}

// TestNoClientWithFaults: what New refuses is nothing that can be called.
func TestNoClientWithFaults(t *testing.T) {
	if c, err := taskclient.New(taskclient.Config{}); c != nil || err == nil {
		t.Errorf("New() = %v, %v, want nil and an error", c, err)
	}
}
