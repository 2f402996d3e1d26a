package poolhttp_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/poolhttp"
)

// TestWaitsInVirtualTime (PCO-74): how long each kind of request waits for an
// operation that does not end, to the millisecond.
func TestWaitsInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := poolcore.Config{NodeID: "n"}
		hub := newSource()
		withCatalog(t, &cfg, hub)
		host, err := poolcore.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- host.Run(ctx) }()
		h, err := poolhttp.New(poolhttp.Config{Host: host, Authorize: authorize})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{Host: host, t: t, h: h}
		synctest.Wait()
		silent := `{"spec":{"engine":"external","url":"http://127.0.0.1:1","start_timeout_ms":600000}}`
		fetch := `{"model_ref":"` + modelRef + `"}`
		for i, c := range []struct {
			route, body, header string
			want                time.Duration
		}{
			{"preload", silent, "", 30 * time.Second},
			{"preload", silent, "Prefer: wait=7", 7 * time.Second},
			{"preload", silent, "X-Request-Timeout-Ms: 5000", 4950 * time.Millisecond},
			{"preload", silent, "X-Request-Timeout-Ms: 20", 0},
			{"fetch", fetch, "", 50 * time.Millisecond},
			{"fetch", fetch, "Prefer: wait=3", 3 * time.Second},
			{"fetch", fetch, "Prefer: wait=9999", 2 * time.Minute},
		} {
			route := "POST /models/fetch"
			if c.route == "preload" {
				route = fmt.Sprintf("POST /pools/p%d/preload", i)
			}
			began := time.Now()
			r := n.op(route, c.body, c.header)
			if took := time.Since(began); r.status != http.StatusAccepted || took != c.want {
				t.Errorf("%s with %q: %d after %v, want 202 after %v", c.route, c.header, r.status, took, c.want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// one is a listener with one connection.
type one struct {
	conn chan net.Conn
}

func (l one) Accept() (net.Conn, error) {
	c, ok := <-l.conn
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l one) Close() error   { close(l.conn); return nil }
func (l one) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlowBody (PCO-76): a client that does not send what it promised is let go
// after ten seconds.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, err := poolcore.New(poolcore.Config{NodeID: "n"})
		if err != nil {
			t.Fatal(err)
		}
		h, err := poolhttp.New(poolhttp.Config{Host: host, Authorize: authorize})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		ln := one{make(chan net.Conn, 1)}
		ln.conn <- theirs
		srv := &http.Server{Handler: h}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(ln) }()
		r := httptest.NewRequest(http.MethodPost, "/pools/p/purge", strings.NewReader(`{}`))
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer operator\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", r.URL.Path)
		began := time.Now()
		if _, err := ours.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(ours), r)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); res.StatusCode != http.StatusBadRequest || took != 10*time.Second {
			t.Errorf("answer %d after %v, want 400 after 10 s", res.StatusCode, took)
		}
		_ = ours.Close()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
}
