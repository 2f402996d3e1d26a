package poolcore_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

func TestPreloadServesAndStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	pc := sim("pool-0")
	pc.Replicas = 2
	if err := r.preload(pc); err != nil {
		t.Fatal(err)
	}
	status := r.Pool("pool-0").Status()
	if !status.Ready || !status.Live || status.State != "ready" || status.SlotsTotal != 6 || status.SlotsFree != 6 || len(status.Workers) != 2 {
		t.Errorf("status = %+v", status)
	}
	for _, w := range r.workers("pool-0") {
		res, err := http.Get(w.URL + "/health")
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("worker does not answer: %v", err)
		}
		_ = res.Body.Close()
		if w.Status != "ready" || w.Token == "" || w.ModelRef != "demo" {
			t.Errorf("worker = %+v", w.Worker)
		}
	}
	again, err := r.Preload(t.Context(), pc)
	if err != nil || again.State() != "done" {
		t.Errorf("PCO-7: an identical preload = %v, want a finished operation", err)
	}
	pc.Slots = 4
	if _, err := r.Preload(t.Context(), pc); !errors.Is(err, poolcore.PoolExists) {
		t.Errorf("PCO-7: another configuration = %v, want POOL_EXISTS", err)
	}
	if err := r.Pool("pool-0").Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.nothingLeft()
	if status := r.Pool("pool-0").Status(); status.Ready || status.State != "offline" {
		t.Errorf("status after stop = %+v", status)
	}
	if err := r.preload(pc); err != nil {
		t.Errorf("a stopped pool is preloaded again: %v", err)
	}
}

// TestKilledEngineIsRestarted: kill -9 of an engine, the node is told at once, a
// new worker with another id comes (PCO-22, PCO-34, PCO-38).
func TestKilledEngineIsRestarted(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.preload(sim("pool-0")); err != nil {
		t.Fatal(err)
	}
	old := r.workers("pool-0")[0]
	beat, err := r.Snapshot(t.Context())
	if err != nil || len(beat.Events) != 0 {
		t.Fatalf("snapshot before = %+v, %v", beat.Events, err)
	}
	nudges := r.nudges.Load()
	pids := r.processes(string(old.ID))
	if len(pids) != 1 {
		t.Fatalf("processes of the worker: %v", pids)
	}
	killed := time.Now()
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is nudged", func() bool { return r.nudges.Load() > nudges })
	t.Logf("crash to nudge: %v", time.Since(killed))
	eventually(t, "another worker is ready", func() bool {
		ws := r.workers("pool-0")
		return len(ws) == 1 && ws[0].Status == "ready" && ws[0].ID != old.ID
	})
	status := r.Pool("pool-0").Status()
	if status.Restarts != 1 || status.LastError == nil || status.Breaker != "closed" {
		t.Errorf("status = %+v", status)
	}
	beat, err = r.Snapshot(t.Context())
	if err != nil || len(beat.Events) != 1 {
		t.Fatalf("events = %+v, %v; want one", beat.Events, err)
	}
	if e := beat.Events[0]; e.WorkerID != old.ID || e.Class != engine.ClassKilled || e.Signal != "SIGKILL" || e.PoolID != "pool-0" || e.ID == 0 {
		t.Errorf("event = %+v", e)
	}
	if beat, _ := r.Snapshot(t.Context()); len(beat.Events) != 0 {
		t.Error("an event is returned twice")
	}
}

// TestConfiguredPoolsAreKept: a pool of Config.Pools is retried from its first
// failure on, and is ready once its reason is gone.
func TestConfiguredPoolsAreKept(t *testing.T) {
	t.Parallel()
	var link string
	r := newRig(t, func(cfg *poolcore.Config) {
		link = filepath.Join(t.TempDir(), "engine")
		cfg.Binaries["simulator"] = link
		cfg.Pools = []poolcore.PoolConfig{sim("p")}
	})
	eventually(t, "the first start fails", func() bool {
		p := r.Pool("p")
		return p != nil && p.Status().LastError != nil
	})
	if got := r.Pool("p").Status().LastError.Code; got != string(poolcore.BinaryMissing) {
		t.Errorf("last error = %s", got)
	}
	self, _ := os.Executable()
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool is ready", func() bool { return r.Pool("p").Status().Ready })
}

// TestRestartLeavesNoOrphan: a killed owner's engine is ended by the next one.
func TestRestartLeavesNoOrphan(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	id := "p-r0-orphan"
	if err := os.MkdirAll(filepath.Join(dir, "workers", id), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "sleeper")
	cmd.Env = []string{"LLORCH_WORKER_ID=" + id, "HOME=" + dir + "/"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	eventually(t, "the orphan runs", func() bool { return len(processesIn(dir, id)) == 1 })
	r := newRig(t, func(cfg *poolcore.Config) { cfg.StateDir = dir })
	r.dir = dir
	if err := r.preload(sim("p")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the orphan lives")
	}
}

func TestStateDirHasOneOwner(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.preload(sim("p")); err != nil {
		t.Fatal(err)
	}
	other, err := poolcore.New(poolcore.Config{NodeID: "node-2", StateDir: r.dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil {
		t.Error("PCO-28: a second owner is let in")
	}
	if _, err := other.Preload(t.Context(), sim("q")); !errors.Is(err, poolcore.HostStopped) {
		t.Errorf("Preload of a host that did not start = %v", err)
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("a host runs twice")
	}
	if !r.Pool("p").Status().Ready {
		t.Error("the first owner was disturbed")
	}
}

// TestEndWhileStarting: ending the host during a start leaves nothing, and the
// preload's waiter is released.
func TestEndWhileStarting(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, "loading")
	op, err := r.Preload(t.Context(), sim("p"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process runs", func() bool { return len(r.processes("p-")) == 1 })
	r.finish()
	if err := op.Wait(t.Context()); !errors.Is(err, poolcore.HostStopped) {
		t.Errorf("Wait = %v, want HOST_STOPPED", err)
	}
	if _, err := r.Preload(t.Context(), sim("q")); !errors.Is(err, poolcore.HostStopped) {
		t.Errorf("Preload after the end = %v", err)
	}
}

func TestExternalPool(t *testing.T) {
	t.Parallel()
	var healthy atomic.Bool
	healthy.Store(true)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(`{"data":[{"id":"their-model"}]}`))
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	r := newRig(t, func(cfg *poolcore.Config) { cfg.StateDir = "" })
	pc := poolcore.PoolConfig{ID: "ext", Engine: "external", Model: "their-model", URL: "http://" + ln.Addr().String(), Slots: 8}
	if err := r.preload(pc); err != nil {
		t.Fatal(err)
	}
	if s := r.Pool("ext").Status(); !s.Ready || s.SlotsTotal != 8 || s.Workers[0].URL != pc.URL {
		t.Errorf("status = %+v", s)
	}
	healthy.Store(false)
	eventually(t, "the pool is not ready", func() bool { return !r.Pool("ext").Status().Ready })
	healthy.Store(true)
	eventually(t, "the pool is ready again", func() bool { return r.Pool("ext").Status().Ready })
}

// TestNodeContract: what the node tells its registry, and what it is told back
// (PCO-40).
func TestNodeContract(t *testing.T) {
	t.Parallel()
	total := uint64(24 << 30)
	devices := gpuinfo.Static(gpuinfo.Snapshot{Devices: []gpuinfo.Device{{
		Index: 0, UUID: "GPU-1", Vendor: "nvidia", Health: gpuinfo.Health{State: gpuinfo.Healthy},
		Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: &total, Free: &total},
	}}})
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = devices })
	if err := r.preload(sim("p")); err != nil {
		t.Fatal(err)
	}
	reg, err := r.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if reg.NodeID != "node-1" || len(reg.Pools) != 1 || len(reg.Capabilities.GPUs) != 1 || *reg.Capabilities.GPUs[0].VRAMTotalBytes != total || reg.Capabilities.CPUCores < 1 || reg.Capabilities.RAMTotalBytes == 0 {
		t.Errorf("registration = %+v", reg.Capabilities)
	}
	if got := reg.Pools[0]; got.VRAMTotalBytes != total || got.ModelsAvailable[0].Ref != "demo" {
		t.Errorf("pool = %+v", got)
	}
	r.Reply(poolregistry.BeatReply{Active: map[poolregistry.PoolID]int{"p": 2, "unknown": 7}})
	eventually(t, "the active count arrives", func() bool { s := r.Pool("p").Status(); return s.ActiveLeases == 2 })
	s := r.Pool("p").Status()
	if s.SlotsFree != 1 || s.Idle || s.Workers[0].Status != "busy" {
		t.Errorf("status = %+v", s)
	}
	r.Reply(poolregistry.BeatReply{})
	eventually(t, "the pool is idle", func() bool { return r.Pool("p").Status().Idle })
	stats := r.Stats()
	if stats.Preloads != 1 || stats.Workers["ready"] != 1 || stats.StartSeconds["simulator"].Count != 1 {
		t.Errorf("stats = %+v", stats)
	}
}

func TestNilPoolAnswers(t *testing.T) {
	h, err := poolcore.New(poolcore.Config{NodeID: "n"})
	if err != nil {
		t.Fatal(err)
	}
	p := h.Pool("nope")
	if err := p.Stop(t.Context(), 0); !errors.Is(err, poolcore.PoolUnknown) {
		t.Errorf("Stop = %v", err)
	}
	if s := p.Status(); s.Ready || s.LastError.Code != string(poolcore.PoolUnknown) || len(slices.Collect(p.Workers())) != 0 || p.ID() != "" {
		t.Errorf("Status = %+v", s)
	}
}

// TestConcurrentSafeHost: many callers at once, one winner per pool, no leak.
func TestConcurrentSafeHost(t *testing.T) {
	before := runtime.NumGoroutine()
	r := newRig(t, nil)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			pc := sim("p" + strconv.Itoa(i%2))
			for range 3 {
				err := r.preload(pc)
				if err != nil && !errors.Is(err, poolcore.PoolBusy) && !errors.Is(err, poolcore.HostStopped) {
					t.Errorf("preload = %v", err)
				}
				_, _ = r.Snapshot(t.Context())
				r.Reply(poolregistry.BeatReply{Active: map[poolregistry.PoolID]int{"p0": i}})
				_ = r.Stats()
				if err := r.Pool(poolregistry.PoolID(pc.ID)).Stop(t.Context(), 0); err != nil {
					t.Errorf("stop = %v", err)
				}
			}
		})
	}
	wg.Wait()
	r.finish()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+2 })
}
