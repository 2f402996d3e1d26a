package engine_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

func request() engine.Request {
	return engine.Request{
		Binary: "/opt/engine", Model: "/m/x", WorkerID: "p-r0-abc", Addr: netip.MustParseAddrPort("127.0.0.1:8001"), Ctx: 4096, Slots: 2,
		KeyFile: "/run/key", Key: "the-secret-key", HomeDir: "/run/home", VRAMNeed: 30 << 30, VRAMTotal: 80 << 30,
	}
}

// TestLlamaCPPCommand (4.12): what the mask, the split, the determinism and the
// cache type add.
func TestLlamaCPPCommand(t *testing.T) {
	const head = "-m /m/x --host 127.0.0.1 --port 8001 --alias p-r0-abc "
	for name, c := range map[string]struct {
		change func(*engine.Request)
		want   string
	}{
		"plain":         {func(*engine.Request) {}, "-c 8192 -np 2 --api-key-file /run/key -ngl 999 --metrics --slots"},
		"two devices":   {func(r *engine.Request) { r.Devices = []string{"a", "b"} }, "-c 8192 -np 2 --api-key-file /run/key -ngl 999 --metrics --slots"},
		"one device":    {func(r *engine.Request) { r.Devices = []string{"a"} }, "-c 8192 -np 2 --api-key-file /run/key -ngl 999 --metrics --slots -sm none -mg 0"},
		"cpu":           {func(r *engine.Request) { r.CPU = true }, "-c 8192 -np 2 --api-key-file /run/key -ngl 0 --metrics --slots"},
		"split":         {func(r *engine.Request) { r.Devices, r.TensorSplit = []string{"a", "b"}, []float64{0.25, 0.75} }, "-c 8192 -np 2 --api-key-file /run/key -ngl 999 --metrics --slots -ts 0.25,0.75 -sm layer -mg 1"},
		"deterministic": {func(r *engine.Request) { r.Deterministic = true }, "-c 4096 -np 1 --api-key-file /run/key -ngl 999 --metrics --slots --no-cont-batching"},
		"cache type":    {func(r *engine.Request) { r.KVType = "q8_0" }, "-c 8192 -np 2 --api-key-file /run/key -ngl 999 --metrics --slots --cache-type-k q8_0 --cache-type-v q8_0"},
	} {
		r := request()
		c.change(&r)
		cmd, err := engine.LlamaCPP{}.Command(r)
		if got := strings.Join(cmd.Args, " "); err != nil || got != head+c.want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, head+c.want)
		}
	}
	r := request()
	r.Devices, r.TensorSplit = []string{"a"}, []float64{0.5, 0.5}
	if _, err := (engine.LlamaCPP{}).Command(r); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("two ratios for one device: %v", err)
	}
}

// TestVLLMCommand (4.12): need ÷ total as the share of memory, one tensor-parallel
// rank per device, the key in a variable.
func TestVLLMCommand(t *testing.T) {
	const head = "serve /m/x --host 127.0.0.1 --port 8001 --served-model-name p-r0-abc --max-model-len 4096 "
	for name, c := range map[string]struct {
		change func(*engine.Request)
		want   string // empty: unsupported
	}{
		"plain":         {func(*engine.Request) {}, "--max-num-seqs 2 --tensor-parallel-size 1 --gpu-memory-utilization 0.375"},
		"rounded up":    {func(r *engine.Request) { r.VRAMNeed++ }, "--max-num-seqs 2 --tensor-parallel-size 1 --gpu-memory-utilization 0.376"},
		"need unknown":  {func(r *engine.Request) { r.VRAMNeed = 0 }, "--max-num-seqs 2 --tensor-parallel-size 1"},
		"devices":       {func(r *engine.Request) { r.Devices = []string{"3", "1"} }, "--max-num-seqs 2 --tensor-parallel-size 2 --gpu-memory-utilization 0.375"},
		"equal split":   {func(r *engine.Request) { r.TensorSplit = []float64{0.5, 0.5} }, "--max-num-seqs 2 --tensor-parallel-size 1 --gpu-memory-utilization 0.375"},
		"deterministic": {func(r *engine.Request) { r.Deterministic = true }, "--max-num-seqs 1 --tensor-parallel-size 1 --gpu-memory-utilization 0.375"},
		"fp8 cache":     {func(r *engine.Request) { r.KVType = "fp8" }, "--max-num-seqs 2 --tensor-parallel-size 1 --gpu-memory-utilization 0.375 --kv-cache-dtype fp8"},
		"f16 cache":     {func(r *engine.Request) { r.KVType = "f16" }, "--max-num-seqs 2 --tensor-parallel-size 1 --gpu-memory-utilization 0.375"},
		"flags":         {func(r *engine.Request) { r.Flags = []string{"--dtype=half"} }, "--max-num-seqs 2 --tensor-parallel-size 1 --gpu-memory-utilization 0.375 --dtype=half"},
		"q8_0 cache":    {func(r *engine.Request) { r.KVType = "q8_0" }, ""},
		"unequal split": {func(r *engine.Request) { r.TensorSplit = []float64{0.25, 0.75} }, ""},
		"cpu":           {func(r *engine.Request) { r.CPU = true }, ""},
		"too much":      {func(r *engine.Request) { r.VRAMNeed = 81 << 30 }, ""},
	} {
		r := request()
		c.change(&r)
		cmd, err := engine.VLLM{}.Command(r)
		if c.want == "" {
			if !errors.Is(err, engine.ErrUnsupported) {
				t.Errorf("%s: %v, want ErrUnsupported", name, err)
			}
			continue
		}
		if got := strings.Join(cmd.Args, " "); err != nil || got != head+c.want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, head+c.want)
		}
		if !slices.Contains(cmd.Env, "VLLM_API_KEY=the-secret-key") {
			t.Errorf("%s: variables %q", name, cmd.Env)
		}
	}
}

// TestOllamaCommand (4.12): everything by variables, the model stays loaded.
func TestOllamaCommand(t *testing.T) {
	r := request()
	r.KVType = "q8_0"
	cmd, err := engine.Ollama{}.Command(r)
	want := "OLLAMA_HOST=127.0.0.1:8001 OLLAMA_MODELS=/run/home/models OLLAMA_NUM_PARALLEL=2 OLLAMA_KEEP_ALIVE=-1 OLLAMA_MAX_LOADED_MODELS=1 OLLAMA_CONTEXT_LENGTH=4096 OLLAMA_KV_CACHE_TYPE=q8_0"
	if got := strings.Join(cmd.Env, " "); err != nil || got != want || strings.Join(cmd.Args, " ") != "serve" {
		t.Errorf("%q %q, %v\nwant %q", cmd.Args, got, err, want)
	}
	r.ModelsDir, r.Deterministic = "/var/ollama", true
	cmd, _ = engine.Ollama{}.Command(r)
	if !slices.Contains(cmd.Env, "OLLAMA_MODELS=/var/ollama") || !slices.Contains(cmd.Env, "OLLAMA_NUM_PARALLEL=1") {
		t.Errorf("variables %q", cmd.Env)
	}
	for name, change := range map[string]func(*engine.Request){
		"flags": func(r *engine.Request) { r.Flags = []string{"--x"} }, "split": func(r *engine.Request) { r.TensorSplit = []float64{1} },
	} {
		r := request()
		change(&r)
		if _, err := (engine.Ollama{}).Command(r); !errors.Is(err, engine.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVLLMGetsIndices (trap; PCO-12): vLLM crashes on a UUID in the device variable,
// so its profile asks for indices, and no kind sets a device variable itself.
func TestVLLMGetsIndices(t *testing.T) {
	for _, k := range engine.All() {
		if got, want := engine.ProfileOf(k).Indices, k.Name() == "vllm"; got != want {
			t.Errorf("%s: indices %v, want %v", k.Name(), got, want)
		}
		r := request()
		r.Devices = []string{"GPU-4d1f", "GPU-77aa"}
		cmd, _ := k.Command(r)
		for _, arg := range slices.Concat(cmd.Env, cmd.Args) {
			if strings.Contains(arg, "VISIBLE_DEVICES") || strings.Contains(arg, "GPU-") {
				t.Errorf("%s: %s", k.Name(), arg)
			}
		}
	}
}

// TestNoKeyInArguments (PCO-32): no argument of any kind holds the key.
func TestNoKeyInArguments(t *testing.T) {
	for _, k := range engine.All() {
		cmd, _ := k.Command(request())
		if slices.ContainsFunc(cmd.Args, func(a string) bool { return strings.Contains(a, "the-secret-key") }) {
			t.Errorf("%s: %q", k.Name(), cmd.Args)
		}
	}
	if !engine.ProfileOf(engine.Ollama{}).Keyless || engine.ProfileOf(engine.VLLM{}).Keyless || engine.ProfileOf(engine.LlamaCPP{}).Keyless {
		t.Error("ollama alone has no key")
	}
}

// TestOwnedFlagsAreNotAllowed (PCO-10): address, model, name, key, log file and
// offload belong to the kind. Every flag that a command sets is owned.
func TestOwnedFlagsAreNotAllowed(t *testing.T) {
	owned := strings.Fields("--host --port --model -m --alias --api-key --api-key-file --log-file --n-gpu-layers -ngl --gpu-layers --parallel -np --ctx-size -c --tensor-split --main-gpu")
	for _, k := range engine.All() {
		p := engine.ProfileOf(k)
		for _, flag := range slices.Concat(owned, p.OwnFlags) {
			if _, ok := p.Flags[flag]; ok {
				t.Errorf("%s allows %s", k.Name(), flag)
			}
		}
		r := request()
		r.Devices, r.TensorSplit = []string{"a", "b"}, []float64{0.5, 0.5}
		cmd, _ := k.Command(r)
		for _, arg := range cmd.Args {
			if strings.HasPrefix(arg, "-") && arg != "--exit-with-stdin" && !slices.Contains(p.OwnFlags, arg) {
				t.Errorf("%s: %s is not owned", k.Name(), arg)
			}
		}
	}
}

// TestProfiles: what the supervisor reads of each kind (PCO-14, PCO-23, PCO-54).
func TestProfiles(t *testing.T) {
	for name, want := range map[string]struct {
		grace    time.Duration
		overhead uint64
		formats  string
		gpu      bool
	}{
		"llamacpp":  {0, 450 << 20, "gguf", false},
		"vllm":      {30 * time.Second, 1200 << 20, "safetensors", true},
		"ollama":    {0, 450 << 20, "gguf", false},
		"external":  {},
		"simulator": {},
	} {
		i := slices.IndexFunc(engine.All(), func(k engine.Kind) bool { return k.Name() == name })
		if i < 0 {
			t.Errorf("%s is missing", name)
			continue
		}
		p := engine.ProfileOf(engine.All()[i])
		if p.StopGrace != want.grace || p.PerDeviceOverhead != want.overhead || strings.Join(p.Formats, " ") != want.formats || p.NeedsGPU != want.gpu {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
