package orchestrator_test

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
)

// reported registers a node with one pool and returns what becomes of its first worker.
func reported(t *testing.T, edit func(*poolregistry.Registration, *poolregistry.Pool, *poolregistry.Worker)) (out *placement.Worker) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		reg := registry(t, nil)
		now, _ := latest(t, orchestrator.FromRegistry(reg))
		p := chat("http://10.0.0.1:9000")
		r := poolregistry.Registration{NodeID: "gpu-1", InstanceID: firstLife, Address: "http://10.0.0.1:7000"}
		edit(&r, &p, &p.Workers[0])
		r.Pools = []poolregistry.Pool{p}
		g, err := reg.Register(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := reg.Beat(t.Context(), poolregistry.Beat{NodeID: "gpu-1", LeaseToken: g.LeaseToken, Seq: 1, Pools: []poolregistry.Pool{p}}); err != nil {
			t.Fatal(err)
		}
		out = now()[0]
	})
	return out
}

// TestWorkerFacts: each thing that a node states about a worker is what placement
// sees of it (ORC-301, ORC-440).
func TestWorkerFacts(t *testing.T) {
	type (
		reg  = poolregistry.Registration
		pool = poolregistry.Pool
		wk   = poolregistry.Worker
	)
	two := []poolregistry.GPU{
		{DeviceID: 0, UUID: "GPU-a", ComputeCapability: "8.6", VRAMTotalBytes: new(uint64(24))},
		{DeviceID: 1, UUID: "GPU-b", ComputeCapability: "7.5", VRAMTotalBytes: new(uint64(16))},
	}
	gpus := func(r *reg) { r.Capabilities.GPUs = two }
	for name, c := range map[string]struct {
		edit func(*reg, *pool, *wk)
		got  func(w *placement.Worker) any
		want any
	}{
		"country":                {func(r *reg, _ *pool, _ *wk) { r.Region = poolregistry.Region{Country: "DE"} }, func(w *placement.Worker) any { return [2]string{w.Country, w.Group} }, [2]string{"DE", "EU"}},
		"group":                  {func(r *reg, _ *pool, _ *wk) { r.Region = poolregistry.Region{Group: "ASIA"} }, func(w *placement.Worker) any { return [2]string{w.Country, w.Group} }, [2]string{"", "ASIA"}},
		"no region":              {func(*reg, *pool, *wk) {}, func(w *placement.Worker) any { return w.In([]string{"EU", "UNKNOWN", ""}) }, false},
		"digest":                 {func(_ *reg, _ *pool, w *wk) { w.ModelDigest = "sha256:ab" }, func(w *placement.Worker) any { return w.Digest }, "sha256:ab"},
		"quant":                  {func(_ *reg, _ *pool, w *wk) { w.Quant = "Q4_K_M" }, func(w *placement.Worker) any { return w.Quant }, "Q4_K_M"},
		"workloads":              {func(_ *reg, _ *pool, w *wk) { w.Capabilities = []string{"tools", "embedding", "chat"} }, func(w *placement.Worker) any { return w.Workloads }, []string{"chat", "embedding"}},
		"features":               {func(_ *reg, _ *pool, w *wk) { w.Capabilities = []string{"tools", "chat", "json"} }, func(w *placement.Worker) any { return w.Features }, []string{"json", "tools"}},
		"no capability":          {func(*reg, *pool, *wk) {}, func(w *placement.Worker) any { return w.Workloads == nil && w.Features == nil }, true},
		"compute is the lowest":  {func(r *reg, _ *pool, _ *wk) { gpus(r) }, func(w *placement.Worker) any { return w.Compute }, 75},
		"compute of the mask":    {func(r *reg, p *pool, _ *wk) { gpus(r); p.DeviceMask = []string{"0"} }, func(w *placement.Worker) any { return w.Compute }, 86},
		"compute of its own GPU": {func(r *reg, p *pool, w *wk) { gpus(r); w.GPUUUIDs = []string{"GPU-a"} }, func(w *placement.Worker) any { return w.Compute }, 86},
		"compute not stated": {func(r *reg, _ *pool, _ *wk) {
			r.Capabilities.GPUs = []poolregistry.GPU{{DeviceID: 0, ComputeCapability: "9.0"}, {DeviceID: 1}}
		}, func(w *placement.Worker) any { return w.Compute }, 0},
		"mask":               {func(r *reg, p *pool, _ *wk) { gpus(r); p.DeviceMask = []string{"GPU-b", "GPU-a"} }, func(w *placement.Worker) any { return w.Mask }, []string{"GPU-a", "GPU-b"}},
		"memory of the mask": {func(r *reg, p *pool, _ *wk) { gpus(r); p.DeviceMask, p.VRAMTotalBytes = []string{"GPU-b"}, 40 }, func(w *placement.Worker) any { return w.VRAMTotal }, uint64(16)},
		"memory of the pool": {func(_ *reg, p *pool, _ *wk) { p.VRAMTotalBytes, p.VRAMFreeBytes = 40, 30 }, func(w *placement.Worker) any { return [2]uint64{w.VRAMTotal, w.VRAMFree} }, [2]uint64{40, 30}},
		"memory of a GPU unstated": {func(r *reg, p *pool, _ *wk) {
			r.Capabilities.GPUs = []poolregistry.GPU{{UUID: "GPU-a"}}
			p.VRAMTotalBytes = 9
		}, func(w *placement.Worker) any { return w.VRAMTotal }, uint64(9)},
		"memory of the engine": {func(_ *reg, _ *pool, w *wk) { w.VRAMBytes = 7 }, func(w *placement.Worker) any { return w.VRAMUsed }, uint64(7)},
		"speed":                {func(_ *reg, _ *pool, w *wk) { w.TokensPerS = 12.5 }, func(w *placement.Worker) any { return w.TokensPerS }, int64(12500)},
		"first token":          {func(_ *reg, _ *pool, w *wk) { w.FirstTokenMS = 1.5 }, func(w *placement.Worker) any { return w.FirstToken }, int64(1_500_000)},
		"no speed":             {func(*reg, *pool, *wk) {}, func(w *placement.Worker) any { return [2]int64{w.TokensPerS, w.FirstToken} }, [2]int64{}},
		"on disk": {func(_ *reg, p *pool, _ *wk) {
			p.ModelsAvailable = []poolregistry.Model{{Ref: "z", NeedBytes: 5, Fits: new(true)}, {Ref: "sim-8b"}, {Ref: "b", Fits: new(false)}, {Ref: "c"}}
		}, func(w *placement.Worker) any { return w.OnDisk }, []placement.OnDisk{{Model: "b", Fits: -1}, {Model: "c"}, {Model: "z", Need: 5, Fits: 1}}},
		"loaded is not on disk": {func(_ *reg, p *pool, _ *wk) { p.ModelsAvailable = []poolregistry.Model{{Ref: "sim-8b"}} }, func(w *placement.Worker) any { return len(w.OnDisk) }, 0},
		"on demand": {func(_ *reg, p *pool, w *wk) {
			w.Engine, p.ModelsLoaded = "ollama", []string{"b"}
			p.ModelsAvailable = []poolregistry.Model{{Ref: "b"}, {Ref: "a"}}
		}, func(w *placement.Worker) any { return []any{w.OnDemand, w.Models, w.OnDisk} }, []any{true, []string{"a", "b", "sim-8b"}, []placement.OnDisk{{Model: "a"}}}},
		"not on demand": {func(_ *reg, p *pool, w *wk) { p.ModelsAvailable = []poolregistry.Model{{Ref: "a"}} }, func(w *placement.Worker) any { return []any{w.OnDemand, w.Models} }, []any{false, []string{"sim-8b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.got(reported(t, c.edit))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStaticFacts: an engine of a fixed list says where it stands, and an Ollama
// loads on demand.
func TestStaticFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		e := start(t, net, workertest.Config{Flavour: "ollama"})
		now, _ := latest(t, orchestrator.StaticWith(dialer(t, net),
			orchestrator.Engine{Name: "here", URL: e.URL, Region: "DE"}, orchestrator.Engine{Name: "there", URL: e.URL}, orchestrator.Engine{Name: "odd", URL: e.URL, Region: "EU-US"}))
		list := now()
		if w := list[0]; w.Country != "DE" || w.Group != "EU" || !w.OnDemand || !w.In([]string{"EU"}) {
			t.Errorf("an engine in DE = %+v", w)
		}
		for _, w := range list[1:] {
			if w.In([]string{"EU", "US", "UNKNOWN", ""}) || !w.In(nil) {
				t.Errorf("%s is in %q %q, want nowhere", w.Pool, w.Country, w.Group)
			}
		}
	})
}
