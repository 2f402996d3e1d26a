package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LlamaCPP is llama-server of llama.cpp.
type LlamaCPP struct{}

var (
	_ Kind      = LlamaCPP{}
	_ Profiled  = LlamaCPP{}
	_ Offloader = LlamaCPP{}
)

// Name returns "llamacpp".
func (LlamaCPP) Name() string { return "llamacpp" }

// llamaOverhead is what a process of llama.cpp takes of a device for its context
// and kernels.
const llamaOverhead = 450 << 20

// Profile lists the tuning flags that change neither the address, the model, the
// name, the key, the log file nor what is offloaded.
func (LlamaCPP) Profile() Profile {
	return Profile{
		ModelFile: true,
		Flags: map[string]bool{
			"--threads": true, "--threads-batch": true, "--batch-size": true, "--ubatch-size": true, "--flash-attn": true,
			"--cache-type-k": true, "--cache-type-v": true, "--cache-reuse": true, "--keep": true, "--seed": true,
			"--rope-scaling": true, "--rope-scale": true, "--rope-freq-base": true, "--rope-freq-scale": true,
			"--chat-template": true, "--reasoning-format": true, "--jinja": false, "--mlock": false, "--no-mmap": false,
			"--cont-batching": false, "--no-cont-batching": false, "--no-context-shift": false, "--swa-full": false,
		},
		OwnFlags:          llamaOwnFlags(),
		Env:               []string{"OMP_NUM_THREADS", "GGML_CUDA_FORCE_MMQ", "GGML_CUDA_FORCE_CUBLAS"},
		Formats:           []string{"gguf"},
		MinCompute:        "5.0",
		PerDeviceOverhead: llamaOverhead,
	}
}

// llamaOwnFlags are the flags of llama-server that say where it listens, what it
// serves under which name and key, where it writes and what is offloaded.
func llamaOwnFlags() []string {
	return []string{
		"--host", "--port", "--path", "--api-prefix", "--model", "-m", "--model-url", "-mu", "--hf-repo", "-hf", "-hfr", "--hf-file", "-hff",
		"--hf-token", "-hft", "--alias", "-a", "--api-key", "--api-key-file", "--ssl-key-file", "--ssl-cert-file", "--log-file", "--log-disable",
		"--n-gpu-layers", "--gpu-layers", "-ngl", "--tensor-split", "-ts", "--split-mode", "-sm", "--main-gpu", "-mg", "--device", "-dev",
		"--override-tensor", "-ot", "--cpu-moe", "--n-cpu-moe", "--no-kv-offload", "-nkvo", "--rpc", "--parallel", "-np", "--ctx-size", "-c",
		"--metrics", "--slots", "--no-slots", "--props", "--slot-save-path",
	}
}

// Command returns llama-server with everything on the GPU, or nothing where the
// mask allows none. Deterministic is one slot, whatever r.Slots says, and no
// batching of one request with another.
func (LlamaCPP) Command(r Request) (Command, error) {
	split, err := splitArgs(r)
	if err != nil {
		return Command{}, err
	}
	if r.Deterministic {
		r.Slots = 1
	}
	layers := "999"
	if r.CPU {
		layers = "0"
	}
	args := append(serverArgs(r), "-ngl", layers, "--metrics", "--slots")
	args = append(args, split...)
	if r.Deterministic {
		args = append(args, "--no-cont-batching")
	}
	if r.KVType != "" {
		args = append(args, "--cache-type-k", r.KVType, "--cache-type-v", r.KVType)
	}
	return Command{Path: r.Binary, Args: append(args, splitFlags(r.Flags)...)}, nil
}

// splitArgs says how the model is divided: all of it on the one device, or layers
// by the ratios, with the largest share's device for what cannot be divided.
func splitArgs(r Request) ([]string, error) {
	switch {
	case r.CPU || len(r.TensorSplit) == 0 && len(r.Devices) != 1:
		return nil, nil
	case len(r.TensorSplit) == 0:
		return []string{"-sm", "none", "-mg", "0"}, nil
	case len(r.Devices) > 0 && len(r.Devices) != len(r.TensorSplit):
		return nil, fmt.Errorf("tensor_split has not one ratio per device: %w", ErrUnsupported)
	}
	ratios := make([]string, len(r.TensorSplit))
	for i, share := range r.TensorSplit {
		ratios[i] = strconv.FormatFloat(share, 'f', -1, 64)
	}
	main := slices.Index(r.TensorSplit, slices.Max(r.TensorSplit))
	return []string{"-ts", strings.Join(ratios, ","), "-sm", "layer", "-mg", strconv.Itoa(max(main, 0))}, nil
}

// Probe asks /health, then who it is and how busy.
func (LlamaCPP) Probe(ctx context.Context, ep Endpoint) (Report, error) {
	return answered(probeLlamaServer(ctx, ep))
}

// Classify applies the patterns of llama.cpp.
func (LlamaCPP) Classify(e Exit) string { return classify(e, llamaPatterns()) }

// Offloaded reads "offloaded 33/33 layers to GPU".
func (LlamaCPP) Offloaded(line string) (Offload, bool) {
	_, rest, ok := strings.Cut(line, "offloaded ")
	counts, _, layers := strings.Cut(rest, " layers")
	done, total, slash := strings.Cut(counts, "/")
	if !ok || !layers || !slash {
		return Offload{}, false
	}
	n, errN := strconv.ParseUint(done, 10, 16)
	m, errM := strconv.ParseUint(total, 10, 16)
	if errN != nil || errM != nil || n > m {
		return Offload{}, false
	}
	return Offload{Done: n, Total: m}, true
}

// serverArgs are the flags of llama-server that this module owns. The key is
// passed by file, because every user of the machine can read an argument list.
func serverArgs(r Request) []string {
	return []string{
		"-m", r.Model, "--host", r.Addr.Addr().String(), "--port", strconv.Itoa(int(r.Addr.Port())), "--alias", r.WorkerID,
		"-c", strconv.Itoa(r.Ctx * r.Slots), "-np", strconv.Itoa(r.Slots), "--api-key-file", r.KeyFile,
	}
}

// splitFlags turns "--name=value" into two arguments, the form that every release
// of llama-server reads.
func splitFlags(flags []string) []string {
	out := make([]string, 0, 2*len(flags))
	for _, f := range flags {
		name, value, ok := strings.Cut(f, "=")
		out = append(out, name)
		if ok {
			out = append(out, value)
		}
	}
	return out
}
