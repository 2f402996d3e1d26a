package poolcore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
)

// TestFigures measures, in one run, what the edges promise in time. Its limit for the
// median is ten times the goal: a loaded machine is no fault of the code.
// LLORCH_NIGHTLY=1.
func TestFigures(t *testing.T) {
	if os.Getenv("LLORCH_NIGHTLY") == "" {
		t.Skip("figures are taken with LLORCH_NIGHTLY=1")
	}
	figure := func(name string, goal time.Duration, took []time.Duration) {
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("%-40s goal %8v  median %10v  p99 %10v  n %d", name, goal, took[len(took)/2], p99, len(took))
		if middle := took[len(took)/2]; middle > 10*goal {
			t.Errorf("%s: %v, goal %v", name, middle, goal)
		}
	}
	dir := filepath.Join(t.TempDir(), "state")
	const engines = 16
	ports := poolcore.PortRange{First: 31000, Last: 31999}
	r := takeOver(t, dir, func(cfg *poolcore.Config) { cfg.LeaveRunning, cfg.Ports = true, ports })
	ids := make([]poolregistry.PoolID, engines)
	for i := range ids {
		ids[i] = poolregistry.PoolID(fmt.Sprintf("p%d", i))
		if err := r.preload(loosePool(string(ids[i]))); err != nil {
			t.Fatal(err)
		}
	}
	figure("crash to not ready, child", 50*time.Millisecond, crashEach(t, r, ids, 4))
	figure("preflight, devices cached", 20*time.Millisecond, refusals(t))
	figure("stop of a cooperative engine", 100*time.Millisecond, stops(t, time.Second))
	figure("stop of one that ignores SIGTERM", 400*time.Millisecond, stops(t, 200*time.Millisecond, "ignore-term"))
	r.end()
	r.end = nil
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	next := takeOver(t, dir, func(cfg *poolcore.Config) { cfg.Ports = ports })
	eventually(t, "all are taken over", func() bool {
		return !slices.ContainsFunc(ids, func(id poolregistry.PoolID) bool { p := next.Pool(id); return p == nil || !p.Status().Ready })
	})
	figure("restart with 16 engines", 2*time.Second, []time.Duration{time.Since(begin)})
	for _, id := range ids {
		if n := next.Pool(id).Status().Restarts; n != 0 {
			t.Errorf("%s was restarted", id)
		}
	}
	figure("crash to not ready, adopted", 50*time.Millisecond, crashEach(t, next, ids, 1))
	next.finish()
}

// crashEach kills the engine of each pool, rounds times, and waits for its successor.
func crashEach(t *testing.T, r *rig, ids []poolregistry.PoolID, rounds int) (took []time.Duration) {
	for range rounds {
		for _, id := range ids {
			p := r.Pool(id)
			eventually(t, "it is ready", func() bool { return p.Status().Ready })
			pid := r.workers(string(id))[0].PID
			begin := time.Now()
			if err := kill9(pid); err != nil {
				t.Fatal(err)
			}
			for p.Status().Ready {
				<-time.After(time.Millisecond)
			}
			took = append(took, time.Since(begin))
		}
	}
	return took
}

// refusals is what a preload takes that the preflight refuses.
func refusals(t *testing.T) (took []time.Duration) {
	gpus := newGPUs(t, 1, 10*gib)
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus })
	pc := loosePool("p")
	pc.VRAMDeclared = 100 * gib
	for range 50 {
		begin := time.Now()
		if err := r.preload(pc); err == nil {
			t.Fatal("not refused")
		}
		took = append(took, time.Since(begin))
	}
	r.finish()
	return took
}

func stops(t *testing.T, grace time.Duration, faults ...string) (took []time.Duration) {
	r := newRig(t, nil, faults...)
	for range 10 {
		if err := r.preload(loosePool("p")); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := r.Pool("p").Stop(t.Context(), grace); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	r.finish()
	return took
}
