package poolcore

import (
	"errors"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/poolregistry"
)

// TestBounds (PCO-5): worker ids, defaults and limits.
func TestBounds(t *testing.T) {
	c := &fakeCrew{}
	hosted(t, c, func(t *testing.T, h *Host) {
		pc := demo("p")
		pc.Replicas = 64
		p := serve(t, h, pc)
		form := regexp.MustCompile(`^p-r([0-9]|[1-5][0-9]|6[0-3])-[a-z2-7]{6}$`)
		var ids []poolregistry.WorkerID
		for w := range p.Workers() {
			if !form.MatchString(string(w.ID)) {
				t.Errorf("worker id %s", w.ID)
			}
			ids = append(ids, w.ID)
		}
		if len(ids) != 64 || !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != 64 {
			t.Errorf("%d ids", len(ids))
		}
		if got := p.Config(); got.Slots != 1 || got.Ctx != 8192 {
			t.Errorf("defaults: %+v", got)
		}
		for i, bad := range []PoolConfig{
			{ID: "q", Engine: "simulator", Model: "m", Replicas: 65},
			{ID: "q", Engine: "simulator", Model: "m", Slots: 4097},
			{ID: "q", Engine: "simulator", Model: "m", TensorSplit: []float64{0.5, 0.6}},
			{ID: "q", Engine: "simulator", Model: "m", TensorSplit: []float64{1.5, -0.5}},
		} {
			if _, err := h.Preload(t.Context(), bad); !errors.Is(err, InvalidParams) {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

// TestStatusIsAValue (PCO-4): what a caller does to a status changes nothing, and
// an old one does not change.
func TestStatusIsAValue(t *testing.T) {
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) {
		p := serve(t, h, onGPU("p"))
		old := p.Status()
		old.ModelsLoaded[0], old.DeviceMask[0], old.Workers[0].URL = "x", "x", "x"
		if s := p.Status(); s.ModelsLoaded[0] != "m" || s.DeviceMask[0] != "0" || s.Workers[0].URL == "x" {
			t.Errorf("a caller changed the pool's status: %+v", s)
		}
		if err := p.Stop(t.Context(), 0); err != nil || !old.Ready || len(old.Workers) != 1 {
			t.Errorf("an old status changed: %+v, %v", old, err)
		}
	})
}

// TestNewsIsBounded (PCO-3): a loop that is behind finds the newest news of each
// kind; what was replaced is counted, and a restart is not lost.
func TestNewsIsBounded(t *testing.T) {
	hosted(t, &fakeCrew{}, func(t *testing.T, h *Host) {
		p := newPool(h, h.crew, "slow") // nobody runs its loop yet
		for i := range 5000 {
			p.note(evReply{active: i})
			p.note(evDevice{restart: i == 7})
		}
		if d, ok := p.mailbox.news[1].(evDevice); !ok || !d.restart {
			t.Error("a restart was lost")
		}
		p.readNews(t.Context())
		synctest.Wait()
		if p.state.work.active != 4999 || h.Stats().DroppedEvents != 2*4999 {
			t.Errorf("active %d, dropped %d", p.state.work.active, h.Stats().DroppedEvents)
		}
	})
}

// TestHealthCountsProgress (PCO-37): free slots are bounded by the engine's report,
// and a worker that has work and misses probes is shown as degraded, not as dead.
func TestHealthCountsProgress(t *testing.T) {
	s := begin(t, true)
	s.spawned()
	s.feed(evTick{})
	s.feed(evProbed{gen: s.gen(), probe: probe{ready: true, slots: 1 << 40}})
	if p := s.s.places[0]; p.slots != maxSlots {
		t.Errorf("%d slots, on the engine's word", p.slots)
	}
	s.now = s.s.places[0].probeAt
	s.feed(evTick{})
	s.feed(evProbed{gen: s.gen(), probe: probe{ready: true, slots: 4, busy: new(3)}})
	if p := s.s.places[0]; p.status != busy || p.slots != 4 || p.used() != 3 {
		t.Fatalf("place = %+v", p)
	}
	for i := range 4 {
		s.now = s.s.places[0].probeAt
		s.feed(evTick{})
		s.feed(evProbed{gen: s.gen(), probe: probe{failed: true, grew: true}})
		if want := i >= missesToFail-1; (s.s.phase == degraded) != want || !s.s.places[0].serving() {
			t.Errorf("after %d misses: phase %s, status %s", i+1, s.s.phase, s.s.places[0].status)
		}
	}
}
