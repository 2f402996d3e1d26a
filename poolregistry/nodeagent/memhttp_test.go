package nodeagent_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// network is HTTP over in-memory pipes, so that real handlers and clients run in
// virtual time. It can be cut.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	srv   *http.Server
	wg    sync.WaitGroup
}

func serve(h http.Handler) *network {
	n := &network{conns: make(chan net.Conn), done: make(chan struct{}), srv: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	n.wg.Go(func() { _ = n.srv.Serve(n) })
	return n
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	select {
	case <-n.done:
	default:
		close(n.done)
	}
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{} }

func (n *network) stop() {
	_ = n.srv.Close()
	n.wg.Wait()
}

// way is one client's way to the network.
type way struct {
	*network
	client *http.Client
	tr     *http.Transport
	cut    atomic.Bool  // requests fail at once
	hang   atomic.Bool  // requests hang until they time out
	loss   atomic.Int64 // every n-th request is lost; 0 = none
	count  atomic.Int64
}

func (n *network) way() *way {
	w := &way{network: n}
	w.tr = &http.Transport{DialContext: w.dial}
	w.client = &http.Client{Transport: w}
	return w
}

var errCut = errors.New("network: cut")

// RoundTrip applies the faults.
func (w *way) RoundTrip(r *http.Request) (*http.Response, error) {
	n := w.count.Add(1)
	if l := w.loss.Load(); w.hang.Load() || l > 0 && n%l == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if w.cut.Load() {
		return nil, errCut
	}
	return w.tr.RoundTrip(r)
}

func (w *way) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case w.conns <- server:
		return client, nil
	case <-w.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
