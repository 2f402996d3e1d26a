package deadline_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

// raw opens a connection to the server behind client.
func raw(t *testing.T, client *http.Client) net.Conn {
	t.Helper()
	conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// DL-15: a handler that panics has ended too: work left over from it does not
// touch the connection, which a recovering handler outside keeps.
func TestPanicEndsExchange(t *testing.T) {
	conn := &recorded{ResponseRecorder: newRecorder(), began: time.Now()}
	var kept context.Context
	h := wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) {
		kept = context.WithoutCancel(r.Context())
		panic("fault")
	})
	func() {
		defer func() { _ = recover() }()
		h.ServeHTTP(conn, newRequest(t))
	}()
	_, cancel, err := deadline.MergeRelative(kept, 3000)
	defer cancel()
	if err != nil || len(conn.calls) != 0 {
		t.Errorf("%v; asked of the connection: %q", err, conn.calls)
	}
}

// DL-16: what a handler learns about its request, the server finds: it removes a
// form's temporary files; and who stands outside sees the pattern. Also after a panic.
func TestRequestComesBack(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var form bytes.Buffer
	mw := multipart.NewWriter(&form)
	part, err := mw.CreateFormFile("f", "f")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(make([]byte, 1<<16))
	mw.Close()
	for _, panics := range []bool{false, true} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/a/1", bytes.NewReader(form.Bytes()))
		r.Header.Set("Content-Type", mw.FormDataContentType())
		mux := http.NewServeMux()
		mux.HandleFunc("POST /a/{x}", func(_ http.ResponseWriter, r *http.Request) {
			if err := r.ParseMultipartForm(1); err != nil {
				t.Error(err)
			}
			if panics {
				panic("fault")
			}
		})
		func() {
			defer func() { _ = recover() }()
			wrap(t, deadline.Config{}, mux.ServeHTTP).ServeHTTP(newRecorder(), r)
		}()
		if r.Pattern != "POST /a/{x}" || r.MultipartForm == nil {
			t.Fatalf("panics %v: pattern %q, form %v", panics, r.Pattern, r.MultipartForm)
		}
		if left, _ := os.ReadDir(os.TempDir()); len(left) != 1 {
			t.Errorf("%d files before", len(left))
		}
		_ = r.MultipartForm.RemoveAll() // as net/http does
		if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
			t.Errorf("panics %v: %d files left", panics, len(left))
		}
	}
}

// DL-16: nothing here sets a deadline on a hijacked connection.
func TestHijackedDeadlines(t *testing.T) {
	for name, after := range map[string]func(*http.Request){
		"merged": func(r *http.Request) {
			_, cancel, _ := deadline.MergeRelative(r.Context(), 500)
			cancel()
		},
		"late return": func(*http.Request) { time.Sleep(1900 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := make(chan error, 2)
				client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
					c, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					go func() {
						defer c.Close()
						time.Sleep(2 * time.Second)
						_, err := c.Write([]byte("hello"))
						got <- err
						_, err = c.Read(make([]byte, 1))
						got <- err
					}()
					after(r)
				}))
				conn := raw(t, client)
				go io.Copy(io.Discard, conn)
				fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: hop\r\nX-Request-Timeout-Ms: 1000\r\nContent-Length: 3\r\n\r\n")
				time.Sleep(4 * time.Second)
				go fmt.Fprint(conn, "next")
				if err := <-got; err != nil {
					t.Errorf("write: %v", err)
				}
				if err := <-got; err != nil {
					t.Errorf("read: %v", err)
				}
			})
		})
	}
}

// DL-20: a Base that gives no body is passed on for http.Client to judge, and the
// context of Default ends.
func TestTransportWithoutBody(t *testing.T) {
	var used context.Context
	tr := &deadline.Transport{Default: time.Hour, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		used = r.Context()
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}}, nil
	})}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hop/", nil)
	resp, err := (&http.Client{Transport: tr}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); len(b) != 0 || err != nil || used.Err() == nil {
		t.Errorf("%q, %v, context %v", b, err, used.Err())
	}
}

// DL-18: a refusal on arrival leaves at once, also where the body never comes, and
// ends such a connection soon.
func TestRefusalDoesNotWaitForBody(t *testing.T) {
	for head, want := range map[string]string{"X-Request-Timeout-Ms: 0": "HTTP/1.1 504 ", "X-Deadline: x": "HTTP/1.1 400 "} {
		synctest.Test(t, func(t *testing.T) {
			conn := raw(t, serve(t, wrap(t, deadline.Config{}, func(http.ResponseWriter, *http.Request) { t.Error("served") })))
			start := time.Now()
			_ = conn.SetReadDeadline(start.Add(time.Hour))
			go fmt.Fprint(conn, "POST /x HTTP/1.1\r\nHost: hop\r\nContent-Length: 10\r\n"+head+"\r\n\r\nab")
			br := bufio.NewReader(conn)
			line, _ := br.ReadString('\n')
			if took := time.Since(start); !strings.HasPrefix(line, want) || took != 0 {
				t.Errorf("%s: %q after %v", head, line, took)
			}
			_, err := io.Copy(io.Discard, br)
			if took := time.Since(start); err != nil || took > time.Second {
				t.Errorf("%s: connection ended after %v, %v", head, took, err)
			}
		})
	}
}

// DL-15: whatever a handler does with the Connection header or when it turns to
// full duplex, the rest of a cut-off body is not served as the next request.
func TestTrap_DuplexConnectionHeader(t *testing.T) {
	const next = "GET /next HTTP/1.1\r\nHost: hop\r\n\r\n"
	keepAlive := func(then func(http.ResponseWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			w.Header().Set("Connection", "keep-alive")
			then(w)
			_ = http.NewResponseController(w).Flush()
		}
	}
	for name, begin := range map[string]http.HandlerFunc{
		"status first":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); duplex(t, w) },
		"keep-alive flush": keepAlive(func(http.ResponseWriter) {}),
		"keep-alive write": keepAlive(func(w http.ResponseWriter) { fmt.Fprint(w, "x") }),
		"keep-alive head":  keepAlive(func(w http.ResponseWriter) { w.WriteHeader(201) }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var paths []string
				conn := raw(t, serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
					paths = append(paths, r.URL.Path)
					begin(w, r)
					_, _ = io.Copy(io.Discard, r.Body)
				})))
				go io.Copy(io.Discard, conn)
				fmt.Fprintf(conn, "POST /first HTTP/1.1\r\nHost: hop\r\nX-Request-Timeout-Ms: 1000\r\nContent-Length: %d\r\n\r\nabc", 3+len(next))
				time.Sleep(1200 * time.Millisecond)
				go fmt.Fprint(conn, next)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if len(paths) != 1 {
					t.Errorf("requests %q", paths)
				}
			})
		})
	}
}

// DL-15: a stated deadline never holds a body longer than the server would.
func TestServerReadTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		stated  string
		handler http.HandlerFunc
		want    string
	}{
		"stated later": {"3600000", nil, "[read 300ms read none]"},
		"stated first": {"100", nil, "[read 150ms read none]"},
		"given up": {"100", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).EnableFullDuplex()
		}, "[read 150ms duplex read 300ms]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &recorded{ResponseRecorder: newRecorder(), began: time.Now()}
				r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.ServerContextKey,
					&http.Server{ReadTimeout: 300 * time.Millisecond}), http.MethodPost, "/", strings.NewReader("x"))
				r.Header.Set("X-Request-Timeout-Ms", c.stated)
				if c.handler == nil {
					c.handler = func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) }
				}
				wrap(t, deadline.Config{WriteGrace: -1}, c.handler).ServeHTTP(conn, r)
				if got := fmt.Sprint(conn.calls); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		})
	}
}

// DL-4, DL-15: a handler that closes the body has ended it; what comes later sets
// no read deadline, which would cancel this request and the next.
func TestTrap_MergeAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var state error
		client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Request-Timeout-Ms") == "" {
				fmt.Fprint(w, r.Context().Err())
				return
			}
			var v struct {
				Ms int64 `json:"deadline_ms"`
			}
			_ = json.NewDecoder(r.Body).Decode(&v)
			r.Body.Close()
			ctx, cancel, _ := deadline.MergeRelative(r.Context(), v.Ms)
			defer cancel()
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond)
			state = r.Context().Err()
		}))
		resp, _ := call(t, client, io.MultiReader(strings.NewReader(`{"deadline_ms":500}`)), "X-Request-Timeout-Ms", "9000")
		if _, next := call(t, client, nil); next != "<nil>" || state != nil || resp.StatusCode != 504 {
			t.Errorf("%d, own context %v, next request's %s", resp.StatusCode, state, next)
		}
	})
}

// DL-4, DL-14: deadline_ms stands at the beginning of a body whose rest does not
// come: the 504 and the hook over HTTP/1.1 too, where the read deadline cancels
// the request's context.
func TestMergeWhileBodyPending(t *testing.T) {
	for major := 1; major <= 2; major++ {
		synctest.Test(t, func(t *testing.T) {
			var exceeded []string
			cfg := deadline.Config{Hooks: deadline.Hooks{Exceeded: func(e *deadline.Exceeded) { exceeded = append(exceeded, e.Error()) }}}
			client := serveOver(t, major, wrap(t, cfg, func(_ http.ResponseWriter, r *http.Request) {
				_, cancel, _ := deadline.MergeRelative(r.Context(), 500)
				defer cancel()
				_, _ = io.ReadAll(r.Body)
			}))
			body, end := stalled()
			defer end()
			start := time.Now()
			resp, _ := call(t, client, body, "X-Request-Timeout-Ms", "9000")
			took := time.Since(start)
			if resp.StatusCode != 504 || took != 550*time.Millisecond || fmt.Sprint(exceeded) != "[deadline exceeded (stage handler, budget 500ms)]" {
				t.Errorf("HTTP/%d: %d after %v, %q", major, resp.StatusCode, took, exceeded)
			}
		})
	}
}

// DL-15: a body that net/http does not discard before the header can still be
// waited for afterwards, and such a wait ends with the deadline.
func TestTrap_ReadAfterHeader(t *testing.T) {
	for name, c := range map[string]struct {
		major int
		head  string
		begin func(http.ResponseWriter)
	}{
		"HTTP/2, flush":          {2, "", func(w http.ResponseWriter) { w.(http.Flusher).Flush() }},
		"HTTP/2, overrun":        {2, "", func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 3000)) }},
		"HTTP/1.1, long body":    {1, "Content-Length: 1000000", func(w http.ResponseWriter) { w.(http.Flusher).Flush() }},
		"HTTP/1.1, last request": {1, "Content-Length: 10\r\nConnection: close", func(w http.ResponseWriter) { w.(http.Flusher).Flush() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took := make(chan time.Duration, 1)
				client := serveOver(t, c.major, wrap(t, deadline.Config{WriteGrace: -1}, func(w http.ResponseWriter, r *http.Request) {
					start := time.Now()
					c.begin(w)
					_, _ = io.ReadAll(r.Body)
					took <- time.Since(start)
				}))
				if c.major == 1 {
					conn := raw(t, client)
					go io.Copy(io.Discard, conn)
					go fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: hop\r\nX-Request-Timeout-Ms: 1000\r\n"+c.head+"\r\n\r\nabc")
					time.AfterFunc(time.Hour, func() { conn.Close() })
				} else {
					body, end := stalled()
					time.AfterFunc(time.Hour, end)
					call(t, client, body, "X-Request-Timeout-Ms", "1000")
				}
				if got := <-took; got != 1050*time.Millisecond {
					t.Errorf("released after %v", got)
				}
				time.Sleep(2 * time.Hour) // the server ends the connection
			})
		})
	}
}

// DL-14, DL-15: over HTTP/2 a write deadline that has passed resets the stream; a
// handler that wrote nothing still gets its 504, one that began has its end.
func TestWriteDeadlineHTTP2(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    int // 0 = the stream is reset
	}{
		"late": {func(http.ResponseWriter, *http.Request) { time.Sleep(9 * time.Second) }, 504},
		"merged late": {func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(4 * time.Second)
			_, cancel, _ := deadline.MergeRelative(r.Context(), 500)
			cancel()
		}, 504},
		"merged after beginning": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "x")
			_, cancel, _ := deadline.MergeRelative(r.Context(), 500)
			defer cancel()
			time.Sleep(3 * time.Second)
		}, 0},
		"begins late": {func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(9 * time.Second)
			fmt.Fprint(w, "x")
		}, 0},
		"goes on too long": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "x")
			time.Sleep(9 * time.Second)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := serveOver(t, 2, wrap(t, deadline.Config{}, c.handler))
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hop/", nil)
				r.Header.Set("X-Request-Timeout-Ms", "5000")
				got := 0
				resp, err := client.Do(r)
				if err == nil {
					got = resp.StatusCode
					resp.Body.Close()
				}
				if time.Sleep(time.Minute); got != c.want {
					t.Errorf("%d, %v; want %d", got, err, c.want)
				}
			})
		})
	}
}
