package poolcore

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
)

// TestDrain (PCO-44): not placeable at once; it waits for slots and for the engine's
// own report, ends unforced, and leaves the engine alive; undrain serves again.
func TestDrain(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		pc := demo("p")
		pc.Slots = 2
		p := serve(t, h, pc)
		w, release, err := p.Acquire(t.Context())
		if err != nil || w.Token != "t" || w.SlotsFree != 1 {
			t.Fatalf("Acquire = %v, %v", w, err)
		}
		c.set(func() { c.busy = new(1) })
		began := time.Now()
		ended := make(chan DrainOutcome, 1)
		go func() {
			o, err := p.Drain(t.Context(), time.Hour)
			if err != nil {
				t.Errorf("Drain = %v", err)
			}
			ended <- o
		}()
		synctest.Wait()
		if s := p.Status(); s.Ready || !s.Draining || s.State != "draining" || p.Phase() != draining {
			t.Errorf("status = %+v", s)
		}
		if _, _, err := p.Acquire(t.Context()); !errors.Is(err, Draining) {
			t.Errorf("Acquire while draining = %v", err)
		}
		time.Sleep(20 * time.Second)
		release()
		time.Sleep(20 * time.Second) // the slot is free, and the engine still reports work
		if p.Phase() != draining {
			t.Fatalf("phase = %s while the engine is busy", p.Phase())
		}
		c.set(func() { c.busy = new(0) })
		o := <-ended
		if took := time.Since(began); o.Forced || o.ActiveLeft != 0 || o.Duration > took || took < 40*time.Second || took > 41*time.Second {
			t.Errorf("outcome = %+v after %v", o, took)
		}
		if len(c.times()) != 1 || p.Phase() != drained {
			t.Errorf("%d spawns, phase %s: the engine must live on", len(c.times()), p.Phase())
		}
		if err := p.Undrain(); err != nil || p.Phase() != ready || len(c.times()) != 1 {
			t.Errorf("undrain = %v, phase %s", err, p.Phase())
		}
		s := h.Stats()
		if s.Drains != 1 || s.DrainSeconds.Count != 1 || s.DrainSeconds.Sum < 40 {
			t.Errorf("stats = %d, %+v", s.Drains, s.DrainSeconds)
		}
	})
}

// TestDrainIsForced (PCO-44): the earlier deadline of two wins, the engine is
// stopped then, and undrain starts it anew.
func TestDrainIsForced(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		_, release, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		outcomes := make(chan DrainOutcome, 2)
		for _, within := range []time.Duration{time.Hour, 10 * time.Second} {
			go func() {
				o, err := p.Drain(t.Context(), within)
				if err != nil {
					t.Errorf("Drain = %v", err)
				}
				outcomes <- o
			}()
			synctest.Wait()
		}
		for range 2 {
			if o := <-outcomes; !o.Forced || o.ActiveLeft != 1 || o.Duration < 10*time.Second || o.Duration > 16*time.Second {
				t.Errorf("outcome = %+v", o)
			}
		}
		release() // of a worker that is gone
		if err := p.Undrain(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if p.Phase() != ready || len(c.times()) != 2 {
			t.Errorf("phase %s, %d spawns", p.Phase(), len(c.times()))
		}
	})
}

// TestUndrainReleasesWaiters: a drain that is undone answers, and StopAfterDrain
// ends the engine after an unforced one.
func TestUndrainReleasesWaiters(t *testing.T) {
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) {
		pc := demo("p")
		pc.StopAfterDrain = true
		p := serve(t, h, pc)
		_, release, err := p.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() { _, err := p.Drain(t.Context(), time.Hour); result <- err }()
		synctest.Wait()
		if err := p.Undrain(); err != nil {
			t.Fatal(err)
		}
		if err := <-result; !errors.Is(err, Cancelled) {
			t.Errorf("Drain = %v, want CANCELLED", err)
		}
		release()
		if o, err := p.Drain(t.Context(), time.Hour); err != nil || o.Forced {
			t.Errorf("Drain = %+v, %v", o, err)
		}
		if p.Status().Live {
			t.Error("the engine lives after StopAfterDrain")
		}
	})
}

// TestSlotLeakIsZero (PCO-41, G5): random acquires, releases, cancelled callers:
// afterwards every slot is free.
func TestSlotLeakIsZero(t *testing.T) {
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) {
		pc := demo("p")
		pc.Replicas, pc.Slots = 2, 3
		p := serve(t, h, pc)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 3))
				for range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(2))*time.Millisecond)
					_, release, err := p.Acquire(ctx)
					if err == nil {
						time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
						release()
						release()
					}
					cancel()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if s := p.Status(); s.SlotsFree != 6 || s.ActiveLeases != 0 {
			t.Errorf("%d of %d slots are free, %d active", s.SlotsFree, s.SlotsTotal, s.ActiveLeases)
		}
		var given []poolregistry.WorkerID
		for range 6 {
			w, _, err := p.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			given = append(given, w.ID)
		}
		if _, _, err := p.Acquire(t.Context()); !errors.Is(err, NoSlots) {
			t.Errorf("a seventh = %v", err)
		}
		ws := slices.Collect(p.Workers())
		if want := []poolregistry.WorkerID{ws[0].ID, ws[1].ID, ws[0].ID, ws[1].ID, ws[0].ID, ws[1].ID}; !slices.Equal(given, want) {
			t.Errorf("slots of %v, want the worker with most free, then the lowest id", given)
		}
	})
}

// TestActiveCountFallsSilent (PCO-40): after the granted timeout only the engine's
// own report counts; where it has none, a drain does not believe in idleness.
func TestActiveCountFallsSilent(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		pc := demo("p")
		pc.Slots = 4
		p := serve(t, h, pc)
		h.Reply(poolregistry.BeatReply{Active: map[poolregistry.PoolID]int{"p": 3}, TimeoutMS: 30_000})
		synctest.Wait()
		if s := p.Status(); s.ActiveLeases != 3 || s.SlotsFree != 1 || s.Workers[0].Status != busy {
			t.Errorf("status = %+v", s)
		}
		c.set(func() { c.busy = new(2) })
		time.Sleep(41 * time.Second)
		if s := p.Status(); s.ActiveLeases != 0 || s.SlotsFree != 2 || s.Idle {
			t.Errorf("status without news = %+v", s)
		}
		c.set(func() { c.busy = nil })
		if o, err := p.Drain(t.Context(), 20*time.Second); err != nil || !o.Forced {
			t.Errorf("drain = %+v, %v", o, err)
		}
	})
}

// TestScheduleOfReplies: draining drains the node and refuses preloads, open undoes
// it; beats say what the node believes.
func TestScheduleOfReplies(t *testing.T) {
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) {
		p := serve(t, h, demo("p"))
		h.Reply(poolregistry.BeatReply{Schedule: poolregistry.Draining, DrainMS: 60_000})
		time.Sleep(2 * time.Second)
		if p.Phase() != drained {
			t.Errorf("phase = %s", p.Phase())
		}
		if _, err := h.Preload(t.Context(), demo("q")); !errors.Is(err, Draining) {
			t.Errorf("Preload = %v", err)
		}
		if b, err := h.Snapshot(t.Context()); err != nil || b.Schedule != poolregistry.Draining {
			t.Errorf("beat = %v, %v", b.Schedule, err)
		}
		h.Reply(poolregistry.BeatReply{Schedule: poolregistry.Cordoned})
		synctest.Wait()
		if p.Phase() != ready {
			t.Errorf("phase = %s after the drain was undone", p.Phase())
		}
		if err := h.Drain(t.Context(), time.Minute); err != nil || p.Phase() != drained {
			t.Errorf("Host.Drain = %v, phase %s", err, p.Phase())
		}
		if err := h.Undrain(); err != nil || p.Phase() != ready {
			t.Errorf("Host.Undrain = %v, phase %s", err, p.Phase())
		}
	})
}
