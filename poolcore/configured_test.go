package poolcore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
)

// TestConfiguredAnew: engines of an earlier run are taken over in as many places as
// the configuration has now; those of a pool that is configured no more are ended,
// and those of a pool that somebody preloaded go on (PCO-27, G8).
func TestConfiguredAnew(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	three, gone := loosePool("kept"), loosePool("gone")
	three.Replicas = 3
	r := takeOver(t, dir, func(cfg *poolcore.Config) {
		cfg.LeaveRunning, cfg.Pools = true, []poolcore.PoolConfig{three, gone}
	})
	if err := r.preload(loosePool("asked")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all pools are ready", func() bool {
		return len(r.workers("kept")) == 3 && r.Pool("kept").Phase() == "ready" && r.Pool("gone") != nil && r.Pool("gone").Phase() == "ready"
	})
	first, asked := r.workers("kept")[0].ID, r.workers("asked")[0].ID
	r.end()
	r.end = nil
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	one := loosePool("kept")
	next := takeOver(t, dir, func(cfg *poolcore.Config) { cfg.Pools = []poolcore.PoolConfig{one} })
	eventually(t, "one engine of each pool that is left serves", func() bool {
		kept, others := next.Pool("kept"), next.Pool("asked")
		return kept != nil && kept.Status().Ready && others != nil && others.Status().Ready
	})
	if w := next.workers("kept"); len(w) != 1 || w[0].ID != first {
		t.Errorf("workers of the smaller pool = %v, want %s alone", w, first)
	}
	if w := next.workers("asked"); len(w) != 1 || w[0].ID != asked {
		t.Errorf("workers of the preloaded pool = %v, want %s", w, asked)
	}
	if p := next.Pool("gone"); p != nil {
		t.Errorf("a pool that is configured no more is %s", p.Phase())
	}
	eventually(t, "two engines run", func() bool {
		return len(next.processes("gone-"))+len(next.processes("kept-"))+len(next.processes("asked-")) == 2
	})
	next.finish()
}

// TestEndedPoolsMakeRoom: a host takes any number of pools one after the other; the
// bound is on those that it has at once (PCO-5).
func TestEndedPoolsMakeRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Limits.Pools = 2 })
	for i := range 5 {
		id := fmt.Sprint("p", i)
		if err := r.preload(sim(id)); err != nil {
			t.Fatalf("pool %d: %v", i, err)
		}
		if i == 4 {
			break
		}
		if err := r.Pool(poolregistry.PoolID(id)).Stop(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.preload(sim("beside")); err != nil {
		t.Fatalf("a second pool beside one that ended: %v", err)
	}
	if err := r.preload(sim("third")); !errors.Is(err, poolcore.InvalidParams) {
		t.Errorf("a third pool at once: %v, want INVALID_PARAMS", err)
	}
}

// TestRefusedRestartTouchesNothing: what the preflight would refuse is refused while
// the old engine serves on (PCO-8).
func TestRefusedRestartTouchesNothing(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "engine")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Binaries["simulator"] = link })
	if err := r.preload(sim("p")); err != nil {
		t.Fatal(err)
	}
	before := r.workers("p")[0].ID
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := r.Pool("p").Restart(t.Context()); !errors.Is(err, poolcore.BinaryMissing) {
		t.Errorf("a restart without a binary: %v, want BINARY_MISSING", err)
	}
	if w := r.workers("p"); len(w) != 1 || w[0].ID != before || !r.Pool("p").Status().Ready {
		t.Errorf("afterwards %v serve, want %s", w, before)
	}
}

// TestDescribeMentionsAdoptedEngines: who asks a host what it is before it runs hears
// of the engines that it takes over, at once: what is not mentioned counts as lost
// with all that runs there (G8, PCO-27).
func TestDescribeMentionsAdoptedEngines(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	r := takeOver(t, dir, func(cfg *poolcore.Config) { cfg.LeaveRunning = true })
	if err := r.preload(loosePool("p")); err != nil {
		t.Fatal(err)
	}
	worker := r.workers("p")[0].ID
	r.end()
	r.end = nil
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	next := takeOver(t, dir, nil)
	reg, err := next.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(reg.Pools) != 1 || len(reg.Pools[0].Workers) != 1 || reg.Pools[0].Workers[0].ID != worker || reg.Pools[0].Workers[0].URL == "" {
		t.Errorf("pools = %+v, want worker %s", reg.Pools, worker)
	}
	eventually(t, "it has proved itself", func() bool { return next.Pool("p").Status().Ready })
	next.finish()
}
