package poolcore_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// fastTiming keeps tests of real processes short.
func fastTiming() poolcore.Timing {
	return poolcore.Timing{
		RestartFirst: 30 * time.Millisecond, RestartMax: 100 * time.Millisecond, ProbeFast: 10 * time.Millisecond,
		ProbeSlow: 20 * time.Millisecond, Health: 50 * time.Millisecond, HealthTimeout: time.Second,
		StopGrace: 500 * time.Millisecond, StopBudget: 10 * time.Second,
	}
}

// rig is a host that runs, with the test binary as its engine.
type rig struct {
	*poolcore.Host
	t      *testing.T
	dir    string
	nudges atomic.Int64
	end    context.CancelFunc
	ended  chan error

	mu     sync.Mutex
	events []poolcore.Event
}

func newRig(t *testing.T, edit func(*poolcore.Config), faults ...string) *rig {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "state"), ended: make(chan error, 1)}
	cfg := poolcore.Config{
		NodeID: "node-1", StateDir: r.dir, Binaries: map[string]string{"simulator": self, "loose": self}, Timing: fastTiming(),
		Engines: []engine.Kind{engine.Simulator{Args: append([]string{stubWord}, faults...)}, newLoose(faults...), engine.LlamaCPP{}, engine.External{}},
		Nudge:   func() { r.nudges.Add(1) },
		Observe: func(e poolcore.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	if r.Host, err = poolcore.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	go func() { r.ended <- r.Run(ctx) }()
	t.Cleanup(func() { r.finish() })
	return r
}

// finish ends the host and looks for what it left: processes and files.
func (r *rig) finish() {
	r.t.Helper()
	if r.end == nil {
		return
	}
	r.end()
	r.end = nil
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("Run = %v", err)
		}
	case <-time.After(20 * time.Second):
		r.t.Fatal("Run does not end")
	}
	r.nothingLeft()
	if names := leftFiles(r.dir); len(names) > 0 {
		r.t.Errorf("files are left in the state directory: %v", names)
	}
}

// leftFiles lists what stays below a state directory but what was learned.
func leftFiles(dir string) []string {
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "fit.json" {
			names = append(names, e.Name())
		}
	}
	return names
}

func (r *rig) nothingLeft() {
	r.t.Helper()
	if pids := processes(""); len(pids) > 0 {
		r.t.Errorf("G2: processes are left: %v", pids)
	}
}

func (r *rig) preload(pc poolcore.PoolConfig) error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	op, err := r.Preload(ctx, pc)
	if err != nil {
		return err
	}
	return op.Wait(ctx)
}

func sim(id string) poolcore.PoolConfig {
	return poolcore.PoolConfig{ID: id, Engine: "simulator", Model: "demo", Slots: 3}
}

func (r *rig) workers(id string) []poolcore.Worker {
	return slices.Collect(r.Pool(poolregistry.PoolID(id)).Workers())
}

// eventually polls a condition that real processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		runtime.Gosched()
	}
}

// processes returns the live processes that carry a worker's mark, of one worker
// or of all that descend from this test run.
func processes(worker string) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		exe, _ := os.Readlink("/proc/" + e.Name() + "/exe")
		if self, _ := os.Executable(); err != nil || exe != self {
			continue
		}
		if bytes.Contains(env, []byte("LLORCH_WORKER_ID="+worker)) {
			pids = append(pids, pid)
		}
	}
	return pids
}
