package poolcore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// fakeCrew runs workers that exist only in the test's virtual time.
type fakeCrew struct {
	startIn time.Duration // from spawn to ready
	refuse  bool          // spawns fail

	mu     sync.Mutex
	spawns []time.Time
	live   map[*worker]chan struct{}
	most   int
	begun  map[*worker]time.Time
}

func (c *fakeCrew) spawn(_ context.Context, pc PoolConfig, k engine.Kind, at int, gen uint64) (*worker, *failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spawns = append(c.spawns, time.Now())
	if c.refuse {
		return nil, &failure{class: engine.ClassPreflight, faults: []Fault{{Code: ModelMissing}}}
	}
	w := &worker{id: workerID(pc.ID, at), at: at, gen: gen, kind: k, token: "t"}
	c.live[w] = make(chan struct{})
	c.begun[w] = time.Now()
	c.most = max(c.most, len(c.live))
	return w, nil
}

func (c *fakeCrew) wait(w *worker) failure {
	c.mu.Lock()
	ch := c.live[w]
	c.mu.Unlock()
	<-ch
	return failure{class: engine.ClassKilled, signal: "SIGKILL"}
}

func (c *fakeCrew) probe(_ context.Context, w *worker) probe {
	c.mu.Lock()
	defer c.mu.Unlock()
	return probe{ready: time.Since(c.begun[w]) >= c.startIn, detail: "x", grew: true}
}

func (c *fakeCrew) stop(w *worker, grace time.Duration) bool {
	time.Sleep(grace / 2)
	c.end(w)
	return true
}

func (c *fakeCrew) end(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch, ok := c.live[w]; ok {
		close(ch)
		delete(c.live, w)
	}
}

// crash ends whichever worker lives.
func (c *fakeCrew) crash() {
	c.mu.Lock()
	var w *worker
	for w = range c.live {
		break
	}
	c.mu.Unlock()
	c.end(w)
}

func (c *fakeCrew) times() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]time.Time(nil), c.spawns...)
}

// hosted runs body beside a host with a fake crew, in virtual time.
func hosted(t *testing.T, c *fakeCrew, body func(t *testing.T, h *Host)) {
	synctest.Test(t, func(t *testing.T) {
		c.live, c.begun = map[*worker]chan struct{}{}, map[*worker]time.Time{}
		h, err := New(Config{NodeID: "n", StateDir: "/state", Binaries: map[string]string{"simulator": "/bin/true"}})
		if err != nil {
			t.Fatal(err)
		}
		h.crew = c
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		body(t, h)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.live) > 0 {
			t.Errorf("%d workers are left", len(c.live))
		}
	})
}

func demo(id string) PoolConfig { return PoolConfig{ID: id, Engine: "simulator", Model: "m"} }

// TestLoopTimers: probes, restarts and their pauses, driven by the loop's own
// timer (PCO-29, PCO-34).
func TestLoopTimers(t *testing.T) {
	c := &fakeCrew{startIn: 7 * time.Second}
	hosted(t, c, func(t *testing.T, h *Host) {
		start := time.Now()
		op, err := h.Preload(t.Context(), demo("p"))
		if err != nil {
			t.Fatal(err)
		}
		if err := op.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 7*time.Second || took > 7*time.Second+510*time.Millisecond {
			t.Errorf("ready noticed after %v, want within 500 ms of 7 s", took)
		}
		for _, pause := range []time.Duration{1, 2, 4} {
			crashed := time.Now()
			c.crash()
			synctest.Wait()
			if h.Pool("p").Status().Ready {
				t.Fatal("ready after a crash")
			}
			for !h.Pool("p").Status().Ready {
				time.Sleep(50 * time.Millisecond)
			}
			spawned := c.times()
			got := spawned[len(spawned)-1].Sub(crashed)
			if want := pause * time.Second; got < want*9/10 || got > want*11/10+time.Millisecond {
				t.Errorf("restart after %v, want %v ±10 %%", got, want)
			}
		}
	})
}

// TestPreloadWaitsAreReleased (PCO-3): a preload that ends badly, and one whose
// caller left.
func TestPreloadWaitsAreReleased(t *testing.T) {
	hosted(t, &fakeCrew{refuse: true}, func(t *testing.T, h *Host) {
		op, err := h.Preload(t.Context(), demo("p"))
		if err != nil {
			t.Fatal(err)
		}
		if err := op.Wait(t.Context()); !errors.Is(err, ModelMissing) {
			t.Errorf("Wait = %v, want MODEL_MISSING", err)
		}
		if s := h.Stats(); s.PreloadFailures["MODEL_MISSING"] != 1 {
			t.Errorf("failures = %v", s.PreloadFailures)
		}
	})
	hosted(t, &fakeCrew{startIn: time.Hour}, func(t *testing.T, h *Host) {
		op, err := h.Preload(t.Context(), demo("p"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := op.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || op.State() != "running" {
			t.Errorf("Wait = %v, state %s", err, op.State())
		}
		if _, err := h.Preload(t.Context(), demo("p")); !errors.Is(err, PoolBusy) {
			t.Errorf("second preload = %v, want POOL_BUSY", err)
		}
		if err := op.Wait(t.Context()); !errors.Is(err, WorkerStartTimeout) {
			t.Errorf("Wait = %v, want WORKER_START_TIMEOUT after 120 s", err)
		}
	})
}

// TestLoadADoesNotBlockB (PCO-1): a pool that starts and one that stops slowly
// delay nobody.
func TestLoadADoesNotBlockB(t *testing.T) {
	hosted(t, &fakeCrew{startIn: 30 * time.Second}, func(t *testing.T, h *Host) {
		if _, err := h.Preload(t.Context(), demo("a")); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		op, err := h.Preload(t.Context(), demo("b"))
		if err != nil {
			t.Fatal(err)
		}
		h.Pool("a").Status()
		if _, err := h.Snapshot(t.Context()); err != nil || time.Since(before) > 0 {
			t.Errorf("waited %v, %v", time.Since(before), err)
		}
		if err := op.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestManyFailuresAreBounded: the newest failures are kept for the next beat.
func TestManyFailuresAreBounded(t *testing.T) {
	h, err := New(Config{NodeID: "n"})
	if err != nil {
		t.Fatal(err)
	}
	for range maxEvents + 10 {
		h.queue(poolregistry.Event{})
	}
	b, err := h.Snapshot(t.Context())
	if err != nil || len(b.Events) != maxEvents || b.Events[0].ID != 11 || h.Stats().DroppedEvents != 10 {
		t.Errorf("%d events from %d, %d dropped, %v", len(b.Events), b.Events[0].ID, h.Stats().DroppedEvents, err)
	}
}
