package orchestrator_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
)

// control is a program that runs workers and hands out their credentials.
type control struct {
	orchestrator.PoolControl // Do and Operation are not asked for here
	mu                       sync.Mutex
	asked                    []poolregistry.PoolKey
	access                   []orchestrator.WorkerAccess
	err                      error
}

func (c *control) Workers(_ context.Context, pool poolregistry.PoolKey) ([]orchestrator.WorkerAccess, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, pool)
	return c.access, c.err
}

func (c *control) set(err error, access ...orchestrator.WorkerAccess) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.access, c.err = access, err
}

func (c *control) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// TestWorkerAccess: credentials come once per worker, reach the engine, and are
// asked for again after the engine refused them or the worker was replaced;
// they are in no log line (ORC-411).
func TestWorkerAccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const first, second = "token-canary-1-0123456789abcdef01", "token-canary-2-0123456789abcdef01"
		net, lines := new(workertest.Net), new(records)
		locked := start(t, net, workertest.Config{Keys: []string{first}})
		changed := start(t, net, workertest.Config{Keys: []string{second}})
		ctl := &control{access: []orchestrator.WorkerAccess{{Worker: "a", URL: locked.URL, Token: first}}}
		list := newPools(locked)
		list.list[0].URL = "http://reported-without-use.test"
		o, _ := serve(t, orchestrator.Config{Pools: list, Workers: dialer(t, net), Control: ctl, Logger: lines.logger()})
		run := func() string {
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatal(err)
			}
			_, c := ends(t, o, acc.ID)
			return c
		}
		for range 3 {
			if c := run(); c != "" {
				t.Errorf("ended with %q", c)
			}
		}
		if got := ctl.times(); got != 1 || ctl.asked[0] != (poolregistry.PoolKey{Node: "n", Pool: "p"}) {
			t.Errorf("asked %d times for %v, want once for n/p", got, ctl.asked)
		}
		// The engine is replaced behind the same worker: 401 once, then asked again.
		ctl.set(nil, orchestrator.WorkerAccess{Worker: "a", URL: changed.URL, Token: first})
		list.set()
		synctest.Wait()
		list.set(newPools(changed).list[0])
		synctest.Wait()
		if c := run(); c != string(taskapi.Internal) {
			t.Errorf("with a void token the task ended with %q, want INTERNAL", c)
		}
		if got := ctl.times(); got != 2 {
			t.Errorf("asked %d times after the worker was replaced, want 2", got)
		}
		ctl.set(nil, orchestrator.WorkerAccess{Worker: "a", URL: changed.URL, Token: second})
		if c := run(); c != "" || ctl.times() != 3 {
			t.Errorf("after the 401: ended with %q, asked %d times, want success and 3", c, ctl.times())
		}
		if text := lines.text(); strings.Contains(text, "token-canary") {
			t.Errorf("a worker's token is in the log: %s", text)
		}
	})
}

// TestWorkerAccessFails: a pool that can not be asked, or does not know the
// worker, costs an attempt and no more.
func TestWorkerAccessFails(t *testing.T) {
	for name, fail := range map[string]func(c *control){
		"no answer": func(c *control) { c.set(errors.New("no route")) },
		"unknown":   func(c *control) { c.set(nil, orchestrator.WorkerAccess{Worker: "z"}) },
	} {
		synctest.Test(t, func(t *testing.T) {
			net, ctl := new(workertest.Net), new(control)
			e := start(t, net, workertest.Config{})
			fail(ctl)
			o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Control: ctl})
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatal(err)
			}
			all, c := ends(t, o, acc.ID)
			if c != string(taskapi.WorkerUnreachable) || !strings.Contains(string(all[len(all)-1].Data), `"attempts":5`) {
				t.Errorf("%s: ended with %s", name, all[len(all)-1].Data)
			}
			ctl.set(nil, orchestrator.WorkerAccess{Worker: "a", URL: e.URL})
			acc, err = o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatal(err)
			}
			if _, c := ends(t, o, acc.ID); c != "" {
				t.Errorf("%s: after it went away: ended with %q", name, c)
			}
		})
	}
}

// TestStaticNeedsNoControl: workers of a fixed list are dialled as the list says.
func TestStaticNeedsNoControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, ctl := new(workertest.Net), &control{err: errors.New("must not be asked")}
		e := start(t, net, workertest.Config{})
		w := newPools(e).list[0]
		w.Static = true
		o, _ := serve(t, orchestrator.Config{Pools: &pools{list: []*placement.Worker{w}, changed: make(chan struct{})}, Workers: dialer(t, net), Control: ctl})
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, c := ends(t, o, acc.ID); c != "" || ctl.times() != 0 {
			t.Errorf("ended with %q, control asked %d times", c, ctl.times())
		}
	})
}
