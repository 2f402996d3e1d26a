package poolregistry_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// cable is a connection that can be cut in silence: nothing arrives any more and
// nobody is told.
type cable struct {
	net.Conn
	cut *atomic.Bool
}

func (c cable) Write(p []byte) (int, error) {
	if c.cut.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// cables is a listener over cables.
type cables struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *cables) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *cables) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *cables) Addr() net.Addr { return &net.TCPAddr{} }

// PRG-60: what the transport does not wait for: a handshake, and the beginning of
// an answer. It keeps four idle connections per host, and speaks TLS 1.2 at least.
func TestTransportBounds(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		want time.Duration
	}{
		"handshake": {"https://example.com:9200", 5 * time.Second},
		"answer":    {"http://example.com:9200", 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := AddressPolicy{}.Transport()
				var far net.Conn
				tr.DialContext = func(context.Context, string, string) (near net.Conn, _ error) {
					near, far = net.Pipe()
					go func() { _, _ = io.Copy(io.Discard, far) }() // reads all and says nothing
					return near, nil
				}
				start := time.Now()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := tr.RoundTrip(req)
				if err == nil {
					res.Body.Close()
				}
				if d := time.Since(start); err == nil || d != c.want {
					t.Errorf("%v after %v, want an error after %v", err, d, c.want)
				}
				_ = far.Close()
			})
		})
	}
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := &cables{conns: make(chan net.Conn), done: make(chan struct{})}
			srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }), ReadHeaderTimeout: time.Minute}
			var serving sync.WaitGroup
			serving.Go(func() { _ = srv.Serve(l) })
			var dials atomic.Int64
			tr := AddressPolicy{}.Transport()
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				near, far := net.Pipe()
				l.conns <- far
				return near, nil
			}
			for _, want := range []int64{6, 8} { // four of six are kept
				var wg sync.WaitGroup
				for range 6 {
					wg.Go(func() {
						req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com:9200", nil)
						if res, err := tr.RoundTrip(req); err == nil {
							res.Body.Close()
						}
					})
				}
				wg.Wait()
				synctest.Wait()
				if n := dials.Load(); n != want {
					t.Errorf("%d connections, want %d", n, want)
				}
			}
			tr.CloseIdleConnections()
			_ = srv.Close()
			serving.Wait()
		})
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(nil)
		srv.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		defer srv.Close()
		tr := all().Transport()
		defer tr.CloseIdleConnections()
		tr.TLSClientConfig.InsecureSkipVerify = true // only the version is asked for
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := tr.RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("a server of TLS 1.1: %v", err)
		}
	})
}

// PRG-60: a node that vanished without a word, and came back, is reached again
// within seconds, also over HTTP/2, which has one connection for everything.
func TestTransportLeavesADeadConnection(t *testing.T) {
	made := httptest.NewTLSServer(nil) // for its certificate
	made.Close()
	synctest.Test(t, func(t *testing.T) {
		l := &cables{conns: make(chan net.Conn), done: make(chan struct{})}
		srv := &http.Server{
			Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Proto", r.Proto) }),
			TLSConfig:         &tls.Config{Certificates: made.TLS.Certificates, MinVersion: tls.VersionTLS12},
			ReadHeaderTimeout: time.Minute,
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = srv.ServeTLS(l, "", "") })
		var cuts []*atomic.Bool
		tr := AddressPolicy{}.Transport()
		tr.TLSClientConfig.RootCAs = made.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			cut := new(atomic.Bool)
			cuts = append(cuts, cut)
			l.conns <- cable{there, cut}
			return cable{here, cut}, nil
		}
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://example.com:9200/health", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := tr.RoundTrip(req)
			if err != nil {
				return err
			}
			if res.Body.Close(); res.Header.Get("Proto") != "HTTP/2.0" {
				t.Errorf("protocol %s", res.Header.Get("Proto"))
			}
			return nil
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		cuts[0].Store(true)
		if ask() == nil {
			t.Error("an answer came over a cut cable")
		}
		time.Sleep(10 * time.Second)
		if err := ask(); err != nil || len(cuts) != 2 {
			t.Errorf("after ten seconds: %v, %d connections", err, len(cuts))
		}
		tr.CloseIdleConnections()
		_ = srv.Close()
		for _, c := range cuts {
			c.Store(true)
		}
		wg.Wait()
	})
}
