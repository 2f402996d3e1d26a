package taskhttp_test

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// memory serves a handler over in-memory pipes, so that streams can be tested
// inside a synctest bubble, in virtual time.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
	srv   *http.Server
	*http.Client
}

func serve(srv *http.Server) *memory {
	m := &memory{conns: make(chan net.Conn), done: make(chan struct{}), srv: srv}
	m.Client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.dial(ctx)
	}}}
	m.wg.Go(func() { _ = srv.Serve(m) })
	return m
}

func (m *memory) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.conns <- server:
		return client, nil
	case <-m.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// stop closes everything and waits for the server's goroutines.
func (m *memory) stop() {
	m.CloseIdleConnections()
	_ = m.srv.Close()
	m.wg.Wait()
}
