package poolcore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolregistry"
)

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

// TestManyFailuresAreBounded (PCO-38): the newest failures are kept for the next
// beat.
func TestManyFailuresAreBounded(t *testing.T) {
	h, err := New(Config{NodeID: "n"})
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(h, nil, "p")
	w := &worker{id: "p-r0-abcdef", plan: plan{units: []gpuinfo.Unit{{UUID: "GPU-7"}}}}
	w.took.Store(5 << 30)
	p.workers[1] = w
	for range maxEvents + 10 {
		h.queue(p, effFailed{gen: 1, fail: failure{class: "killed", signal: "SIGKILL", exitCode: -1}, uptime: time.Second})
	}
	b, err := h.Snapshot(t.Context())
	if err != nil || len(b.Events) != maxEvents || b.Events[0].ID != 11 || h.Stats().DroppedEvents != 10 {
		t.Errorf("%d events from %d, %d dropped, %v", len(b.Events), b.Events[0].ID, h.Stats().DroppedEvents, err)
	}
	want := poolregistry.Event{
		ID: 11, WorkerID: "p-r0-abcdef", PoolID: "p", GPU: "GPU-7", Signal: "SIGKILL", Class: "killed", VRAMReleasedBytes: 5 << 30, UptimeMS: 1000,
	}
	if b.Events[0] != want {
		t.Errorf("event = %+v, want %+v", b.Events[0], want)
	}
}
