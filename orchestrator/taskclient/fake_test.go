package taskclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskclient"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

// theID is the one task of the fake.
var theID = orchestrator.TaskID{0x01, 0x90, 0xb1, 0xa2, 0x3c, 0x4d, 0x7e, 0x5f, 0x8a, 0x9b, 0x0c, 0x1d, 0x2e, 0x3f, 0x4a, 0x5b}

// fake is an engine whose one task plays its events to every reader. What it does
// not define is not asked for here.
type fake struct {
	taskhttp.Engine
	events   []orchestrator.Event
	pace     time.Duration // before each event
	refusals []error       // of the first calls of Submit, in turn
	tasks    int           // of the list

	mu      sync.Mutex
	specs   []orchestrator.Spec
	cancels int
	opened  []uint64 // what each reader had
	left    int
}

func event(id int, typ string, data any) orchestrator.Event {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return orchestrator.Event{ID: uint64(id), Type: typ, Data: raw}
}

// answer is a whole task of n tokens.
func answer(n int) []orchestrator.Event {
	out := []orchestrator.Event{event(1, "started", taskapi.Started{Model: "m"})}
	for i := range n {
		out = append(out, event(i+2, "token", taskapi.Token{T: fmt.Sprintf("t%d ", i), I: i}))
	}
	return append(out, event(n+2, "end", taskapi.End{TokensOut: n, FinishReason: "stop"}))
}

func (f *fake) Submit(_ context.Context, _ orchestrator.Principal, s orchestrator.Spec) (orchestrator.Accepted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.specs = append(f.specs, s)
	if n := len(f.specs); n <= len(f.refusals) {
		return orchestrator.Accepted{}, f.refusals[n-1]
	}
	return orchestrator.Accepted{ID: theID, Status: "queued", Position: 1}, nil
}

func (f *fake) Task(_ context.Context, _ orchestrator.Principal, id orchestrator.TaskID) (t orchestrator.Task, err error) {
	if id != theID {
		return t, taskapi.NewError(taskapi.NotFound)
	}
	t.ID, t.Status = theID, "running"
	return t, nil
}

func (f *fake) Tasks(_ context.Context, _ orchestrator.Principal, q orchestrator.Filter) iter.Seq2[orchestrator.Task, error] {
	return func(yield func(orchestrator.Task, error) bool) {
		from := f.tasks
		if q.Before != (orchestrator.TaskID{}) {
			from = int(q.Before[15]) - 1
		}
		for i := from; i > 0; i-- {
			t := orchestrator.Task{Status: q.Model}
			t.ID[15] = byte(i)
			if !yield(t, nil) {
				return
			}
		}
	}
}

func (f *fake) Cancel(_ context.Context, _ orchestrator.Principal, id orchestrator.TaskID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancels++
	return nil
}

func (f *fake) Events(ctx context.Context, _ orchestrator.Principal, id orchestrator.TaskID, after uint64) iter.Seq2[orchestrator.Event, error] {
	return func(yield func(orchestrator.Event, error) bool) {
		f.mu.Lock()
		f.opened = append(f.opened, after)
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			f.left++
			f.mu.Unlock()
		}()
		if id != theID {
			yield(orchestrator.Event{}, taskapi.NewError(taskapi.NotFound))
			return
		}
		for _, ev := range f.events {
			if ev.ID <= after {
				continue
			}
			select {
			case <-time.After(f.pace):
			case <-ctx.Done():
				return
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// world is a set of replicas that are reached through in-memory pipes, so that
// everything happens in the virtual time of a bubble.
type world struct {
	t     *testing.T
	hosts map[string]*host
	http  *http.Client
}

// host is one replica. wrap changes the server's end of its connections.
type host struct {
	srv   *http.Server
	conns chan net.Conn
	wrap  func(net.Conn) net.Conn
	wg    sync.WaitGroup
	once  sync.Once
}

func (h *host) Accept() (net.Conn, error) {
	c, ok := <-h.conns
	if !ok {
		return nil, net.ErrClosed
	}
	if h.wrap != nil {
		c = h.wrap(c)
	}
	return c, nil
}
func (h *host) Close() error   { h.once.Do(func() { close(h.conns) }); return nil }
func (h *host) Addr() net.Addr { return &net.TCPAddr{} }

func newWorld(t *testing.T) *world {
	w := &world{t: t, hosts: map[string]*host{}}
	w.http = &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		h, ok := w.hosts[addr]
		if !ok {
			return nil, fmt.Errorf("dial %s: connection refused", addr)
		}
		client, server := net.Pipe()
		h.conns <- server
		return client, nil
	}}}
	return w
}

// add serves h as name.
func (w *world) add(name string, h http.Handler, wrap func(net.Conn) net.Conn) {
	n := &host{srv: &http.Server{Handler: h}, conns: make(chan net.Conn), wrap: wrap}
	w.hosts[name+":80"] = n
	n.wg.Go(func() { _ = n.srv.Serve(n) })
}

func (w *world) stop() {
	w.http.CloseIdleConnections()
	for _, h := range w.hosts {
		_ = h.srv.Close()
		h.wg.Wait()
	}
}

// handler is the real one, before the fake.
func handler(f *fake) http.Handler {
	return taskhttp.New(taskhttp.Config{Orchestrator: f, Authorize: func(*http.Request) (orchestrator.Principal, error) {
		return orchestrator.Principal{User: "u", Roles: orchestrator.RoleUser}, nil
	}})
}

func (w *world) client(names ...string) *taskclient.Client {
	w.t.Helper()
	var bases []string
	for _, n := range names {
		bases = append(bases, "http://"+n)
	}
	c, err := taskclient.New(taskclient.Config{BaseURLs: bases, HTTPClient: w.http})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}
