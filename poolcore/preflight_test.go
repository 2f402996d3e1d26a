package poolcore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/engine"
)

// changed is the devices of the fake with one change to each.
type changed struct {
	*fakeGPUs
	edit func(*gpuinfo.Device)
}

func (c changed) Snapshot(ctx context.Context) (gpuinfo.Snapshot, error) {
	s, err := c.fakeGPUs.Snapshot(ctx)
	for i := range s.Devices {
		c.edit(&s.Devices[i])
	}
	return s, err
}

// keyless is the stub as a kind that can not ask for a key, needs a GPU of a
// certain age, and reads only indices.
type keyless struct{ loose }

func (keyless) Name() string { return "keyless" }

func (keyless) Profile() engine.Profile {
	return engine.Profile{Keyless: true, NeedsGPU: true, MinCompute: "9.0", Indices: true}
}

// TestPreflightCodes (PCO-8, PCO-9, PCO-11, PCO-13, PCO-14, PCO-18, PCO-32, PCO-54): each
// fault has its code, and nothing is started.
func TestPreflightCodes(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 2, 10*gib)
	device := func(edit func(*gpuinfo.Device)) func(*poolcore.Config) {
		return func(cfg *poolcore.Config) { cfg.Devices = changed{gpus, edit} }
	}
	with := func(edit func(*poolcore.PoolConfig)) poolcore.PoolConfig {
		pc := loosePool("p")
		pc.Devices = "0"
		edit(&pc)
		return pc
	}
	plain := func(cfg *poolcore.Config) { cfg.Devices = gpus }
	hot := 95
	for name, c := range map[string]struct {
		edit func(*poolcore.Config)
		pc   poolcore.PoolConfig
		want poolcore.Code
	}{
		"mask does not resolve": {plain, with(func(p *poolcore.PoolConfig) { p.Devices = "0,7" }), "DEVICE_MASK_INVALID"},
		"mask is none":          {plain, with(func(p *poolcore.PoolConfig) { p.Devices = "gpu zero" }), "DEVICE_MASK_INVALID"},
		"no GPU":                {func(*poolcore.Config) {}, with(func(*poolcore.PoolConfig) {}), poolcore.GPUUnavailable},
		"broken":                {device(func(d *gpuinfo.Device) { d.Health.State = gpuinfo.Broken }), with(func(*poolcore.PoolConfig) {}), poolcore.GPUUnhealthy},
		"waits for a reset":     {device(func(d *gpuinfo.Device) { d.Health.Recovery = gpuinfo.Reset }), with(func(*poolcore.PoolConfig) {}), poolcore.GPUUnhealthy},
		"too hot":               {device(func(d *gpuinfo.Device) { d.TempC = &hot }), with(func(*poolcore.PoolConfig) {}), poolcore.GPUUnhealthy},
		"declared too large":    {plain, with(func(p *poolcore.PoolConfig) { p.VRAMDeclared = 11 * gib }), poolcore.InsufficientVRAM},
		"share too large": {plain, with(func(p *poolcore.PoolConfig) {
			p.Devices, p.TensorSplit, p.VRAMDeclared = "0,1", []float64{0.9, 0.1}, 12*gib
		}), poolcore.InsufficientVRAM},
		"a share too many": {plain, with(func(p *poolcore.PoolConfig) { p.TensorSplit = []float64{0.5, 0.5} }), poolcore.InvalidParams},
		"host memory":      {plain, with(func(p *poolcore.PoolConfig) { p.Devices, p.VRAMDeclared = "cpu", 1<<60 }), "INSUFFICIENT_RAM"},
		"keyless and open": {func(cfg *poolcore.Config) {
			cfg.Devices, cfg.WorkerBind, cfg.AdvertiseHost = gpus, netip.IPv4Unspecified(), "node"
		}, with(func(p *poolcore.PoolConfig) { p.Engine = "keyless" }), poolcore.InvalidParams},
		"needs a GPU": {plain, with(func(p *poolcore.PoolConfig) { p.Engine, p.Devices = "keyless", "cpu" }), poolcore.GPUUnavailable},
		"too old":     {device(func(d *gpuinfo.Device) { d.Compute = gpuinfo.Capability{Major: 8, Minor: 6} }), with(func(p *poolcore.PoolConfig) { p.Engine = "keyless" }), "COMPUTE_CAPABILITY"},
		"binary is text": {func(cfg *poolcore.Config) {
			cfg.Devices, cfg.Binaries["loose"] = gpus, filepath.Join(gpus.dir, "total")
		}, with(func(*poolcore.PoolConfig) {}), poolcore.BinaryNotExecutable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *poolcore.Config) {
				self := cfg.Binaries["loose"]
				cfg.Binaries["keyless"], cfg.Binaries["llamacpp"] = self, self
				cfg.Engines = append(cfg.Engines, keyless{newLoose()})
				c.edit(cfg)
			})
			err := r.preload(c.pc)
			if !errors.Is(err, c.want) {
				t.Errorf("err = %v, want %s", err, c.want)
			}
			if r.tries() != 0 {
				t.Error("something was started")
			}
			r.finish()
		})
	}
}

// TestPreflightSumsUp (PCO-8): all faults at once, with numbers and without paths.
func TestPreflightSumsUp(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 1, 10*gib)
	r := newRig(t, func(cfg *poolcore.Config) {
		cfg.Devices = changed{gpus, func(d *gpuinfo.Device) { d.Health.Recovery = gpuinfo.Reboot }}
		cfg.Binaries["loose"] = filepath.Join(cfg.StateDir, "missing")
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pc := loosePool("p")
	pc.Devices, pc.VRAMDeclared, pc.Port = "0", 100*gib, ln.Addr().(*net.TCPAddr).Port
	fault, ok := errors.AsType[*poolcore.PreflightError](r.preload(pc))
	if !ok {
		t.Fatal("no preflight error")
	}
	var codes []poolcore.Code
	for _, f := range fault.Faults {
		codes = append(codes, f.Code)
	}
	if want := []poolcore.Code{poolcore.BinaryMissing, poolcore.GPUUnhealthy, poolcore.InsufficientVRAM, poolcore.PortUnavailable}; !slices.Equal(codes, want) {
		t.Errorf("codes = %v, want %v", codes, want)
	}
	if text := fault.Error(); !strings.Contains(text, strconv.FormatUint(110*gib, 10)) || !strings.Contains(text, "declared") || strings.Contains(text, r.dir) {
		t.Errorf("text = %s", text)
	}
}

// TestConflictingWorker (PCO-8): the same model twice on the same devices is one
// pool with replicas.
func TestConflictingWorker(t *testing.T) {
	t.Parallel()
	gpus := newGPUs(t, 2, 10*gib)
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Devices = gpus })
	for _, c := range []struct {
		id, devices string
		want        error
	}{{"a", "0", nil}, {"b", "1", nil}, {"c", "0", poolcore.Code("CONFLICTING_WORKER")}, {"d", "GPU0", poolcore.Code("CONFLICTING_WORKER")}} {
		pc := loosePool(c.id)
		pc.Devices, pc.Replicas = c.devices, 2
		if err := r.preload(pc); !errors.Is(err, c.want) {
			t.Errorf("%s on %s: %v, want %v", c.id, c.devices, err, c.want)
		}
	}
}

// TestWarmUpIsPartOfReady (PCO-29): ready only after one generated token.
func TestWarmUpIsPartOfReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Timing.Stall = 300 * time.Millisecond })
	pc := loosePool("p")
	pc.WarmUp = true
	if err := r.preload(pc); !errors.Is(err, poolcore.WorkerStartTimeout) {
		t.Errorf("an engine that generates nothing: %v", err)
	}
	r.finish()
	r = newRig(t, nil, "generate")
	if err := r.preload(pc); err != nil {
		t.Errorf("an engine that generates: %v", err)
	}
	r.finish()
}

// TestVersionIsChecked (PCO-29): a version that was asked for is the one that the
// engine reports.
func TestVersionIsChecked(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"b42": "", "b43": engine.ClassVersion} {
		r := newRig(t, nil, "version:b42")
		pc := loosePool("p")
		pc.EngineVersion = version
		err := r.preload(pc)
		if crash, ok := errors.AsType[*poolcore.CrashError](err); want == "" && err != nil || want != "" && (!ok || crash.Class != want) {
			t.Errorf("version %s: %v, want %q", version, err, want)
		}
		r.finish()
	}
}

// TestHandoffFollowsReady (PCO-6, PCO-49): the file is there while the worker is
// ready, tells where it is and no key, and goes with it.
func TestHandoffFollowsReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.preload(loosePool("p")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.dir, "handoff", "p-r0.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := r.workers("p")[0]
	var f struct {
		URL      string
		WorkerID string `json:"worker_id"`
	}
	if err := json.Unmarshal(b, &f); err != nil || f.URL != w.URL || f.WorkerID != string(w.ID) || strings.Contains(string(b), w.Token) {
		t.Errorf("%s, %v", b, err)
	}
	if err := r.Pool("p").Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is gone", func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })
}

// TestCatalogModels (PCO-6, PCO-8, PCO-48): a model is used from the catalogue only
// as it was verified, is in use while a worker runs, and is removed by a purge.
func TestCatalogModels(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(file, tinyGGUF(), 0o600); err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Open(t.Context(), catalog.Config{Dir: filepath.Join(t.TempDir(), "models")})
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	const ref = "file:m.gguf"
	m, err := cat.Put(t.Context(), catalog.Put{Ref: ref, From: file})
	if err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(t.TempDir(), "dump.json")
	r := newRig(t, func(cfg *poolcore.Config) {
		cfg.Catalog = cat
		cfg.Binaries["files"] = cfg.Binaries["loose"]
		cfg.Engines = append(cfg.Engines, fromFile{newLoose("dump:" + dump)})
	})
	pc := poolcore.PoolConfig{ID: "p", Engine: "files", Model: "file:other.gguf", Ctx: 16}
	if err := r.preload(pc); !errors.Is(err, poolcore.ModelMissing) {
		t.Errorf("a model that is not there: %v", err)
	}
	pc.Model = ref
	if err := r.preload(pc); err != nil {
		t.Fatal(err)
	}
	found, err := cat.Locate(ref)
	if b, err2 := os.ReadFile(dump); err != nil || err2 != nil || !strings.Contains(string(b), found.Path) {
		t.Errorf("the engine was not given the catalogue's file: %v, %v", err, err2)
	}
	if err := cat.Remove(t.Context(), m.ID, false); !errors.Is(err, catalog.ModelInUse) {
		t.Errorf("Remove of a model in use = %v", err)
	}
	if err := r.Pool("p").Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := cat.SetState(m.ID, catalog.Retired, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := r.preload(pc); !errors.Is(err, poolcore.Code("MODEL_RETIRED")) {
		t.Errorf("a retired model: %v", err)
	}
	if err := errors.Join(cat.SetState(m.ID, catalog.Active, time.Time{}), os.WriteFile(found.Path, append(tinyGGUF(), 0), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := r.preload(pc); !errors.Is(err, poolcore.Code("MODEL_UNVERIFIED")) {
		t.Errorf("a model that was tampered with: %v", err)
	}
	op, err := r.Pool("p").Purge(t.Context(), poolcore.PurgeRequest{Engine: true, Models: []string{ref}, Caches: true, NoDrain: true})
	if err := wait(t.Context())(op, err); err != nil {
		t.Errorf("Purge = %v", err)
	}
	if _, ok := cat.Get(m.ID); ok {
		t.Error("the model is still in the catalogue")
	}
}

// fromFile is the stub as a kind that loads a file.
type fromFile struct{ loose }

func (fromFile) Name() string { return "files" }

func (fromFile) Profile() engine.Profile {
	return engine.Profile{ModelFile: true, Formats: []string{"gguf"}}
}

// tinyGGUF is a header of version 3 with no tensors and two entries.
func tinyGGUF() []byte {
	b := []byte("GGUF\x03\x00\x00\x00")
	u64 := func(n uint64) {
		for i := range 8 {
			b = append(b, byte(n>>(8*i)))
		}
	}
	text := func(s string) { u64(uint64(len(s))); b = append(b, s...) }
	u64(0)
	u64(2)
	text("general.architecture")
	b = append(b, 8, 0, 0, 0)
	text("llama")
	text("llama.context_length")
	b = append(b, 4, 0, 0, 0, 0x80, 0, 0, 0)
	return append(b, make([]byte, 64)...)
}

// TestFaultsInEveryState (G2, PCO-22, PCO-23, PCO-33): whatever an engine does and
// whenever, no process, port or promise of it is left.
func TestFaultsInEveryState(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		faults []string
		class  string // of the crash; "": none is expected
	}{
		{[]string{"die:11@100ms"}, engine.ClassSegfault},
		{[]string{"die:6@100ms"}, engine.ClassAbort},
		{[]string{"die:9@100ms", "grandchild", "grandchild-setsid"}, engine.ClassKilled},
		{[]string{"die:15@300ms", "say:CUDA error: an illegal memory access was encountered"}, engine.ClassCUDA},
		{[]string{"flood:2000"}, ""},
		{[]string{"start-delay:100ms"}, ""},
	} {
		t.Run(fmt.Sprint(c.faults), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, c.faults...)
			_ = r.preload(loosePool("p")) // it may be ready before it fails
			if c.class != "" {
				eventually(t, "the crash is seen", func() bool { return slices.Contains(r.crashes(), c.class) })
			} else if s := r.Pool("p").Status(); !s.Ready {
				t.Errorf("status = %+v", s)
			}
			if err := r.Pool("p").Stop(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			r.nothingLeft()
			if n := poolcore.TakenPorts(r.Host); n != 0 {
				t.Errorf("%d ports are taken", n)
			}
			r.finish()
		})
	}
}

// TestWorkersOwnCgroup (PCO-20): with a delegated folder each worker lives in a
// child of it, which goes with the worker.
func TestWorkersOwnCgroup(t *testing.T) {
	t.Parallel()
	dir := ""
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		name := filepath.Join(mount, "llorch-core-"+strconv.Itoa(os.Getpid()))
		if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil && os.Mkdir(name, 0o755) == nil {
			dir = name
			break
		}
	}
	if dir == "" {
		t.Skip("SKIPPED LOUDLY: no cgroup v2 folder can be made here, so nothing is proved about cgroups")
	}
	defer func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("the folder is not empty: %v", err)
		}
	}()
	r := newRig(t, func(cfg *poolcore.Config) { cfg.CgroupDir = dir }, "grandchild-setsid")
	if err := r.preload(loosePool("p")); err != nil {
		t.Fatal(err)
	}
	procs, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
	if len(procs) != 1 {
		t.Fatalf("%d folders", len(procs))
	}
	eventually(t, "both live there", func() bool {
		b, err := os.ReadFile(procs[0])
		return err == nil && strings.Count(string(b), "\n") == 2
	})
	if err := r.Pool("p").Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	r.finish()
}
