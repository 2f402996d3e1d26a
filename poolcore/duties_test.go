package poolcore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/handoff"
	"github.com/llorch/llorch/poolregistry"
)

// TestWaitersAlwaysReleased (PCO-3): whoever waits for whatever is answered, at the
// latest when the host ends.
func TestWaitersAlwaysReleased(t *testing.T) {
	c := &fakeCrew{startIn: time.Hour}
	hosted(t, c, func(t *testing.T, h *Host) {
		op, err := h.Preload(t.Context(), demo("starting"))
		if err != nil {
			t.Fatal(err)
		}
		c.set(func() { c.startIn = 0 })
		p := serve(t, h, demo("p"))
		if _, _, err := p.Acquire(t.Context()); err != nil { // never released
			t.Fatal(err)
		}
		c.set(func() { c.startIn = time.Hour })
		re, err := p.Reload(t.Context(), ReloadRequest{Model: "n"})
		if err != nil {
			t.Fatal(err)
		}
		q := h.Pool("starting")
		ctx := context.WithoutCancel(t.Context())
		for range 20 {
			for _, wait := range []func() error{
				func() error { return op.Wait(ctx) },
				func() error { return re.Wait(ctx) },
				func() error { _, err := p.Drain(ctx, time.Hour); return err },
				func() error { _, err := q.Drain(ctx, time.Hour); return err },
				func() error { return p.Restart(ctx) },
				func() error { return p.Stop(ctx, time.Second) },
				func() error { _, _, err := p.Acquire(ctx); return err },
				p.Undrain, p.ResetBreaker,
			} {
				go func() { _ = wait() }() // the bubble ends only when all have returned
			}
		}
	})
}

// TestNoLockAcrossIO (PCO-1): while the disk hangs, everything that reads answers
// at once, and other pools go on.
func TestNoLockAcrossIO(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		c.set(func() { c.block = make(chan struct{}) })
		op, err := h.Preload(t.Context(), demo("a"))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.Sleep(time.Minute)
		p := h.Pool("a")
		if s := p.Status(); s.State != "initializing" || p.Phase() != staging {
			t.Errorf("status = %+v", s)
		}
		_, _ = h.Snapshot(t.Context())
		_ = h.Stats()
		h.Reply(poolregistry.BeatReply{})
		if _, err := h.Preload(t.Context(), demo("a")); !errors.Is(err, PoolBusy) {
			t.Errorf("a second preload = %v", err)
		}
		if time.Since(began) != time.Minute {
			t.Errorf("something waited for the disk: %v", time.Since(began))
		}
		close(c.block)
		if err := op.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestOverloadNeverTripsBreaker (PCO-35): an engine that refuses for an hour for
// want of capacity is alive.
func TestOverloadNeverTripsBreaker(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		c.set(func() { c.crowded = true })
		time.Sleep(time.Hour)
		if s := p.Status(); !s.Ready || s.Breaker != breakerClosed || s.Restarts != 0 || s.LastError != nil {
			t.Errorf("status = %+v", s)
		}
	})
}

// TestObserve (PCO-78): transitions, crashes, drains and reloads are told, in order
// and outside of the loop.
func TestObserve(t *testing.T) {
	var mu sync.Mutex
	kinds := map[string]int{}
	c := &fakeCrew{observe: func(e Event) {
		time.Sleep(time.Millisecond)
		mu.Lock()
		kinds[e.Kind]++
		mu.Unlock()
	}}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		c.crash()
		time.Sleep(5 * time.Second)
		if err := reloadTo(t, p, ReloadRequest{Model: "n"}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Drain(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	})
	for _, kind := range []string{"transition", "crash", "drain", "reload"} {
		if kinds[kind] == 0 {
			t.Errorf("no event %s: %v", kind, kinds)
		}
	}
}

// TestBindExternal: handoff files bind and unbind servers, place by place; the pool
// ends with the last one.
func TestBindExternal(t *testing.T) {
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) {
		bind := func(replica, url string) error {
			return h.BindExternal(handoff.Binding{Pool: "ext", Replica: replica, URL: url, SlotsTotal: 2, Model: handoff.Model{ID: "m"}})
		}
		for i, err := range []error{bind("r0", "http://127.0.0.1:1000"), bind("r1", "http://127.0.0.1:1001"), bind("r0", "http://127.0.0.1:1002")} {
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		time.Sleep(time.Second)
		p := h.Pool("ext")
		if s := p.Status(); !s.Ready || s.SlotsTotal != 4 || len(s.Workers) != 2 {
			t.Errorf("status = %+v", s)
		}
		if err := bind("x1", "http://127.0.0.1:1"); !errors.Is(err, InvalidParams) {
			t.Errorf("replica x1 = %v", err)
		}
		if err := h.Unbind("ext", "r5"); !errors.Is(err, WorkerUnknown) {
			t.Errorf("Unbind = %v", err)
		}
		for _, replica := range []string{"r0", "r1"} {
			if err := h.Unbind("ext", replica); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Second)
		if p.Phase() != stopped {
			t.Errorf("phase = %s without a binding", p.Phase())
		}
		serve(t, h, demo("own"))
		if err := h.BindExternal(handoff.Binding{Pool: "own", Replica: "r0", URL: "http://127.0.0.1:1000"}); !errors.Is(err, PoolExists) {
			t.Errorf("binding into a pool of our own = %v", err)
		}
	})
}

// TestPurge (PCO-48): engines go first, after a drain; a model in use is refused.
func TestPurge(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		op, err := p.Purge(t.Context(), PurgeRequest{Models: []string{"m"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := op.Wait(t.Context()); !errors.Is(err, ModelInUse) || p.Phase() != ready {
			t.Errorf("Wait = %v, phase %s", err, p.Phase())
		}
		_, release, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		op, err = p.Purge(t.Context(), PurgeRequest{Engine: true, Caches: true})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if p.Phase() != draining {
			t.Errorf("phase = %s while a slot is taken", p.Phase())
		}
		if err := p.Undrain(); !errors.Is(err, PoolBusy) {
			t.Errorf("Undrain = %v", err)
		}
		release()
		if err := op.Wait(t.Context()); err != nil || p.Phase() != stopped || len(c.purged) != 2 || !c.purged[1].caches {
			t.Errorf("Wait = %v, phase %s, %+v", err, p.Phase(), c.purged)
		}
	})
}

// TestRestart: new workers in all places, a closed breaker, and hopeless failures
// are tried again (PCO-34); ResetBreaker does not wait for the back-off.
func TestRestart(t *testing.T) {
	c := &fakeCrew{startIn: time.Second, broken: map[string]bool{}}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		old := slices.Collect(p.Workers())[0].ID
		if err := p.Restart(t.Context()); err != nil || slices.Collect(p.Workers())[0].ID == old || p.Phase() != ready {
			t.Errorf("Restart = %v, phase %s", err, p.Phase())
		}
		c.set(func() { c.broken["m"] = true })
		if err := p.Restart(t.Context()); !errors.Is(err, WorkerStartFailed) {
			t.Errorf("Restart = %v, want the failure", err)
		}
		time.Sleep(3 * time.Minute)
		if s := p.Status(); s.Breaker != breakerOpen {
			t.Fatalf("breaker = %s", s.Breaker)
		}
		if _, err := h.Preload(t.Context(), demo("p")); !errors.Is(err, BreakerOpen) {
			t.Errorf("Preload = %v, want BREAKER_OPEN", err)
		}
		c.set(func() { c.broken["m"] = false })
		if err := p.ResetBreaker(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if s := p.Status(); !s.Ready || s.Breaker != breakerClosed {
			t.Errorf("status = %+v", s)
		}
	})
}

// TestHopelessFailures (PCO-34): MODEL_UNVERIFIED and a mask violation are not
// retried.
func TestHopelessFailures(t *testing.T) {
	for name, f := range map[string]failure{
		"mask":     {class: engine.ClassMaskViolation},
		"verified": {class: engine.ClassPreflight, faults: []Fault{{Code: modelUnverified}}},
	} {
		s := begin(t, true)
		s.feed(evSpawnFailed{gen: s.gen(), fail: f})
		if s.s.due() != never || s.s.phase != failed {
			t.Errorf("%s: due %v, phase %s", name, s.s.due(), s.s.phase)
		}
		s.feed(evReset{op: 9})
		if s.s.places[0].status != spawning {
			t.Errorf("%s: a reset does not try again", name)
		}
	}
}

// TestShortageNeverTripsBreaker (PCO-35): a start that is refused for want of memory
// is tried again by the back-off alone.
func TestShortageNeverTripsBreaker(t *testing.T) {
	f := failure{class: engine.ClassPreflight, faults: []Fault{{Code: InsufficientVRAM}}}
	s := begin(t, true)
	for range 20 {
		s.feed(evSpawnFailed{gen: s.gen(), fail: f})
		if pause := s.untilSpawn(); pause > time.Minute || s.s.breaker.state != breakerClosed {
			t.Fatalf("pause %v, breaker %s", pause, s.s.breaker.state)
		}
	}
}

// TestCalled (PCO-31): the engine's own word makes a probe come at once, and is
// believed only with the worker's key, model and address.
func TestCalled(t *testing.T) {
	c := &fakeCrew{startIn: 20*time.Second + 3*time.Millisecond}
	hosted(t, c, func(t *testing.T, h *Host) {
		if _, err := h.Preload(t.Context(), demo("p")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Second + 4*time.Millisecond)
		w := slices.Collect(h.Pool("p").Workers())[0]
		for _, wrong := range [][3]string{{"x", "m", w.URL}, {"", "m", w.URL}, {"t", "n", w.URL}, {"t", "m", "http://127.0.0.1:2"}} {
			if err := h.Called(w.ID, wrong[0], wrong[1], wrong[2]); !errors.Is(err, WorkerUnknown) {
				t.Errorf("%q = %v", wrong, err)
			}
		}
		synctest.Wait()
		if h.Pool("p").Phase() != starting {
			t.Fatal("ready before the call")
		}
		if err := h.Called(w.ID, "t", "m", w.URL); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if h.Pool("p").Phase() != ready {
			t.Errorf("phase = %s right after the call", h.Pool("p").Phase())
		}
	})
}

// TestNilPoolRefuses: every method of a nil pool answers PoolUnknown or nothing.
func TestNilPoolRefuses(t *testing.T) {
	var p *Pool
	for name, call := range map[string]func() error{
		"Drain":   func() error { _, err := p.Drain(t.Context(), 0); return err },
		"Reload":  func() error { _, err := p.Reload(t.Context(), ReloadRequest{}); return err },
		"Purge":   func() error { _, err := p.Purge(t.Context(), PurgeRequest{}); return err },
		"Acquire": func() error { _, _, err := p.Acquire(t.Context()); return err },
		"Restart": func() error { return p.Restart(t.Context()) },
		"Undrain": p.Undrain, "ResetBreaker": p.ResetBreaker,
	} {
		if err := call(); !errors.Is(err, PoolUnknown) {
			t.Errorf("%s = %v", name, err)
		}
	}
	if got := strings.Join(slices.Collect(p.Logs("w", 10)), ""); got != "" || p.Phase() != stopped || p.Config().ID != "" {
		t.Errorf("logs %q, phase %s", got, p.Phase())
	}
}
