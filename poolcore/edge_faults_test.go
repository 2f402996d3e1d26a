package poolcore

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolcore/internal/fit"
	"github.com/llorch/llorch/poolcore/internal/proc"
	"github.com/llorch/llorch/poolregistry"
)

// TestStrangerWithMembersPid (G3, PCO-12, PCO-24): a pid that was a member's and is
// a stranger's now violates no mask and holds no memory of the worker.
func TestStrangerWithMembersPid(t *testing.T) {
	gpus := newTold()
	c := edgeCrew(t, func(cfg *Config) { cfg.Devices = gpus })
	w := asleep(t, c)
	us := os.Getpid()
	began, ok := proc.StartTicks(us)
	if !ok {
		t.Skip("SKIPPED LOUDLY: no start time of a process here")
	}
	w.members.gpu = true
	for ticks, want := range map[uint64]bool{began - 1: true, began: false} {
		w.members.pids = map[int]uint64{us: ticks}
		gpus.tell(us, "GPU-00000002-0000-0000-0000-000000000000", 1)
		if _, ok := c.measure(w); w.fault.Load() != nil {
			t.Errorf("a stranger's device is held against the worker (%v)", ok)
		}
		gpus.tell(us, theUUID, 1)
		if holders, back := c.returned(w); back != want {
			t.Errorf("the process began at %d, seen at %d: returned = %v%s", began, ticks, back, holders)
		}
	}
	gpus.tell(w.proc.PID(), "GPU-00000002-0000-0000-0000-000000000000", 1)
	if _, ok := c.measure(w); w.fault.Load() == nil {
		t.Errorf("a member on another device is not seen (%v)", ok)
	}
}

// TestOneLookIsNoVerdict (PCO-29): a socket outlives the member that held it by a
// moment, so one look at somebody else's socket is no answer; the second is a
// verdict. No key is sent meanwhile.
func TestOneLookIsNoVerdict(t *testing.T) {
	c := edgeCrew(t, func(cfg *Config) { cfg.Devices = newTold() })
	w := asleep(t, c)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w.port = uint16(ln.Addr().(*net.TCPAddr).Port)
	w.cfg.Port = int(w.port)
	var first, second probe
	if c.ownsPort(w, &first) || first.foreign || !first.failed {
		t.Errorf("first look: %+v", first)
	}
	if c.ownsPort(w, &second) || !second.foreign {
		t.Errorf("second look: %+v", second)
	}
}

// TestMemoryIsProgress (PCO-30): an engine that only takes memory of its device
// makes progress; one that takes no more makes none.
func TestMemoryIsProgress(t *testing.T) {
	gpus := newTold()
	c := edgeCrew(t, func(cfg *Config) { cfg.Devices, cfg.Timing.Stall = gpus, time.Millisecond })
	w := asleep(t, c)
	gpus.tell(w.proc.PID(), theUUID, 1<<30)
	grew := func() bool { w.looked.Store(0); return c.grew(t.Context(), w, nil) }
	for range 3 { // until log, bytes read and memory were all seen
		grew()
	}
	if grew() {
		t.Error("nothing happened, and that is progress")
	}
	gpus.tell(w.proc.PID(), theUUID, 2<<30)
	if !grew() {
		t.Error("memory that was taken is no progress")
	}
	gpus.tell(w.proc.PID(), theUUID, 3<<30)
	w.served.Store(true)
	if grew() {
		t.Error("the driver is asked about a worker that serves")
	}
}

// TestFailedRecordGivesEverythingBack (PCO-6, PCO-17): a start that fails after the
// process runs leaves neither the process nor a promise.
func TestFailedRecordGivesEverythingBack(t *testing.T) {
	c := edgeCrew(t, func(cfg *Config) { cfg.Devices = newTold() })
	pid := 0
	c.mark = func(point string) {
		if point != "spawn/started" {
			return
		}
		records, _ := filepath.Glob(filepath.Join(c.cfg.StateDir, workersDir, "*.json"))
		if len(records) != 1 || os.Remove(records[0]) != nil || os.Mkdir(records[0], 0o700) != nil {
			t.Errorf("records: %v", records)
		}
		pid = 1
	}
	pc, kind, err := c.cfg.checkPool(PoolConfig{ID: "p", Engine: "simulator", Model: "m", VRAMDeclared: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	c.memory.lister = nil
	w, f := c.spawn(t.Context(), pc, kind, 0, 1)
	if w != nil || f == nil || f.code != WorkerStartFailed || pid == 0 {
		t.Fatalf("spawn = %v, %+v", w, f)
	}
	c.beside.Wait() // memory that is watched to come back
	if left := c.memory.ledger.Workers(); len(left) != 0 || len(c.ports.taken) != 0 {
		t.Errorf("left: %v, %v", left, c.ports.taken)
	}
	if names, err := c.files.names(workersDir); err != nil || len(names) != 0 {
		t.Errorf("files: %v, %v", names, err)
	}
	if n := proc.KillInstance(c.instance, nil, func(string) bool { return false }); n != 0 {
		t.Errorf("G2: %d processes are left", n)
	}
}

// TestAdoptedPromise (PCO-17, PCO-27): an adopted worker keeps what it was promised:
// the shares of its split, or memory of the host.
func TestAdoptedPromise(t *testing.T) {
	p := plan{need: fit.Need{Bytes: 100}, units: []gpuinfo.Unit{{UUID: "a"}, {UUID: "b"}}}
	for _, c := range []struct {
		split []float64
		want  [2]uint64
	}{{[]float64{0.9, 0.1}, [2]uint64{90, 10}}, {nil, [2]uint64{50, 50}}} {
		got := p.shares(PoolConfig{TensorSplit: c.split})
		if len(got) != 2 || got[0].Bytes != c.want[0] || got[1].Bytes != c.want[1] {
			t.Errorf("split %v: %+v", c.split, got)
		}
	}
	if ramTotal() == 0 {
		t.Skip("SKIPPED LOUDLY: the memory of the host is not told here")
	}
	crew := edgeCrew(t, func(*Config) {})
	w := &worker{id: "p-r0-x", cfg: PoolConfig{ID: "p"}, plan: plan{cpu: true, need: fit.Need{Bytes: 7}}}
	r := crew.record(w, stateRunning)
	if err := errors.Join(crew.files.root.MkdirAll(workersDir+"/p-r0-x", 0o700), crew.files.write(workersDir+"/p-r0-x/engine.log", nil)); err != nil {
		t.Fatal(err)
	}
	again := crew.revive(t.Context(), r, w.cfg, nil, nil)
	if again == nil {
		t.Fatal("not revived")
	}
	defer func() { _, _ = again.tail.close(), again.dir.Close() }()
	if got := again.plan.shares(w.cfg); len(got) != 1 || got[0].Device.ID != fit.Host || got[0].Bytes != 7 {
		t.Errorf("promised of the host: %+v", got)
	}
}

// TestHungDriver (PCO-9): a driver that does not answer holds a start up for a
// bounded time.
func TestHungDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		m := newMemory(Config{Devices: hung{newTold(), hang}})
		begin := time.Now()
		if _, err := m.snapshot(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != gpuWait {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

type hung struct {
	gpuinfo.Provider
	until chan struct{}
}

func (h hung) Snapshot(context.Context) (gpuinfo.Snapshot, error) {
	<-h.until
	return gpuinfo.Snapshot{}, nil
}

// TestModelPathIsWhatItSeems (PCO-8): a FIFO, a device, a directory or a link to one
// is not a model's file, and nobody waits for it; a directory's weights count.
func TestModelPathIsWhatItSeems(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	weights := path("weights")
	if err := errors.Join(
		syscall.Mkfifo(path("fifo"), 0o600), os.Symlink(path("fifo"), path("link")), os.Symlink(path("loop"), path("loop")),
		os.Mkdir(weights, 0o700), os.WriteFile(filepath.Join(weights, "a.safetensors"), make([]byte, 1000), 0o600),
		os.WriteFile(filepath.Join(weights, "b.safetensors"), make([]byte, 500), 0o600), os.WriteFile(filepath.Join(weights, "notes.txt"), make([]byte, 99), 0o600),
		syscall.Mkfifo(filepath.Join(weights, "c.safetensors"), 0o600), os.WriteFile(path("m.gguf"), []byte("GGUF"), 0o600), os.Mkdir(path("empty"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	c := edgeCrew(t, func(*Config) {})
	for name, x := range map[string]struct {
		profile engine.Profile
		ok      bool
		bytes   int64
	}{
		"fifo": {}, "link": {}, "loop": {}, "missing": {}, "weights": {}, "m.gguf/": {},
		"m.gguf":   {ok: true, bytes: 4},
		"weights/": {profile: engine.Profile{ModelDir: true}, ok: true, bytes: 1500},
		"fifo/":    {profile: engine.Profile{ModelDir: true}},
		"empty":    {profile: engine.Profile{ModelDir: true}},
	} {
		p := plan{path: dir + "/" + name}
		c.checkModelPath(&p, x.profile)
		if ok := len(p.faults) == 0; ok != x.ok || p.shape.TensorBytes != x.bytes || !ok && (p.faults[0].Code != ModelMissing || strings.Contains(p.faults[0].Detail, dir)) {
			t.Errorf("%s: %+v, %d bytes", name, p.faults, p.shape.TensorBytes)
		}
	}
	p := plan{path: "/dev/zero"}
	if c.checkModelPath(&p, engine.Profile{}); len(p.faults) != 1 {
		t.Errorf("/dev/zero: %+v", p.faults)
	}
}

// TestFloodedLogIsBounded (PCO-21): however fast an engine writes, its log is
// emptied at the next look; the end of it is what is kept.
func TestFloodedLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	flood := append([]byte(strings.Repeat("flood\n", 5<<20)), "the last line\n"...)
	if err := os.WriteFile(filepath.Join(dir, "log"), flood, 0o600); err != nil {
		t.Fatal(err)
	}
	const limit = 1 << 20
	tail, err := openLogTail(root, "log", limit, "")
	if err != nil {
		t.Fatal(err)
	}
	defer tail.close()
	if err := tail.look(); err != nil {
		t.Fatal(err)
	}
	var left int64
	for _, name := range []string{"log", "log.1", "log.2"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			left += info.Size()
		}
	}
	lines := tail.tail(keptLines)
	if left > limit || len(lines) != keptLines || lines[len(lines)-1] != "the last line" || tail.bytes() != int64(len(flood)) {
		t.Errorf("%d bytes on disk, %d lines, last %q, %d of %d bytes", left, len(lines), lines[len(lines)-1], tail.bytes(), len(flood))
	}
	if err := os.WriteFile(filepath.Join(dir, "log"), []byte("after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = tail.look()
	if err := errors.Join(os.Truncate(filepath.Join(dir, "log"), 0), os.WriteFile(filepath.Join(dir, "log"), []byte("x\n"), 0o600), tail.look()); err != nil {
		t.Fatal(err)
	}
	if lines := tail.tail(2); lines[0] != "after" || lines[1] != "x" {
		t.Errorf("after the engine emptied its log: %q", lines)
	}
}

// TestStateDirIsPrivate (PCO-26): a directory in which others write is refused: they
// could plant records and read keys.
func TestStateDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for mode, ok := range map[os.FileMode]bool{0o777: false, 0o720: false, 0o702: false, 0o700: true, 0o755: true} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		_, release, err := openCrew(Config{NodeID: "n", StateDir: dir}.withDefaults())
		if (err == nil) != ok {
			t.Errorf("mode %o: %v", mode, err)
		}
		if err == nil {
			release()
		}
	}
}

// TestPurgeLeavesWritersAlone (PCO-48): a purge removes what a crash left half
// written, not what another pool is writing now.
func TestPurgeLeavesWritersAlone(t *testing.T) {
	c := edgeCrew(t, func(*Config) {})
	dir := filepath.Join(c.cfg.StateDir, reloadDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(dir, ".tmp-0000000000000000"), filepath.Join(dir, ".tmp-0000000000000001")
	past := time.Now().Add(-2 * tempAge)
	if err := errors.Join(os.WriteFile(old, nil, 0o600), os.WriteFile(young, nil, 0o600), os.Chtimes(old, past, past), c.purgeCaches()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("what a crash left is still there")
	}
	if err := os.Remove(young); err != nil {
		t.Errorf("a file under way was removed: %v", err)
	}
}

// TestLyingHandoffFiles (PCO-27): the file of an engine that is gone is removed even
// when its pid is somebody else's now; files of others and of engines that live stay.
func TestLyingHandoffFiles(t *testing.T) {
	c := edgeCrew(t, func(*Config) {})
	self, _ := os.Executable()
	stranger := exec.Command(self, "sleeper")
	tagged := exec.Command(self, "sleeper")
	tagged.Env = []string{proc.TagEnv + "=c-r0-tagged"}
	for _, cmd := range []*exec.Cmd{stranger, tagged} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	}
	kind := engine.Simulator{}
	for id, pid := range map[poolregistry.WorkerID]int{"a-r0-gone": stranger.Process.Pid, "b-r0-kept": stranger.Process.Pid, "c-r0-tagged": tagged.Process.Pid} {
		w := &worker{id: id, url: "http://127.0.0.1:1", kind: kind}
		c.announce(w, PoolConfig{ID: string(id[:1]), Engine: "simulator", Slots: 1}, true)
		file := filepath.Join(c.cfg.HandoffDir, string(id[:1])+"-r0.json")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(b), `"slots_total"`, `"pid":`+strconv.Itoa(pid)+`,"slots_total"`, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(c.cfg.HandoffDir, "d-r0.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	half, past := filepath.Join(c.cfg.HandoffDir, ".tmp-0000000000000000"), time.Now().Add(-2*tempAge)
	if err := errors.Join(os.WriteFile(half, nil, 0o600), os.Chtimes(half, past, past)); err != nil {
		t.Fatal(err)
	}
	// The tag shows once the process is past its exec.
	for begin := time.Now(); !proc.Tagged(tagged.Process.Pid, "c-r0-tagged"); {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the process shows no tag")
		}
	}
	c.clearHandoff(map[string]bool{"b-r0-kept": true})
	names, err := namesIn(c.files.root, "handoff")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(names); got != 3 || strings.Contains(strings.Join(names, " "), "a-r0") {
		t.Errorf("left: %v", names)
	}
	if err := os.RemoveAll(c.cfg.HandoffDir); err != nil {
		t.Fatal(err)
	}
}
