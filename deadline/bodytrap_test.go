package deadline_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

// dribble is a body that arrives slowly.
type dribble struct{ left int }

func (d *dribble) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(500 * time.Millisecond)
	d.left--
	p[0] = 'x'
	return 1, nil
}

// DL-4: a slow upload does not extend a budget that the body states.
func TestTrap_BodyReadStartsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left time.Duration
		client := serve(t, wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			ctx, cancel, err := deadline.MergeRelative(r.Context(), 5000)
			defer cancel()
			d, _ := deadline.From(ctx)
			if left = d.Remaining(); err != nil {
				t.Error(err)
			}
		}))
		if call(t, client, &dribble{4}); left != 3*time.Second {
			t.Errorf("%v left, want 3s", left)
		}
	})
}

// DL-15: a handler blocked in Body.Read is released, and finds the Exceeded as
// its context's cause, not a cancellation.
func TestTrap_ReadDeadlineCancelsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause, readErr error
		client := serve(t, wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) {
			_, readErr = io.ReadAll(r.Body)
			cause = context.Cause(r.Context())
		}))
		silent, feed := io.Pipe()
		defer feed.Close()
		start := time.Now()
		resp, _ := call(t, client, silent, "X-Request-Timeout-Ms", "1000")
		if _, ok := errors.AsType[*deadline.Exceeded](cause); !ok || readErr == nil || resp.StatusCode != 504 {
			t.Errorf("%d, cause %v, read error %v", resp.StatusCode, cause, readErr)
		}
		if took := time.Since(start); took > 1100*time.Millisecond {
			t.Errorf("answered after %v", took)
		}
	})
}

// DL-15: the deadlines of one request end with it, also on the same connection.
func TestTrap_NextRequestInherits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			if r.Header.Get("X-Request-Timeout-Ms") == "" {
				time.Sleep(time.Hour)
			}
			fmt.Fprint(w, r.RemoteAddr, r.Context().Err())
		}))
		_, first := call(t, client, strings.NewReader("a"), "X-Request-Timeout-Ms", "1000")
		resp, second := call(t, client, strings.NewReader("b"))
		if first != second || resp.StatusCode != 200 {
			t.Errorf("%q, then %d %q", first, resp.StatusCode, second)
		}
	})
}

// DL-15: a read deadline that fires while the server watches for a hang-up would
// cancel the context of every later request on that connection.
func TestTrap_ReadDeadlineOutlivesRequest(t *testing.T) {
	for name, late := range map[string]http.HandlerFunc{
		"unread": func(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) },
		"read":   func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body); time.Sleep(time.Hour) },
		"partly read": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
			time.Sleep(time.Hour)
		},
		"begun": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "x")
			time.Sleep(time.Second + 500*time.Millisecond)
		},
		"begun, long": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 9000))
			time.Sleep(time.Second + 500*time.Millisecond)
		},
		"begun, flush": func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			time.Sleep(time.Second + 500*time.Millisecond)
		},
		"full duplex": func(w http.ResponseWriter, r *http.Request) {
			duplex(t, w)
			_, _ = io.ReadAll(r.Body)
			time.Sleep(time.Second + 500*time.Millisecond)
		},
		"merged, begun": func(w http.ResponseWriter, r *http.Request) {
			_, cancel, _ := deadline.MergeRelative(r.Context(), 500)
			defer cancel()
			fmt.Fprint(w, "x")
			time.Sleep(time.Second)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Request-Timeout-Ms") != "" {
					late(w, r)
					return
				}
				_, _ = io.ReadAll(r.Body)
				time.Sleep(time.Minute)
				fmt.Fprint(w, r.Context().Err())
			}))
			for _, chunked := range []bool{false, true} {
				body := io.Reader(strings.NewReader("abc"))
				if chunked {
					body = io.MultiReader(body)
				}
				call(t, client, body, "X-Request-Timeout-Ms", "1000")
				if _, got := call(t, client, strings.NewReader("d")); got != "<nil>" {
					t.Errorf("%s, chunked %v: the next request's context says %q", name, chunked, got)
				}
			}
		})
	}
}

// DL-15: a deadline_ms that comes when the server already watches for a hang-up
// sets no read deadline: it would cancel this request's context 50 ms later.
func TestTrap_MergeAfterBody(t *testing.T) {
	for name, begin := range map[string]http.HandlerFunc{
		"read to the end": func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) },
		"header flushed":  func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
		"buffer overrun":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2049)) },
		"buffer overrun 2": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 2000))
			_, _ = w.Write(make([]byte, 2000))
		},
		"copied": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 3000))})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var state error
				client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
					begin(w, r)
					_, cancel, err := deadline.MergeRelative(r.Context(), 500)
					defer cancel()
					time.Sleep(time.Second)
					state = errors.Join(err, r.Context().Err())
				}))
				call(t, client, io.MultiReader(strings.NewReader("abc")), "X-Request-Timeout-Ms", "9000")
				if state != nil {
					t.Errorf("the request's own context says %v", state)
				}
			})
		})
	}
}

// DL-15: the same where what the handler left of a long body was short enough
// for net/http to discard it before the header.
func TestTrap_MergeAfterLongBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var state error
		client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 100_000)
			w.(http.Flusher).Flush()
			_, cancel, err := deadline.MergeRelative(r.Context(), 500)
			defer cancel()
			time.Sleep(time.Second)
			state = errors.Join(err, r.Context().Err())
		}))
		if call(t, client, strings.NewReader(strings.Repeat("x", 300_000)), "X-Request-Timeout-Ms", "9000"); state != nil {
			t.Errorf("the request's own context says %v", state)
		}
	})
}

// DL-15: work that goes on after its handler may still tighten its own context,
// but the connection is serving somebody else by then.
func TestTrap_MergeAfterReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &recorded{ResponseRecorder: newRecorder(), began: time.Now()}
		var kept context.Context
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("x"))
		r.Header.Set("X-Request-Timeout-Ms", "9000")
		wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) { kept = context.WithoutCancel(r.Context()) }).ServeHTTP(conn, r)
		before := len(conn.calls)
		time.Sleep(time.Second)
		ctx, cancel, err := deadline.MergeRelative(kept, 3000)
		defer cancel()
		if d, _ := deadline.From(ctx); err != nil || d.Remaining() != 2*time.Second {
			t.Errorf("%v left, %v", d.Remaining(), err)
		}
		if len(conn.calls) != before {
			t.Errorf("asked of the connection: %q", conn.calls[before:])
		}
	})
}

// DL-15: a handler that returns after the read deadline has fired. What the client
// still sends is taken in, so that its 504 is not lost to a broken connection; a
// client that sends nothing more does not delay it; and over HTTP/2 nobody else
// on the connection is disturbed.
func TestTrap_UnreadBody(t *testing.T) {
	late := func(w http.ResponseWriter, _ *http.Request) { time.Sleep(1200 * time.Millisecond) }
	synctest.Test(t, func(t *testing.T) {
		client := serve(t, wrap(t, deadline.Config{}, late))
		conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		answer := make(chan string, 1)
		go func() { line, _ := bufio.NewReader(conn).ReadString('\n'); answer <- line }()
		const size = 100_000
		head := fmt.Sprintf("POST /x HTTP/1.1\r\nHost: hop\r\nX-Request-Timeout-Ms: 1000\r\nContent-Length: %d\r\n\r\n", size)
		if _, err := conn.Write([]byte(head + strings.Repeat("x", size))); err != nil {
			t.Errorf("upload: %v", err)
		}
		if got := <-answer; !strings.HasPrefix(got, "HTTP/1.1 504 ") {
			t.Errorf("answer %q", got)
		}
	})
	for major := 1; major <= 2; major++ {
		synctest.Test(t, func(t *testing.T) {
			client := serveOver(t, major, wrap(t, deadline.Config{}, late))
			body, end := stalled()
			defer end()
			began := time.Now()
			resp, _ := call(t, client, body, "X-Request-Timeout-Ms", "1000")
			if took := time.Since(began); resp.StatusCode != 504 || took != 1200*time.Millisecond {
				t.Errorf("HTTP/%d: %d after %v", major, resp.StatusCode, took)
			}
			end()
			if reused := connectionReused(t, client); reused != (major == 2) {
				t.Errorf("HTTP/%d: the connection is used again: %v", major, reused)
			}
		})
	}
}

// connectionReused reports whether the client's next request, a second later,
// goes over a connection that it has already.
func connectionReused(t *testing.T, c *http.Client) bool {
	t.Helper()
	time.Sleep(time.Second)
	var got httptrace.GotConnInfo
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { got = i }})
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://hop/", nil)
	resp, err := c.Do(r)
	if err != nil {
		t.Error(err)
		return false
	}
	resp.Body.Close()
	return got.Reused
}

// DL-15, DL-16: full duplex over HTTP/1.1: when the read deadline has ended the
// body, what the client sends of it later is not taken for the next request.
func TestTrap_DuplexLeftovers(t *testing.T) {
	const next = "GET /next HTTP/1.1\r\nHost: hop\r\n\r\n"
	for name, head := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n\r\nabc", 3+len(next)),
		"chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var paths []string
				client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
					paths = append(paths, r.URL.Path)
					duplex(t, w)
					_, _ = io.Copy(io.Discard, r.Body)
				}))
				conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				go io.Copy(io.Discard, conn)
				fmt.Fprint(conn, "POST /first HTTP/1.1\r\nHost: hop\r\nX-Request-Timeout-Ms: 1000\r\n"+head)
				time.Sleep(1200 * time.Millisecond) // deadline, readGrace
				go fmt.Fprint(conn, next)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if len(paths) != 1 || paths[0] != "/first" {
					t.Errorf("requests %q", paths)
				}
			})
		})
	}
	for major := 1; major <= 2; major++ { // HTTP/2 has frames and keeps the connection
		synctest.Test(t, func(t *testing.T) {
			client := serveOver(t, major, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
				duplex(t, w)
				_, _ = io.Copy(w, r.Body)
			}))
			if _, got := call(t, client, strings.NewReader("abc"), "X-Request-Timeout-Ms", "1000"); got != "abc" {
				t.Errorf("HTTP/%d: %q", major, got)
			}
			if reused := connectionReused(t, client); reused != (major == 2) {
				t.Errorf("HTTP/%d: the connection is used again: %v", major, reused)
			}
		})
	}
}

func duplex(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	rc := http.NewResponseController(w)
	if err := errors.Join(rc.EnableFullDuplex(), rc.Flush()); err != nil {
		t.Error(err)
	}
}
