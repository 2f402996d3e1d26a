package orchestrator_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/taskclient"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestCapabilities proves ORC-764: only what workers report now, joined by engine.
func TestCapabilities(t *testing.T) {
	inBubble(t, orchestrator.Config{}, nil, func(t *testing.T, b *bench) {
		if c := b.Capabilities(); c.APIVersion != "2.0.0" || c.Engines == nil || len(c.Engines) > 0 {
			t.Errorf("without workers: %+v", c)
		}
		w := func(name, engine, version string, slots int, edit func(*placement.Worker)) *placement.Worker {
			x := &placement.Worker{
				Key: placement.Key{Node: "n", Pool: "p", Worker: name}, Engine: engine, Version: version, SlotsTotal: slots, Online: true, Ready: true,
			}
			edit(x)
			return x
		}
		b.pools.set(
			w("a", "vllm", "0.12", 4, func(x *placement.Worker) {
				x.Models, x.Features, x.CtxMax = []string{"m2"}, []string{"tools"}, 8192
			}),
			w("b", "vllm", "0.11", 2, func(x *placement.Worker) {
				x.Models, x.Workloads, x.CtxMax = []string{"m1", "m2"}, []string{"chat"}, 4096
			}),
			w("c", "llamacpp", "", 1, func(x *placement.Worker) { x.Models = []string{"m3"} }),
			w("d", "ollama", "1", 1, func(x *placement.Worker) { x.Ready = false }),
			w("e", "ollama", "1", 1, func(x *placement.Worker) { x.Draining = true }),
			w("f", "ollama", "1", 1, func(x *placement.Worker) { x.Online = false }),
		)
		synctest.Wait()
		none := []string{}
		want := []taskapi.Engine{
			{Engine: "llamacpp", Versions: none, Models: []string{"m3"}, Workloads: none, Features: none, Slots: 1},
			{Engine: "vllm", Versions: []string{"0.11", "0.12"}, Models: []string{"m1", "m2"}, Workloads: []string{"chat"}, Features: []string{"tools"}, CtxMax: 8192, Slots: 6, Batching: true},
		}
		if got := b.Capabilities().Engines; !reflect.DeepEqual(got, want) {
			t.Errorf("engines = %+v\nwant      %+v", got, want)
		}
	})
}

// TestDecisions: operators see the newest decisions first, others none.
func TestDecisions(t *testing.T) {
	operator := orchestrator.Principal{User: "op", Roles: orchestrator.RoleOperator}
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		var want []string
		for range 5 {
			id := b.submit(orchestrator.Spec{}).ID
			b.read(id, 0)
			x, err := b.Explain(t.Context(), me, id)
			if err != nil {
				t.Fatal(err)
			}
			want = append([]string{x.DecisionID}, want...)
		}
		for limit, n := range map[int]int{0: 5, 3: 3, 1000: 5} {
			list, err := b.Decisions(t.Context(), operator, limit)
			var got []string
			for _, x := range list {
				got = append(got, x.DecisionID)
			}
			if err != nil || !reflect.DeepEqual(got, want[:n]) {
				t.Errorf("limit %d: %v, %v; want %v", limit, got, err, want[:n])
			}
		}
		for _, limit := range []int{-1, 1001} {
			if _, err := b.Decisions(t.Context(), operator, limit); !errors.Is(err, taskapi.InvalidParams) {
				t.Errorf("limit %d: %v", limit, err)
			}
		}
		if _, err := b.Decisions(t.Context(), me, 1); !errors.Is(err, taskapi.Forbidden) {
			t.Errorf("a user: %v", err)
		}
	})
}

// pipes is a listener that is dialled in memory.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.conns) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// serve puts the orchestrator behind HTTP and returns a client of it.
func (b *bench) serve() (c *taskclient.Client, stop func()) {
	b.t.Helper()
	l := &pipes{conns: make(chan net.Conn)}
	srv := &http.Server{Handler: taskhttp.New(taskhttp.Config{
		Orchestrator: b.Orchestrator, Authorize: func(*http.Request) (orchestrator.Principal, error) { return me, nil },
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	h := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		l.conns <- far
		return near, nil
	}}}
	c, err := taskclient.New(taskclient.Config{BaseURLs: []string{"http://orchestrator"}, HTTPClient: h})
	if err != nil {
		b.t.Fatal(err)
	}
	return c, func() { h.CloseIdleConnections(); _ = srv.Close(); <-done }
}

// TestBubbleClient: client, handlers and engine together: what is submitted is
// waited for, what is cancelled is told so, and a repeated request is one task.
func TestBubbleClient(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		c, stop := b.serve()
		defer stop()
		a, err := c.Submit(t.Context(), taskapi.Submit{Model: "sim-8b", Prompt: "Why is the sky blue?", MaxTokens: 12})
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Wait(t.Context(), a.TaskID)
		if err != nil || res.End.TokensOut != 12 || len(strings.Fields(res.Text)) == 0 {
			t.Errorf("%+v, %v", res, err)
		}
		again, err := c.Wait(t.Context(), a.TaskID) // from the log that is kept
		if err != nil || again.Text != res.Text {
			t.Errorf("again: %+v, %v", again, err)
		}
		named := taskapi.Submit{TaskID: "0190b1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b", Model: "sim-8b", Prompt: "hi", MaxTokens: 2000, DeadlineMS: 60_000}
		named.OnDisconnect = taskapi.DisconnectContinue
		first, err1 := c.Submit(t.Context(), named)
		second, err2 := c.Submit(t.Context(), named)
		if err1 != nil || err2 != nil || first.Duplicate || !second.Duplicate || first.TaskID != second.TaskID {
			t.Errorf("%+v %v, then %+v %v", first, err1, second, err2)
		}
		if err := c.Cancel(t.Context(), named.TaskID); err != nil {
			t.Errorf("cancel: %v", err)
		}
		if _, err := c.Wait(t.Context(), named.TaskID); !errors.Is(err, taskapi.Cancelled) {
			t.Errorf("a cancelled task: %v", err)
		}
		n := 0
		for task, err := range c.Tasks(t.Context(), taskclient.Filter{Status: []string{"completed", "cancelled"}}) {
			if n++; err != nil || task.TaskID == "" {
				t.Errorf("%+v, %v", task, err)
			}
		}
		if n != 2 {
			t.Errorf("%d tasks, want 2", n)
		}
	})
}

// TestNodeRegion proves ORC-763: the event started says where the node stands, by
// its country if that is known.
func TestNodeRegion(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		for _, tt := range []struct{ country, group, want string }{{"DE", "EU", `"node_region":"DE"`}, {"", "ASIA", `"node_region":"ASIA"`}, {"", "", ""}} {
			w := *b.pools.list[0]
			w.Country, w.Group = tt.country, tt.group
			b.pools.set(&w)
			synctest.Wait()
			for _, e := range b.read(b.submit(orchestrator.Spec{}).ID, 0) {
				if s := string(e.Data); e.Type == orchestrator.EventStarted && (!strings.Contains(s, tt.want) || tt.want == "" && strings.Contains(s, "node_region")) {
					t.Errorf("%+v: %s", tt, s)
				}
			}
		}
	})
}
