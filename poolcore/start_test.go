package poolcore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

// TestStartFailures: each fault of a start is a typed error, and nothing of it
// stays (PCO-6, PCO-29, PCO-33).
func TestStartFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		faults []string
		class  string
		code   poolcore.Code
	}{
		{"exit", []string{"exit:3"}, engine.ClassUnknown, poolcore.WorkerStartFailed},
		{"usage", []string{"exit:2", "say:usage"}, engine.ClassUnknown, poolcore.WorkerStartFailed},
		{"cuda", []string{"exit:1", "say:cudaMalloc failed"}, engine.ClassOOMVRAM, poolcore.WorkerStartFailed},
		{"wrong alias", []string{"wrong-alias"}, engine.ClassIdentity, poolcore.WorkerStartFailed},
		{"never listens", []string{"mute"}, engine.ClassStartTimeout, poolcore.WorkerStartTimeout},
		{"loading for ever", []string{"loading"}, engine.ClassStartTimeout, poolcore.WorkerStartTimeout},
		{"never listens, ignores SIGTERM, grandchild", []string{"mute", "ignore-term", "grandchild-setsid"}, engine.ClassStartTimeout, poolcore.WorkerStartTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *poolcore.Config) {
				if c.class == engine.ClassStartTimeout {
					cfg.Timing.Stall = 300 * time.Millisecond
				}
			}, c.faults...)
			err := r.preload(sim("p"))
			crash, ok := errors.AsType[*poolcore.CrashError](err)
			if !ok || crash.Class != c.class || !errors.Is(err, c.code) {
				t.Fatalf("err = %v, want class %s, code %s", err, c.class, c.code)
			}
			r.nothingLeft()
			status := r.Pool("p").Status()
			if status.Ready || status.Live || status.State != "failed" || status.LastError == nil || status.LastError.Code != string(c.code) {
				t.Errorf("status = %+v", status)
			}
			if entries, _ := os.ReadDir(filepath.Join(r.dir, "workers")); len(entries) > 0 {
				t.Errorf("files are left: %v", entries)
			}
		})
	}
}

// TestStopWithForkedGrandchild: whoever is in the group or carries the mark goes,
// also when it ignores SIGTERM and holds our log (PCO-21…PCO-23).
func TestStopWithForkedGrandchild(t *testing.T) {
	t.Parallel()
	for _, faults := range [][]string{{"grandchild"}, {"grandchild-setsid"}, {"ignore-term"}, {"ignore-term", "grandchild", "grandchild-setsid"}} {
		t.Run(strings.Join(faults, "+"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, faults...)
			if err := r.preload(sim("p")); err != nil {
				t.Fatal(err)
			}
			want := 1
			for _, f := range faults {
				if strings.HasPrefix(f, "grandchild") {
					want++
				}
			}
			eventually(t, "all processes run", func() bool { return len(r.processes("p-")) == want })
			start := time.Now()
			if err := r.Pool("p").Stop(t.Context(), 200*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			t.Logf("stopped in %v", time.Since(start))
			r.nothingLeft()
		})
	}
}

// TestCrashedLeaderLeavesNoWorkers: the leader is killed, its children go too.
func TestCrashedLeaderLeavesNoWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, "grandchild", "grandchild-setsid")
	if err := r.preload(sim("p")); err != nil {
		t.Fatal(err)
	}
	old := r.workers("p")[0]
	pids := r.processes(string(old.ID))
	if len(pids) != 3 {
		t.Fatalf("processes: %v", pids)
	}
	if err := syscall.Kill(slices.Min(pids), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old processes are gone", func() bool { return len(r.processes(string(old.ID))) == 0 })
	eventually(t, "a new worker is ready", func() bool { ws := r.workers("p"); return len(ws) == 1 && ws[0].Status == "ready" })
}

// TestWhatAnEngineInherits (PCO-20, PCO-32): no secret of ours, no key in the
// arguments, a private directory.
func TestWhatAnEngineInherits(t *testing.T) {
	t.Setenv("LLORCH_API_TOKEN", "top-secret")
	dump := filepath.Join(t.TempDir(), "dump.json")
	r := newRig(t, nil, "dump:"+dump)
	if err := r.preload(sim("p")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Args, Env []string
		WD        string
		Umask     int
		PGID      bool
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	w := r.workers("p")[0]
	if all := string(b); strings.Contains(all, "top-secret") || strings.Contains(all, w.Token) {
		t.Error("a secret reached the engine's arguments or environment")
	}
	if !slices.Contains(got.Env, "LLORCH_WORKER_ID="+string(w.ID)) || !got.PGID {
		t.Errorf("env = %v, own group = %v", got.Env, got.PGID)
	}
	if !strings.HasPrefix(got.WD, r.dir) || got.Umask != 0o077 {
		t.Errorf("wd = %s, umask = %o", got.WD, got.Umask)
	}
	for name, mode := range map[string]os.FileMode{"key": 0o600, "engine.log": 0o600, "home": 0o700 | os.ModeDir, "": 0o700 | os.ModeDir} {
		info, err := os.Stat(filepath.Join(r.dir, "workers", string(w.ID), name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%q: mode %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	for _, text := range []string{fmt.Sprint(w), fmt.Sprintf("%+v %#v", w, w), fmt.Sprint(w.LogValue())} {
		if strings.Contains(text, w.Token) {
			t.Errorf("a rendering holds the key: %s", text)
		}
	}
	if b, _ := json.Marshal(w); bytes.Contains(b, []byte(w.Token)) {
		t.Errorf("JSON holds the key: %s", b)
	}
}

// TestForeignServerOnPortIsNotReady (PCO-19, PCO-29): the wanted port belongs to
// another program.
func TestForeignServerOnPortIsNotReady(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := newRig(t, nil)
	pc := sim("p")
	pc.Port = ln.Addr().(*net.TCPAddr).Port
	err = r.preload(pc)
	if fault, ok := errors.AsType[*poolcore.PreflightError](err); !ok || !errors.Is(err, poolcore.PortUnavailable) || len(fault.Faults) != 1 {
		t.Errorf("err = %v, want PORT_UNAVAILABLE", err)
	}
}

// TestPreflightReportsAllFaults (PCO-8).
func TestPreflightReportsAllFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Binaries["llamacpp"] = filepath.Join(cfg.StateDir, "missing") })
	err := r.preload(poolcore.PoolConfig{ID: "p", Engine: "llamacpp", Model: "m", ModelPath: "/nonexistent/model.gguf"})
	if !errors.Is(err, poolcore.BinaryMissing) || !errors.Is(err, poolcore.ModelMissing) {
		t.Errorf("err = %v, want both faults", err)
	}
	if strings.Contains(err.Error(), "nonexistent") {
		t.Errorf("the error names a path: %v", err)
	}
}

// TestLostRaceTakesTheNextPort (PCO-19, PCO-32): a program that takes the port
// before the engine does gets no key, and the worker comes up on another port; that
// is nobody's failure.
func TestLostRaceTakesTheNextPort(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, "start-late:3s")
	op, err := r.Preload(t.Context(), loosePool("p"))
	if err != nil {
		t.Fatal(err)
	}
	var first poolcore.Worker
	eventually(t, "the engine runs", func() bool {
		ws := r.workers("p")
		if len(ws) == 1 {
			first = ws[0]
		}
		return len(r.processes("p-")) == 1 && first.URL != ""
	})
	ln, err := net.Listen("tcp", strings.TrimPrefix(first.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	eventually(t, "the race is seen as lost", func() bool { return slices.Equal(r.crashes(), []string{engine.ClassPortConflict}) })
	if err := op.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ws := r.workers("p")
	if len(ws) != 1 || ws[0].URL == first.URL || ws[0].ID == first.ID || r.Pool("p").Status().Breaker != "closed" {
		t.Errorf("workers = %+v", ws)
	}
}
