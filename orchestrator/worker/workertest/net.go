package workertest

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Net connects engines and their callers in memory, so that both can run inside
// a synctest bubble. The zero value is ready.
type Net struct {
	mu    sync.Mutex
	hosts map[string]*pipeListener
}

// Start serves a new engine at its own URL of this net. Give Dial to the caller,
// as in worker.Config.Dial. It panics if cfg is wrong.
func (n *Net) Start(cfg Config) *Engine {
	e, err := New(cfg)
	if err != nil {
		panic(err)
	}
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	if n.hosts == nil {
		n.hosts = map[string]*pipeListener{}
	}
	host := fmt.Sprintf("engine-%d:80", len(n.hosts)+1)
	n.hosts[host] = l
	n.mu.Unlock()
	e.URL = "http://" + host
	e.attach(l)
	e.work.Go(func() { _ = e.Serve(l) })
	return e
}

// Dial connects to the engine at addr. The others refuse.
func (n *Net) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.hosts[addr]
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
	if l == nil {
		return nil, refused
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
