package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Ollama is "ollama serve". It keeps models in a store of its own, loads them when
// they are asked for, and has neither a name nor a key of ours.
type Ollama struct{}

var (
	_ Kind     = Ollama{}
	_ Profiled = Ollama{}
	_ Loader   = Ollama{}
)

// Name returns "ollama".
func (Ollama) Name() string { return "ollama" }

// Profile says that it cannot ask for a key: it may bind loopback only. It takes no
// flags at all; everything is set by variables that Command owns.
func (Ollama) Profile() Profile {
	return Profile{
		Env:               []string{"OLLAMA_FLASH_ATTENTION", "OLLAMA_GPU_OVERHEAD", "OLLAMA_LOAD_TIMEOUT", "OLLAMA_SCHED_SPREAD"},
		Keyless:           true,
		Nameless:          true,
		Formats:           []string{"gguf"},
		MinCompute:        "5.0",
		PerDeviceOverhead: llamaOverhead,
	}
}

// Command returns "ollama serve" for one model that stays loaded. Deterministic is
// one request at a time, whatever r.Slots says.
func (Ollama) Command(r Request) (Command, error) {
	switch {
	case len(r.Flags) > 0:
		return Command{}, fmt.Errorf("flags: %w", ErrUnsupported)
	case len(r.TensorSplit) > 0:
		return Command{}, fmt.Errorf("tensor_split: %w", ErrUnsupported)
	}
	if r.Deterministic {
		r.Slots = 1
	}
	store := r.ModelsDir
	if store == "" {
		store = path.Join(r.HomeDir, "models")
	}
	env := []string{
		"OLLAMA_HOST=" + r.Addr.String(), "OLLAMA_MODELS=" + store, "OLLAMA_NUM_PARALLEL=" + strconv.Itoa(r.Slots),
		"OLLAMA_KEEP_ALIVE=-1", "OLLAMA_MAX_LOADED_MODELS=1", "OLLAMA_CONTEXT_LENGTH=" + strconv.Itoa(r.Ctx),
	}
	if r.KVType != "" {
		env = append(env, "OLLAMA_KV_CACHE_TYPE="+r.KVType)
	}
	return Command{Path: r.Binary, Args: []string{"serve"}, Env: env}, nil
}

// Probe asks for the release, the store and what is loaded. It is ready when the
// store holds the model: the first request loads it, or Load before.
func (Ollama) Probe(ctx context.Context, ep Endpoint) (Report, error) {
	return answered(probeOllama(ctx, ep))
}

// ollamaModel is one row of /api/tags and /api/ps.
type ollamaModel struct {
	Name     string `json:"name"`
	Size     uint64 `json:"size"`
	SizeVRAM uint64 `json:"size_vram"`
	Context  *int   `json:"context_length"`
}

type ollamaModels struct {
	Models []ollamaModel `json:"models"`
}

func probeOllama(ctx context.Context, ep Endpoint) (Report, error) {
	var v struct {
		Version string `json:"version"`
	}
	if err := need(ctx, ep, "/api/version", &v); err != nil {
		return Report{}, err
	}
	if v.Version == "" {
		return Report{}, fmt.Errorf("probe /api/version: no version: %w", ErrBadAnswer)
	}
	r := Report{Live: true, Version: text(v.Version)}
	var stored, loaded ollamaModels
	if err := need(ctx, ep, "/api/tags", &stored); err != nil {
		return Report{}, err
	}
	if err := offerJSON(ctx, ep, "/api/ps", &loaded); err != nil {
		return Report{}, err
	}
	if _, ok := stored.find(ep.Model); !ok {
		r.Loading, r.Detail = true, "model is not listed"
		return r, nil
	}
	r.Ready, r.Detail, r.Model = true, "not loaded", text(ep.Model)
	if m, ok := loaded.find(ep.Model); ok {
		r.Detail, r.CtxMax = "ok", between(m.Context, 1, maxTokens)
		if m.Size > 0 && m.SizeVRAM <= m.Size {
			r.Offload = &Offload{Done: m.SizeVRAM, Total: m.Size}
		}
	}
	return r, nil
}

// find returns the row of name, where no tag means "latest"; of the empty name,
// the first row.
func (l ollamaModels) find(name string) (ollamaModel, bool) {
	for _, m := range l.Models {
		if name == "" || tagged(m.Name) == tagged(name) {
			return m, true
		}
	}
	return ollamaModel{}, name == ""
}

func tagged(name string) string {
	if strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		return name
	}
	return name + ":latest"
}

// Load makes the server load model and keep it.
func (Ollama) Load(ctx context.Context, ep Endpoint, model string) error {
	return generate(ctx, ep, model, -1)
}

// Unload makes the server give the memory of model back.
func (Ollama) Unload(ctx context.Context, ep Endpoint, model string) error {
	return generate(ctx, ep, model, 0)
}

// generate without a prompt only loads, or unloads where keepAlive is 0.
func generate(ctx context.Context, ep Endpoint, model string, keepAlive int) error {
	const route = "/api/generate"
	body, err := json.Marshal(struct {
		Model     string `json:"model"`
		KeepAlive int    `json:"keep_alive"`
		Stream    bool   `json:"stream"`
	}{model, keepAlive, false})
	if err != nil {
		return fmt.Errorf("write request %s: %w", route, err)
	}
	status, _, err := send(ctx, ep, http.MethodPost, route, bytes.NewReader(body))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("probe %s: status %d: %w", route, status, ErrBadAnswer)
	}
	return err
}

// Classify applies the patterns of Ollama and of the llama.cpp inside it.
func (Ollama) Classify(e Exit) string { return classify(e, ollamaPatterns()) }
