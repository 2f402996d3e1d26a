package poolcore_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

// TestNoOOMLoop (PCO-16, PCO-33): a load that ran out of memory is not tried again
// until clearly more is free; then it is.
func TestNoOOMLoop(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 1, 10*gib)
	r := newRig(t, func(cfg *poolcore.Config) {
		cfg.Devices = gpus
		cfg.Limits.SystemVRAM = 1
		pc := loosePool("p")
		pc.VRAMDeclared = 6 * gib // it takes twice that
		cfg.Pools = []poolcore.PoolConfig{pc}
	}, gpus.load(0, 12*gib))
	eventually(t, "it is refused", func() bool {
		p := r.Pool("p")
		return p != nil && p.Status().LastError != nil && p.Status().LastError.Code == string(poolcore.InsufficientVRAM)
	})
	eventually(t, "it is refused again", func() bool { return len(r.crashes()) >= 4 })
	if got := r.tries(); got != 1 {
		t.Errorf("started %d times with too little memory, want 1", got)
	}
	if got := r.crashes(); got[0] != engine.ClassOOMVRAM || slices.Contains(got[1:], engine.ClassOOMVRAM) {
		t.Errorf("crashes = %v", got)
	}
	gpus.setTotal(16 * gib)
	eventually(t, "it is ready", func() bool { return r.Pool("p").Status().Ready })
}

// TestFitIsLearned (PCO-15): what a load took is known to the next run.
func TestFitIsLearned(t *testing.T) {
	t.Parallel()
	for _, mute := range []bool{false, true} {
		gpus := newGPUs(t, 1, 100*gib)
		gpus.mute = mute
		r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus }, gpus.load(0, 10*gib))
		pc := loosePool("p")
		pc.VRAMDeclared = 40 * gib
		if err := r.preload(pc); err != nil {
			t.Fatal(err)
		}
		eventually(t, "its use is seen", func() bool { _, used := poolcore.Ledger(r.Host, uuid(0)); return used == 10*gib })
		eventually(t, "PCO-14: what it took is reported with the model", func() bool {
			got := r.Pool("p").Status().ModelsAvailable
			return len(got) == 1 && got[0].NeedBytes == 10*gib
		})
		r.finish()
		b, err := os.ReadFile(filepath.Join(r.dir, "fit.json"))
		if err != nil {
			t.Fatal(err)
		}
		var table struct {
			Entries []struct {
				Model, Engine, Device string
				Peaks                 []uint64
				Rough                 bool
			}
		}
		if err := json.Unmarshal(b, &table); err != nil || len(table.Entries) != 1 {
			t.Fatalf("%s: %v", b, err)
		}
		if e := table.Entries[0]; !slices.Equal(e.Peaks, []uint64{10 * gib}) || e.Rough != mute || e.Device != "Fake" || e.Engine != "loose" {
			t.Errorf("learned %+v", e)
		}
		gpus.setTotal(13 * gib) // far below what was declared, enough for what is known
		again := newRig(t, func(cfg *poolcore.Config) { cfg.Devices, cfg.StateDir = gpus, r.dir }, gpus.load(0, 10*gib))
		again.dir = r.dir
		if err := again.preload(pc); err != nil {
			t.Errorf("with what was learned: %v", err)
		}
		again.finish()
	}
}

// TestVRAMReturnedBeforeNextStart (PCO-24): the next worker of a place starts when
// the memory of the last one is back, and not before.
func TestVRAMReturnedBeforeNextStart(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 1, 16*gib)
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus }, gpus.load(0, 10*gib)+"|leak")
	pc := loosePool("p")
	pc.VRAMDeclared = 9 * gib
	if err := r.preload(pc); err != nil {
		t.Fatal(err)
	}
	old := r.workers("p")[0].ID
	if err := kill9(r.processes(string(old))...); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new worker waits", func() bool {
		ws := r.workers("p")
		return len(r.processes(string(old))) == 0 && (len(ws) == 0 || ws[0].ID != old)
	})
	other := loosePool("q")
	other.VRAMDeclared = 6 * gib
	if err := r.preload(other); !errors.Is(err, poolcore.InsufficientVRAM) {
		t.Errorf("preload into memory that is not back = %v", err)
	}
	if got := r.tries(); got != 1 {
		t.Fatalf("%d starts before the memory was back", got)
	}
	files, _ := filepath.Glob(filepath.Join(gpus.dir, "*-leak"))
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a new worker is ready", func() bool { ws := r.workers("p"); return len(ws) == 1 && ws[0].Status == "ready" && ws[0].ID != old })
	if got := r.crashesOf("p"); !slices.Equal(got, []string{engine.ClassKilled}) {
		t.Errorf("the next start did not wait: crashes = %v", got)
	}
	files, _ = filepath.Glob(filepath.Join(gpus.dir, "*-leak"))
	for _, f := range files {
		_ = os.Remove(f)
	}
}

// TestConcurrentPreloadsShareNothing (PCO-17): of two at once only one gets memory
// that is enough for one.
func TestConcurrentPreloadsShareNothing(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 2, 10*gib)
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus }, gpus.load(1, 6*gib))
	results := make(chan error, 3)
	for _, id := range []string{"a", "b", "c"} {
		pc := loosePool(id)
		pc.Model, pc.Devices, pc.VRAMDeclared = "demo-"+id, "1", 6*gib
		go func() { results <- r.preload(pc) }()
	}
	won := 0
	for range 3 {
		switch err := <-results; {
		case err == nil:
			won++
		case !errors.Is(err, poolcore.InsufficientVRAM):
			t.Errorf("preload = %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d preloads won", won)
	}
	if s := r.crashes(); slices.Contains(s, engine.ClassOOMVRAM) {
		t.Errorf("crashes = %v", s)
	}
}

// TestPartialOffloadRefused (PCO-18): where a GPU is demanded, 15 of 33 layers are
// not served from it unnoticed; nor is a machine without one.
func TestPartialOffloadRefused(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 1, 10*gib)
	for line, want := range map[string]string{"load_tensors: offloaded 15/33 layers to GPU": engine.ClassPartialOffload, "load_tensors: offloaded 33/33 layers to GPU": ""} {
		r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices, cfg.RequireGPU = gpus, true }, "say:"+line)
		err := r.preload(loosePool("p"))
		if want == "" {
			if err != nil {
				t.Errorf("all layers on the GPU: %v", err)
			}
			r.finish()
			continue
		}
		if !errors.Is(err, poolcore.GPUUnavailable) || !slices.Contains(r.crashes(), want) {
			t.Errorf("%s: %v, crashes %v", line, err, r.crashes())
		}
		r.finish()
	}
	for _, devices := range []string{"cpu", ""} {
		r := newRig(t, func(cfg *poolcore.Config) {
			cfg.RequireGPU = true
			if devices == "cpu" {
				cfg.Devices = gpus
			}
		})
		pc := loosePool("p")
		pc.Devices = devices
		if err := r.preload(pc); !errors.Is(err, poolcore.GPUUnavailable) {
			t.Errorf("devices %q: %v, want GPU_UNAVAILABLE", devices, err)
		}
		r.finish()
	}
}

// TestMaskViolation (PCO-12): an engine that is seen on a device outside its mask is
// ended.
func TestMaskViolation(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 2, 10*gib)
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus }, gpus.load(1, gib))
	pc := loosePool("p")
	pc.Devices = "0"
	_ = r.preload(pc) // it may have been ready for a moment
	eventually(t, "the violation is seen", func() bool { return slices.Contains(r.crashes(), engine.ClassMaskViolation) })
}

// TestDeviceOrderIsPCI (PCO-11, PCO-12): an index is the driver's, in PCI order, and
// what the engine is told is the UUID.
func TestDeviceOrderIsPCI(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 3, 10*gib)
	dump := filepath.Join(t.TempDir(), "dump.json")
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus }, "dump:"+dump)
	pc := loosePool("p")
	pc.Devices = "2,0"
	if err := r.preload(pc); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Env []string }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=" + uuid(2) + "," + uuid(0)} {
		if !slices.Contains(got.Env, want) {
			t.Errorf("%s is not in %s", want, strings.Join(got.Env, " "))
		}
	}
}
