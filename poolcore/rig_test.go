package poolcore_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
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

// rigs counts the hosts of this test run.
var rigs atomic.Int32

// portsOf are ports that no other host of the tests uses: below those that the
// kernel gives away, by process and by number.
func portsOf(n int) poolcore.PortRange {
	first := uint16(20000 + os.Getpid()%50*200 + n%10*20)
	return poolcore.PortRange{First: first, Last: first + 19}
}

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
	cfg.Ports = portsOf(int(rigs.Add(1)))
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
	if pids := r.processes(""); len(pids) > 0 {
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
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-time.After(3 * time.Millisecond) // the processors are for the engines
	}
}

// processes returns the live processes of the rig that carry a worker's mark; "": all.
func (r *rig) processes(worker string) []int { return processesIn(r.dir, worker) }

// processesIn returns those of a state directory.
func processesIn(dir, worker string) []int {
	self, _ := os.Executable()
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if exe, _ := os.Readlink("/proc/" + e.Name() + "/exe"); exe != self {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(env, []byte("HOME="+dir+"/")) && bytes.Contains(env, []byte("LLORCH_WORKER_ID="+worker)) {
			pids = append(pids, pid)
		}
	}
	return pids
}
