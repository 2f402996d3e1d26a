package poolcore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

const gib = 1 << 30

// loose is the stub as an engine that outlives its owner, like every real one, and
// that tells in its log what it put on the GPU.
type loose struct{ engine.Simulator }

func newLoose(faults ...string) loose {
	return loose{engine.Simulator{Args: append([]string{stubWord}, faults...)}}
}

func (loose) Name() string { return "loose" }

func (l loose) Command(r engine.Request) (engine.Command, error) {
	c, err := l.Simulator.Command(r)
	c.TieStdin = false
	c.Args = slices.DeleteFunc(c.Args, func(a string) bool { return a == "--exit-with-stdin" })
	return c, err
}

func (loose) Offloaded(line string) (engine.Offload, bool) { return engine.LlamaCPP{}.Offloaded(line) }

func loosePool(id string) poolcore.PoolConfig {
	return poolcore.PoolConfig{ID: id, Engine: "loose", Model: "demo", Slots: 3}
}

// fakeGPUs are devices whose memory is held by files: each names a pid, or "leak"
// for memory that nobody gives back, and holds a device and bytes.
type fakeGPUs struct {
	dir   string
	total uint64 // of each
	n     int
	mute  bool // does not tell which process uses what
}

func newGPUs(t *testing.T, n int, total uint64) *fakeGPUs {
	t.Helper()
	g := &fakeGPUs{dir: t.TempDir(), total: total, n: n}
	g.setTotal(total)
	return g
}

func (g *fakeGPUs) setTotal(total uint64) {
	if err := os.WriteFile(filepath.Join(g.dir, "total"), []byte(strconv.FormatUint(total, 10)), 0o600); err != nil {
		panic(err)
	}
}

// load is the fault word of a stub that takes bytes on a device.
func (g *fakeGPUs) load(device int, bytes uint64) string {
	return fmt.Sprintf("load:%s|%s|%d", g.dir, uuid(device), bytes)
}

func uuid(i int) string { return fmt.Sprintf("GPU-0000000%d-0000-0000-0000-000000000000", i) }

func (g *fakeGPUs) Name() string { return "fake" }

func (g *fakeGPUs) Processes(context.Context) ([]gpuinfo.Process, error) {
	if g.mute {
		return nil, gpuinfo.ErrUnsupported
	}
	return claims(g.dir), nil
}

func (g *fakeGPUs) Snapshot(ctx context.Context) (gpuinfo.Snapshot, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, "total"))
	if err != nil {
		return gpuinfo.Snapshot{}, err
	}
	total, _ := strconv.ParseUint(string(b), 10, 64)
	used := map[string]uint64{}
	for _, p := range claims(g.dir) {
		used[p.UUID] += *p.Used
	}
	var s gpuinfo.Snapshot
	for i := range g.n {
		free := total - min(total, used[uuid(i)])
		s.Devices = append(s.Devices, gpuinfo.Device{
			Index: i, UUID: uuid(i), Name: "Fake", Vendor: "nvidia", Health: gpuinfo.Health{State: gpuinfo.Healthy},
			Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: &total, Free: &free},
		})
	}
	return gpuinfo.Static(s).Snapshot(ctx)
}

// claims lists the memory that live processes and leaks hold.
func claims(dir string) []gpuinfo.Process {
	files, _ := filepath.Glob(filepath.Join(dir, "pid-*"))
	var out []gpuinfo.Process
	for _, f := range files {
		b, err := os.ReadFile(f)
		device, bytes, _ := strings.Cut(string(b), " ")
		used, err2 := strconv.ParseUint(bytes, 10, 64)
		name := strings.TrimPrefix(filepath.Base(f), "pid-")
		leaked := strings.HasSuffix(name, "-leak")
		pid := atoi(strings.TrimSuffix(name, "-leak"))
		if err != nil || err2 != nil || !leaked && !alive(pid) {
			continue
		}
		out = append(out, gpuinfo.Process{PID: pid, UUID: device, Name: "stub", Used: &used})
	}
	return out
}

// alive reports whether a pid is a process that is no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && !strings.HasPrefix(rest, "Z")
}

// loadVRAM is the stub's side: take what is free, or run out of memory.
func loadVRAM(claim string) bool {
	parts := strings.Split(claim, "|")
	dir, device := parts[0], parts[1]
	want, _ := strconv.ParseUint(parts[2], 10, 64)
	b, _ := os.ReadFile(filepath.Join(dir, "total"))
	free, _ := strconv.ParseUint(string(b), 10, 64)
	for _, p := range claims(dir) {
		if p.UUID == device {
			free -= min(free, *p.Used)
		}
	}
	if want > free {
		return false
	}
	name := "pid-" + strconv.Itoa(os.Getpid())
	if len(parts) > 3 { // what it takes stays when it is gone
		name += "-leak"
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(device+" "+parts[2]), 0o600) == nil
}

// tries counts how often a pool's engines were started.
func (r *rig) tries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if e.Kind == "transition" && e.To == "starting" {
			n++
		}
	}
	return n
}

// crashes lists the classes of crashes in order.
func (r *rig) crashes() []string { return r.crashesOf("") }

// crashesOf lists those of one pool; "": all.
func (r *rig) crashesOf(pool string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		if e.Kind == "crash" && (pool == "" || string(e.Pool) == pool) {
			out = append(out, e.Class)
		}
	}
	return out
}

func kill9(pids ...int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}
