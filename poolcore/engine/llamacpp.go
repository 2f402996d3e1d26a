package engine

import (
	"context"
	"strconv"
	"strings"
)

// LlamaCPP is llama-server of llama.cpp.
type LlamaCPP struct{}

var (
	_ Kind     = LlamaCPP{}
	_ Profiled = LlamaCPP{}
)

// Name returns "llamacpp".
func (LlamaCPP) Name() string { return "llamacpp" }

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
		Env: []string{"OMP_NUM_THREADS", "GGML_CUDA_FORCE_MMQ", "GGML_CUDA_FORCE_CUBLAS"},
	}
}

// Command returns llama-server with everything on the GPU.
func (LlamaCPP) Command(r Request) (Command, error) {
	args := append(serverArgs(r), "-ngl", "999", "--metrics", "--slots")
	return Command{Path: r.Binary, Args: append(args, splitFlags(r.Flags)...)}, nil
}

// Probe asks /health, then who it is and how many slots it has.
func (LlamaCPP) Probe(ctx context.Context, ep Endpoint) (Report, error) {
	return probeServer(ctx, ep)
}

// Classify applies the common patterns.
func (LlamaCPP) Classify(e Exit) string { return classify(e) }

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
