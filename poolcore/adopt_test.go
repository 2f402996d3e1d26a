package poolcore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

// leave runs an owner with a pool of the loose kind until it is ready, kills it,
// and returns the engine's pid and its record.
func leave(t *testing.T, dir string) (pid int, record string) {
	t.Helper()
	cmd := startOwner(t, dir, "loose")
	pids := processesIn(dir, "owned-")
	if len(pids) != 1 {
		t.Fatalf("processes: %v", pids)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	t.Cleanup(func() { _ = kill9(processesIn(dir, "owned-")...) })
	records, _ := filepath.Glob(filepath.Join(dir, "workers", "*.json"))
	if len(records) != 1 {
		t.Fatalf("records: %v", records)
	}
	return pids[0], records[0]
}

func takeOver(t *testing.T, dir string, edit func(*poolcore.Config), faults ...string) *rig {
	t.Helper()
	r := newRig(t, func(cfg *poolcore.Config) {
		cfg.StateDir = dir
		if edit != nil {
			edit(cfg)
		}
	}, faults...)
	r.dir = dir
	return r
}

// TestKilledOwnerIsSucceeded (G8, PCO-25…PCO-28): kill -9 of the program leaves its
// engines alone, and the next run takes them over without a restart; stopped by
// that, nothing is left.
func TestKilledOwnerIsSucceeded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	pid, record := leave(t, dir)
	if info, err := os.Stat(record); err != nil || info.Mode() != 0o600 {
		t.Errorf("record: %v, %v", info, err)
	}
	begin := time.Now()
	r := takeOver(t, dir, nil)
	eventually(t, "the engine is taken over", func() bool {
		p := r.Pool("owned")
		return p != nil && p.Status().Ready
	})
	t.Logf("taken over in %v", time.Since(begin))
	ws := r.workers("owned")
	if len(ws) != 1 || !strings.HasPrefix(filepath.Base(record), string(ws[0].ID)) || r.Pool("owned").Status().Restarts != 0 || !alive(pid) {
		t.Fatalf("workers = %+v", ws)
	}
	req, _ := http.NewRequest(http.MethodGet, ws[0].URL+"/v1/models", http.NoBody)
	req.Header.Set("Authorization", "Bearer "+ws[0].Token)
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("the key of the record does not open the engine: %v", err)
	} else {
		_ = res.Body.Close()
	}
	if err := kill9(pid); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	eventually(t, "the crash of an adopted engine is seen", func() bool { return !r.Pool("owned").Status().Ready })
	t.Logf("crash of an adopted engine to not ready: %v", time.Since(killed))
	eventually(t, "a new worker is ready", func() bool { return r.Pool("owned").Status().Ready })
	if got := r.crashes(); !slices.Equal(got, []string{engine.ClassUnknownExit}) {
		t.Errorf("PCO-28: crashes = %v", got)
	}
}

// TestPidReuseNeverSignalled (G3, PCO-27): a record whose pid belongs to somebody
// else, or of which something is missing, is dropped and nobody is signalled by it;
// the engine itself is found by what it carries.
func TestPidReuseNeverSignalled(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command(self, "sleeper")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stranger.Process.Kill(), stranger.Wait() })
	for name, edit := range map[string]func(process map[string]any){
		"pid":        func(p map[string]any) { p["pid"] = stranger.Process.Pid },
		"start time": func(p map[string]any) { p["pid"] = stranger.Process.Pid; delete(p, "start_ticks") },
		"boot id":    func(p map[string]any) { p["pid"] = stranger.Process.Pid; p["boot_id"] = "another" },
		"program":    func(p map[string]any) { delete(p, "exe_ino") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			pid, file := leave(t, dir)
			var record map[string]any
			b, err := os.ReadFile(file)
			if err != nil || json.Unmarshal(b, &record) != nil {
				t.Fatal(err)
			}
			process := record["process"].(map[string]any)
			process["pid"] = float64(pid)
			edit(process)
			b, _ = json.Marshal(record)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			r := takeOver(t, dir, nil)
			eventually(t, "the engine is ended", func() bool { return !alive(pid) })
			if !alive(stranger.Process.Pid) {
				t.Fatal("G3: a stranger was signalled")
			}
			r.finish()
			if !alive(stranger.Process.Pid) {
				t.Fatal("G3: a stranger was signalled")
			}
		})
	}
}

// TestOrphansAreStopped (PCO-27): with KillOrphans, without a record, with one in
// intent, with a damaged one, and of a configuration that is not allowed any more.
func TestOrphansAreStopped(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(cfg *poolcore.Config)
		file func(path string) error
	}{
		"kill orphans": {func(cfg *poolcore.Config) { cfg.KillOrphans = true }, nil},
		"no record":    {nil, os.Remove},
		"damaged":      {nil, func(p string) error { return os.WriteFile(p, []byte("{"), 0o600) }},
		"intent": {nil, func(p string) error {
			b, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p, bytes.Replace(b, []byte(`"running"`), []byte(`"intent"`), 1), 0o600))
		}},
		"another configuration": {nil, func(p string) error {
			b, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p, bytes.Replace(b, []byte(`"slots":1`), []byte(`"slots":2`), 1), 0o600))
		}},
		"kind is gone": {func(cfg *poolcore.Config) { cfg.Engines = []engine.Kind{engine.External{}} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			pid, record := leave(t, dir)
			if c.file != nil {
				if err := c.file(record); err != nil {
					t.Fatal(err)
				}
			}
			foreign := filepath.Join(dir, "handoff", "theirs-r0.json")
			theirs := `{"pool_id":"theirs","replica_id":"r0","engine":"external","engine_version":"","url":"http://127.0.0.1:9"}`
			if err := os.WriteFile(foreign, []byte(theirs), 0o600); err != nil {
				t.Fatal(err)
			}
			r := takeOver(t, dir, c.edit)
			eventually(t, "the engine is ended", func() bool { return !alive(pid) })
			eventually(t, "its handoff file is gone", func() bool {
				files, _ := filepath.Glob(filepath.Join(dir, "handoff", "owned-*"))
				return len(files) == 0
			})
			if err := os.Remove(foreign); err != nil {
				t.Errorf("somebody else's handoff file: %v", err)
			}
			r.finish()
		})
	}
}

// TestLeaveRunning (PCO-25, G8): an orderly end leaves the engines to the next run.
func TestLeaveRunning(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	r := takeOver(t, dir, func(cfg *poolcore.Config) { cfg.LeaveRunning = true })
	if err := r.preload(loosePool("p")); err != nil {
		t.Fatal(err)
	}
	w := r.workers("p")[0]
	r.end()
	r.end = nil
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	if len(r.processes(string(w.ID))) != 1 {
		t.Fatal("the engine was ended")
	}
	next := takeOver(t, dir, nil)
	eventually(t, "it is taken over", func() bool {
		p := next.Pool("p")
		return p != nil && p.Status().Ready && next.workers("p")[0].ID == w.ID
	})
	next.finish()
}

// TestForeignServerOnPort (G4, PCO-29, PCO-32): another program that answers on the
// worker's port, with the worker's own name even, is not the worker, and does not
// get its key.
func TestForeignServerOnPort(t *testing.T) {
	t.Parallel()
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := probe.Addr().(*net.TCPAddr).Port
	_ = probe.Close()
	r := newRig(t, nil, "mute")
	pc := sim("p")
	pc.Port = port
	op, err := r.Preload(t.Context(), pc)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine runs", func() bool { return len(r.processes("p-")) == 1 })
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	var keys atomic.Int64
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "" {
			keys.Add(1)
		}
		id := ""
		if ws := r.workers("p"); len(ws) == 1 {
			id = string(ws[0].ID)
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"`+id+`"}],"total_slots":1}`)
	})}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	crash, ok := errors.AsType[*poolcore.CrashError](op.Wait(t.Context()))
	if !ok || crash.Class != engine.ClassIdentity || keys.Load() != 0 {
		t.Errorf("Wait = %v, the stranger got the key %d times", crash, keys.Load())
	}
}

// TestOrphansEndTogether (PCO-27): engines that take their time to go do not hold
// the next run up one after the other. LLORCH_NIGHTLY=1.
func TestOrphansEndTogether(t *testing.T) {
	if os.Getenv("LLORCH_NIGHTLY") == "" {
		t.Skip("takes seconds: with LLORCH_NIGHTLY=1")
	}
	dir := filepath.Join(t.TempDir(), "state")
	r := takeOver(t, dir, func(cfg *poolcore.Config) { cfg.LeaveRunning = true }, "ignore-term")
	const n = 6
	for i := range n {
		if err := r.preload(loosePool("p" + strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	r.end()
	r.end = nil
	if err := <-r.ended; err != nil || len(r.processes("")) != n {
		t.Fatalf("%v, %d engines", err, len(r.processes("")))
	}
	const grace = 2 * time.Second
	begin := time.Now()
	next := takeOver(t, dir, func(cfg *poolcore.Config) { cfg.KillOrphans, cfg.Timing.StopGrace = true, grace })
	eventually(t, "all are ended", func() bool { return len(next.processes("")) == 0 })
	if took := time.Since(begin); took > n*grace/2 {
		t.Errorf("%d engines took %v with %v of grace each", n, took, grace)
	}
	next.finish()
}

// TestStoppedEngineIsEnded: SIGSTOP does not keep an engine from being stopped.
func TestStoppedEngineIsEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.preload(loosePool("p")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.processes("p-")[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := r.Pool("p").Stop(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	r.nothingLeft()
}
