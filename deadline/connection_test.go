package deadline_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func newRequest(t *testing.T) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
}

// recorded is a connection that notes what is asked of it, after how long.
type recorded struct {
	*httptest.ResponseRecorder
	began time.Time
	calls []string
}

func (c *recorded) note(what string, at time.Time) error {
	text := "none"
	if !at.IsZero() {
		text = at.Sub(c.began).String()
	}
	c.calls = append(c.calls, what+" "+text)
	return nil
}

func (c *recorded) SetReadDeadline(at time.Time) error  { return c.note("read", at) }
func (c *recorded) SetWriteDeadline(at time.Time) error { return c.note("write", at) }
func (c *recorded) EnableFullDuplex() error             { c.calls = append(c.calls, "duplex"); return nil }

func (c *recorded) ReadFrom(src io.Reader) (int64, error) {
	c.calls = append(c.calls, "ReadFrom")
	return io.Copy(c.ResponseRecorder, src)
}

// DL-15: exactly which deadlines the connection gets: the read deadline 50 ms
// after the request's and only while a body may be waited for, the write deadline
// WriteGrace after it, renewed once for the 504; without a deadline none at all.
func TestConnectionDeadlines(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	read := func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) }
	for name, c := range map[string]struct {
		cfg          deadline.Config
		stated, body string
		handler      http.HandlerFunc
		want         []string
	}{
		"none":                {body: "x", handler: read, want: nil},
		"no body":             {stated: "1000", handler: read, want: []string{"write 2s"}},
		"body":                {stated: "1000", body: "x", handler: read, want: []string{"read 1.05s", "write 2s", "read none"}},
		"504":                 {stated: "1000", handler: hang, want: []string{"write 2s", "write 2s"}},
		"504, body":           {stated: "1000", body: "x", handler: hang, want: []string{"read 1.05s", "write 2s", "write 2s"}},
		"WriteGrace":          {cfg: deadline.Config{WriteGrace: 3 * time.Second}, stated: "1000", handler: hang, want: []string{"write 4s", "write 4s"}},
		"WriteGrace off":      {cfg: deadline.Config{WriteGrace: -1}, stated: "1000", handler: hang, want: nil},
		"WriteGrace off body": {cfg: deadline.Config{WriteGrace: -1}, stated: "1000", body: "x", handler: read, want: []string{"read 1.05s", "read none"}},
		"Default":             {cfg: deadline.Config{Default: 5 * time.Second}, handler: read, want: []string{"write 6s"}},
		"refused":             {stated: "0", handler: read, want: nil},
		"refused, body":       {stated: "0", body: "x", handler: read, want: []string{"read 50ms"}},
		"malformed, body":     {stated: "-1", body: "x", handler: read, want: []string{"read 50ms"}},
		"written": {stated: "1000", handler: func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "x")
			hang(w, r)
		}, want: []string{"write 2s"}},
		"late 504": {stated: "1000", handler: func(http.ResponseWriter, *http.Request) {
			time.Sleep(10 * time.Second)
		}, want: []string{"write 2s", "write 11s"}},
		"merged": {stated: "9000", body: "x", handler: func(w http.ResponseWriter, r *http.Request) {
			_, cancel, _ := deadline.MergeRelative(r.Context(), 500)
			defer cancel()
			read(w, r)
		}, want: []string{"read 9.05s", "write 10s", "read 550ms", "write 1.5s", "read none"}},
		"merged, no news": {stated: "1000", handler: func(_ http.ResponseWriter, r *http.Request) {
			_, cancel, _ := deadline.MergeRelative(r.Context(), 1000)
			defer cancel()
		}, want: []string{"write 2s"}},
		"merged twice": {stated: "1000", handler: func(_ http.ResponseWriter, r *http.Request) {
			for range 2 { // the second one is no news
				_, cancel, _ := deadline.MergeRelative(r.Context(), 500)
				defer cancel()
			}
		}, want: []string{"write 2s", "write 1.5s"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &recorded{ResponseRecorder: newRecorder(), began: time.Now()}
				var body io.Reader
				if c.body != "" {
					body = strings.NewReader(c.body)
				}
				r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", body)
				if c.stated != "" {
					r.Header.Set("X-Request-Timeout-Ms", c.stated)
				}
				wrap(t, c.cfg, c.handler).ServeHTTP(conn, r)
				if !slices.Equal(conn.calls, c.want) {
					t.Errorf("got %q, want %q", conn.calls, c.want)
				}
			})
		})
	}
}

// DL-16: the wrapper hides nothing: what a ResponseController or a type assertion
// finds on the connection is found through it, and a copy reaches the
// connection's own ReadFrom once there is something to copy.
func TestWrapperIsTransparent(t *testing.T) {
	conn := &recorded{ResponseRecorder: newRecorder(), began: time.Now()}
	wrap(t, deadline.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		if inner, ok := w.(interface{ Unwrap() http.ResponseWriter }); !ok || inner.Unwrap() != http.ResponseWriter(conn) {
			t.Error("Unwrap does not lead to the connection")
		}
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		if err := rc.SetReadDeadline(conn.began.Add(time.Hour)); err != nil {
			t.Error(err)
		}
		n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1000))})
		if n != 1000 || err != nil {
			t.Errorf("copied %d bytes, %v", n, err)
		}
		if w.(http.Flusher).Flush(); !conn.Flushed {
			t.Error("Flush did not arrive")
		}
	}).ServeHTTP(conn, newRequest(t))
	if want := []string{"duplex", "read 1h0m0s", "ReadFrom"}; !slices.Equal(conn.calls, want) || conn.Body.Len() != 1000 {
		t.Errorf("%q and %d bytes, want %q", conn.calls, conn.Body.Len(), want)
	}
}

// DL-14, DL-16: what counts as written, by itself, when the time is over.
func TestWhatIsWritten(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(w http.ResponseWriter)
		want int
	}{
		"nothing":           {func(http.ResponseWriter) {}, 504},
		"header map":        {func(w http.ResponseWriter) { w.Header().Set("X-A", "b") }, 504},
		"informational":     {func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints) }, 504},
		"status":            {func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }, 202},
		"empty write":       {func(w http.ResponseWriter) { _, _ = w.Write(nil) }, 200},
		"write":             {func(w http.ResponseWriter) { _, _ = w.Write([]byte("x")) }, 200},
		"flush":             {func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200},
		"controlled flush":  {func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }, 200},
		"copy of nothing":   {func(w http.ResponseWriter) { _, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("")}) }, 504},
		"copy of something": {func(w http.ResponseWriter) { _, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("x")}) }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := serve(t, wrap(t, deadline.Config{}, func(w http.ResponseWriter, r *http.Request) {
					c.do(w)
					<-r.Context().Done()
				}))
				resp, body := call(t, client, nil, "X-Request-Timeout-Ms", "1000")
				refused := c.want == 504
				if resp.StatusCode != c.want || refused != (resp.Header.Get("Retry-After") != "") || refused != strings.Contains(body, "deadline") {
					t.Errorf("%d %v %q, want %d", resp.StatusCode, resp.Header, body, c.want)
				}
			})
		})
	}
}
