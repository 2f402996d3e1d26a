package poolcore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

const killAt = "LLORCH_TEST_KILL_AT" // number of the mark at which a script kills itself

// script is a program that preloads, reloads, fails to reload, drains, undrains and
// stops one pool, and says at which marks it came by. With killAt it ends there as
// if by kill -9.
func script(dir string) int {
	at, _ := strconv.Atoi(os.Getenv(killAt))
	var mu sync.Mutex
	n := 0
	self, err := os.Executable()
	if err != nil {
		return 1
	}
	h, err := poolcore.New(poolcore.Config{
		NodeID: "script", StateDir: dir, Ports: portsOf(0), Binaries: map[string]string{"loose": self}, Timing: fastTiming(),
		Engines: []engine.Kind{newLoose("bad-ctx:2997")},
	})
	if err != nil {
		return 1
	}
	poolcore.SetMark(h, func(point string) {
		mu.Lock()
		defer mu.Unlock()
		n++
		fmt.Println("mark", point)
		if n == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	running := make(chan error, 1)
	loop, end := context.WithCancel(ctx)
	defer end()
	go func() { running <- h.Run(loop) }()
	for i, step := range []func() error{
		func() error { return wait(ctx)(h.Preload(ctx, loosePool("k"))) },
		func() error { return wait(ctx)(h.Pool("k").Reload(ctx, poolcore.ReloadRequest{Ctx: 1000})) },
		func() error {
			return wait(ctx)(h.Pool("k").Reload(ctx, poolcore.ReloadRequest{Ctx: 2000, Strategy: "in_place"}))
		},
		func() error {
			err := wait(ctx)(h.Pool("k").Reload(ctx, poolcore.ReloadRequest{Ctx: 999, Strategy: "in_place"}))
			if !errors.Is(err, poolcore.ReloadRolledBack) {
				return fmt.Errorf("a reload that can not work: %w", err)
			}
			return nil
		},
		func() error { _, err := h.Pool("k").Drain(ctx, 0); return err },
		func() error { return h.Pool("k").Undrain() },
		func() error { return h.Pool("k").Stop(ctx, 0) },
	} {
		if err := step(); err != nil {
			fmt.Println("step", i, err)
			return 1
		}
		fmt.Println("done", i)
	}
	end()
	if err := <-running; err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func wait(ctx context.Context) func(*poolcore.Operation, error) error {
	return func(op *poolcore.Operation, err error) error {
		if err != nil {
			return err
		}
		return op.Wait(ctx)
	}
}

// runScript runs a script and returns the marks it came by, and how many of its
// steps were done.
func runScript(t *testing.T, dir string, at int) (marks []string, steps int, killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "script", dir)
	cmd.Env = append(os.Environ(), killAt+"="+strconv.Itoa(at))
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		if m, ok := strings.CutPrefix(line, "mark "); ok {
			marks = append(marks, strings.TrimSpace(m))
		}
		if strings.HasPrefix(line, "done ") {
			steps++
		}
	}
	if err != nil && at == 0 {
		t.Fatalf("the script fails: %v\n%s", err, out)
	}
	if err != nil && cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the script fails: %v\n%s", err, out)
	}
	return marks, steps, err != nil
}

// TestKilledAnywhere (G2, G6, G8, PCO-47): whenever the program is killed, the next
// run ends with at most one engine, which is the one that it shows, ready with one
// of the configurations; and when that run ends nothing is left.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	marks, _, _ := runScript(t, dir, 0)
	if pids := processesIn(dir, ""); len(pids) > 0 || len(marks) < 40 {
		t.Fatalf("%d marks, processes %v", len(marks), pids)
	}
	for _, want := range []string{"spawn/intent", "spawn/started", "probe/ready", "stop/recorded", "journal/done", "ended/clean", "announce/done"} {
		if !slices.Contains(marks, want) {
			t.Errorf("the script does not come by %s", want)
		}
	}
	points := make([]int, 0, len(marks))
	for i := range marks {
		points = append(points, i+1)
	}
	if os.Getenv("LLORCH_NIGHTLY") == "" {
		points = points[:0]
		for i := range 8 {
			points = append(points, 2+i*(len(marks)-2)/8)
		}
	}
	for _, at := range points {
		t.Run(strconv.Itoa(at)+"/"+marks[at-1], func(t *testing.T) { t.Parallel(); killedAt(t, at) })
	}
}

func killedAt(t *testing.T, at int) {
	dir := filepath.Join(t.TempDir(), "state")
	t.Cleanup(func() { _ = kill9(processesIn(dir, "")...) })
	marks, steps, killed := runScript(t, dir, at)
	if !killed {
		t.Fatalf("the script ends after %d marks", len(marks))
	}
	r := takeOver(t, dir, nil, "bad-ctx:2997")
	reloading := steps >= 1 && steps <= 3 // it was ready, and nobody has asked it to stop
	var settled []int
	eventually(t, "one engine at most, and the pool shows it", func() bool {
		settled = r.processes("k-")
		p := r.Pool("k")
		if p == nil {
			return len(settled) == 0 && !reloading
		}
		ws := slices.Collect(p.Workers())
		if s := p.Status(); s.Ready {
			return len(settled) == 1 && len(ws) == 1 && len(r.processes(string(ws[0].ID))) == 1
		} else if s.State == "offline" {
			return len(settled) == 0 && !reloading
		}
		return false
	})
	eventually(t, "the reload is completed", func() bool {
		entries, _ := os.ReadDir(filepath.Join(dir, "reload"))
		return len(entries) == 0
	})
	r.finish()
}

// TestReloadRollsBackProcess (PCO-46): a new configuration that does not start
// leaves an engine of the old one that really serves.
func TestReloadRollsBackProcess(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"alongside", "in_place"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, "bad-ctx:2997")
			if err := r.preload(loosePool("p")); err != nil {
				t.Fatal(err)
			}
			old := r.workers("p")[0]
			err := wait(t.Context())(r.Pool("p").Reload(t.Context(), poolcore.ReloadRequest{Ctx: 999, Strategy: strategy}))
			if !errors.Is(err, poolcore.ReloadRolledBack) {
				t.Fatalf("Reload = %v", err)
			}
			ws := r.workers("p")
			if !r.Pool("p").Status().Ready || len(ws) != 1 || len(r.processes("p-")) != 1 || len(r.processes(string(ws[0].ID))) != 1 {
				t.Errorf("after the roll-back: %+v, processes %v", ws, r.processes("p-"))
			}
			if same := ws[0].ID == old.ID; same != (strategy == "alongside") {
				t.Errorf("%s: the old worker serves still: %v", strategy, same)
			}
			if err := wait(t.Context())(r.Pool("p").Reload(t.Context(), poolcore.ReloadRequest{Ctx: 1000, Strategy: strategy})); err != nil {
				t.Errorf("a reload that works: %v", err)
			}
			eventually(t, "only the new engine is left", func() bool {
				ws := r.workers("p")
				return len(ws) == 1 && ws[0].ID != old.ID && len(r.processes("p-")) == 1
			})
			entries, _ := os.ReadDir(filepath.Join(r.dir, "reload"))
			if len(entries) > 0 {
				t.Errorf("a journal is left: %v", entries)
			}
		})
	}
}

// TestTwentyCycles: starting and stopping leaks no process, zombie, descriptor,
// goroutine, port or promise.
func TestTwentyCycles(t *testing.T) {
	gpus := newGPUs(t, 1, 10*gib)
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus }, gpus.load(0, gib))
	pc := loosePool("p")
	pc.VRAMDeclared = gib
	cycle := func() {
		if err := r.preload(pc); err != nil {
			t.Fatal(err)
		}
		if err := r.Pool("p").Stop(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	cycle()
	before, routines := openFiles(t), runtime.NumGoroutine()
	n := 20
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		n = 1000
	}
	for range n {
		cycle()
	}
	eventually(t, "no promise is left", func() bool { workers, _ := poolcore.Ledger(r.Host, uuid(0)); return len(workers) == 0 })
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= routines+4 })
	if after := openFiles(t); after > before+4 {
		t.Errorf("%d descriptors became %d", before, after)
	}
	if got := poolcore.TakenPorts(r.Host); got != 0 {
		t.Errorf("%d ports are taken", got)
	}
	if got := claims(gpus.dir); len(got) != 0 {
		t.Errorf("memory is held: %v", got)
	}
	r.nothingLeft()
	for _, d := range zombieChildren() {
		t.Errorf("zombie %d", d)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func zombieChildren() []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var out []int
	for _, f := range stats {
		b, _ := os.ReadFile(f)
		_, rest, ok := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		if ok && len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(os.Getpid()) {
			out = append(out, atoi(filepath.Base(filepath.Dir(f))))
		}
	}
	return out
}
