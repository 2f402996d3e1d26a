package deadline_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
)

// pipes is a network inside the process, so that whole exchanges run in a
// synctest bubble with virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// serve answers every URL of the client with h until the test ends.
func serve(t *testing.T, h http.Handler) *http.Client { t.Helper(); return serveOver(t, 1, h) }

// serveOver is serve with HTTP/1.1 or, without TLS, HTTP/2.
func serveOver(t *testing.T, major int, h http.Handler) *http.Client {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv, tr := &http.Server{Handler: h}, &http.Transport{DialContext: l.dial}
	if major == 2 {
		only := new(http.Protocols)
		only.SetUnencryptedHTTP2(true)
		srv.Protocols, tr.Protocols = only, only
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		_ = srv.Close()
		wg.Wait()
	})
	return &http.Client{Transport: tr}
}

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error { l.once.Do(func() { close(l.done) }); return nil }

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }
