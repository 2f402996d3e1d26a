package engine

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// VLLM is "vllm serve" over a directory of safetensors.
type VLLM struct{}

var (
	_ Kind     = VLLM{}
	_ Profiled = VLLM{}
)

// Name returns "vllm".
func (VLLM) Name() string { return "vllm" }

// Profile gives it 30 s to end: the engine core and its workers are processes of
// their own and release their memory in order.
func (VLLM) Profile() Profile {
	return Profile{
		ModelFile: true,
		ModelDir:  true,
		Flags: map[string]bool{
			"--dtype": true, "--quantization": true, "--seed": true, "--enforce-eager": false, "--enable-prefix-caching": false,
			"--no-enable-prefix-caching": false, "--enable-chunked-prefill": false, "--max-num-batched-tokens": true, "--block-size": true,
			"--swap-space": true, "--reasoning-parser": true, "--tool-call-parser": true, "--enable-auto-tool-choice": false,
			"--disable-custom-all-reduce": false, "--generation-config": true,
		},
		OwnFlags: []string{
			"--host", "--port", "--uds", "--model", "--served-model-name", "--api-key", "--ssl-keyfile", "--ssl-certfile", "--root-path", "--config",
			"--max-model-len", "--max-num-seqs", "--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp",
			"--gpu-memory-utilization", "--kv-cache-dtype", "--cpu-offload-gb", "--trust-remote-code", "--download-dir", "--hf-token", "--device",
		},
		Env:               []string{"VLLM_ATTENTION_BACKEND", "VLLM_USE_V1", "NCCL_P2P_DISABLE", "OMP_NUM_THREADS"},
		StopGrace:         30 * time.Second,
		Indices:           true,
		NeedsGPU:          true,
		Formats:           []string{"safetensors"},
		MinCompute:        "7.0",
		PerDeviceOverhead: 1200 << 20,
	}
}

// Command returns "vllm serve". The key goes by environment: vLLM has no file for
// it, and an argument list is public. Deterministic is one sequence at a time,
// whatever r.Slots says.
func (VLLM) Command(r Request) (Command, error) {
	if r.CPU {
		return Command{}, fmt.Errorf("a GPU is required: %w", ErrUnsupported)
	}
	if !slices.Equal(r.TensorSplit, slices.Repeat(r.TensorSplit[:min(1, len(r.TensorSplit))], len(r.TensorSplit))) {
		return Command{}, fmt.Errorf("tensor_split with unequal ratios: %w", ErrUnsupported)
	}
	dtype, err := vllmKV(r.KVType)
	if err != nil {
		return Command{}, err
	}
	if r.Deterministic {
		r.Slots = 1
	}
	args := []string{
		"serve", r.Model, "--host", r.Addr.Addr().String(), "--port", strconv.Itoa(int(r.Addr.Port())), "--served-model-name", r.WorkerID,
		"--max-model-len", strconv.Itoa(r.Ctx), "--max-num-seqs", strconv.Itoa(r.Slots), "--tensor-parallel-size", strconv.Itoa(max(len(r.Devices), 1)),
	}
	if r.VRAMNeed > 0 && r.VRAMTotal > 0 {
		if r.VRAMNeed > r.VRAMTotal {
			return Command{}, fmt.Errorf("more memory than the devices have: %w", ErrUnsupported)
		}
		// Rounded up: a share that is a little too small is refused after minutes.
		share := math.Ceil(float64(r.VRAMNeed)/float64(r.VRAMTotal)*1000) / 1000
		args = append(args, "--gpu-memory-utilization", strconv.FormatFloat(share, 'f', -1, 64))
	}
	if dtype != "" {
		args = append(args, "--kv-cache-dtype", dtype)
	}
	env := []string{"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1"}
	if r.Key != "" {
		env = append(env, "VLLM_API_KEY="+r.Key)
	}
	if r.HomeDir != "" {
		env = append(env, "VLLM_CACHE_ROOT="+path.Join(r.HomeDir, "cache"))
	}
	return Command{Path: r.Binary, Args: append(args, r.Flags...), Env: env}, nil
}

// vllmKV translates a cache type. f16 is what vLLM takes by itself.
func vllmKV(kv string) (string, error) {
	switch {
	case kv == "" || kv == "f16":
		return "", nil
	case kv == "bf16":
		return "bfloat16", nil
	case strings.HasPrefix(kv, "fp8"):
		return kv, nil
	}
	return "", fmt.Errorf("this kv_type: %w", ErrUnsupported)
}

// Probe asks /health, then who it is, its release and how busy it is.
func (VLLM) Probe(ctx context.Context, ep Endpoint) (Report, error) {
	return answered(probeVLLM(ctx, ep))
}

func probeVLLM(ctx context.Context, ep Endpoint) (Report, error) {
	status, _, err := get(ctx, ep, "/health")
	switch {
	case err != nil:
		return Report{}, err
	case status == http.StatusServiceUnavailable:
		return Report{Live: true, Loading: true, Detail: "engine not up"}, nil
	case status != http.StatusOK:
		return Report{}, fmt.Errorf("probe /health: status %d: %w", status, ErrBadAnswer)
	}
	m, err := firstModel(ctx, ep)
	if err != nil {
		return Report{}, err
	}
	r := Report{Live: true, Ready: true, Detail: "ok", Alias: text(m.ID), CtxMax: between(&m.MaxModelLen, 1, maxTokens)}
	if m.Root != "" {
		r.Model = text(path.Base(m.Root))
	}
	var v struct {
		Version string `json:"version"`
	}
	if err := offerJSON(ctx, ep, "/version", &v); err != nil {
		return Report{}, err
	}
	r.Version = text(v.Version)
	page, ok, err := offer(ctx, ep, "/metrics")
	if err != nil {
		return Report{}, err
	}
	if ok {
		vllmMetrics(readSamples(page), &r)
	}
	return r, nil
}

// vllmMetrics reads old and new names of the same things.
func vllmMetrics(s samples, r *Report) {
	r.SlotsBusy = s.count("vllm:num_requests_running")
	r.Queue = s.count("vllm:num_requests_waiting")
	r.KVUsed = s.share("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
	r.TokensPerSecond = s.value("vllm:avg_generation_throughput_toks_per_s")
	r.Tokens = s.total("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
}

// Classify applies the patterns of vLLM.
func (VLLM) Classify(e Exit) string { return classify(e, vllmPatterns()) }
