package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore/engine"
)

// newer is a kind that needs compute capability 7.5.
type newer struct{ engine.Simulator }

func (newer) Profile() engine.Profile { return engine.Profile{MinCompute: "7.5"} }

// TestCheck (PCO-54): format, context, quantisation, device and compute capability;
// the error names required and offered, all of them at once.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		kind engine.Kind
		caps engine.Capabilities
		want string // "subject required offered" of each fault, "; " between
	}{
		"nothing known":     {engine.VLLM{}, engine.Capabilities{}, ""},
		"gguf for llamacpp": {engine.LlamaCPP{}, engine.Capabilities{Format: "gguf", Ctx: 8192, CtxMax: 8192, Compute: []string{"8.6"}}, ""},
		"gguf for ollama":   {engine.Ollama{}, engine.Capabilities{Format: "gguf"}, ""},
		"gguf for vllm":     {engine.VLLM{}, engine.Capabilities{Format: "gguf"}, "format safetensors gguf"},
		"tensors for llama": {engine.LlamaCPP{}, engine.Capabilities{Format: "safetensors"}, "format gguf safetensors"},
		"any for simulator": {engine.Simulator{}, engine.Capabilities{Format: "whatever", Compute: []string{"1.0"}}, ""},
		"ctx":               {engine.LlamaCPP{}, engine.Capabilities{Ctx: 8193, CtxMax: 8192}, "ctx 8193 8192"},
		"quant":             {engine.LlamaCPP{}, engine.Capabilities{Quant: "Q4_K_M", ModelQuant: "Q8_0"}, "quantisation Q4_K_M Q8_0"},
		"quant case":        {engine.LlamaCPP{}, engine.Capabilities{Quant: "q8_0", ModelQuant: "Q8_0"}, ""},
		"compute":           {engine.VLLM{}, engine.Capabilities{Compute: []string{"9.0", "6.1"}}, "compute_capability 7.0 6.1"},
		"compute 10":        {engine.VLLM{}, engine.Capabilities{Compute: []string{"10.0"}}, ""}, // not "1" of a text comparison
		"compute minor":     {engine.VLLM{}, engine.Capabilities{Compute: []string{"7.0", ""}}, ""},
		"compute 7.2":       {newer{}, engine.Capabilities{Compute: []string{"7.2", "7.5", "8.0"}}, "compute_capability 7.5 7.2"},
		"compute nonsense":  {engine.VLLM{}, engine.Capabilities{Compute: []string{"x"}}, "compute_capability 7.0 x"},
		"cpu":               {engine.VLLM{}, engine.Capabilities{CPU: true}, "device gpu cpu"},
		"cpu for llamacpp":  {engine.LlamaCPP{}, engine.Capabilities{CPU: true}, ""},
		"several":           {engine.VLLM{}, engine.Capabilities{Format: "gguf", Ctx: 2, CtxMax: 1}, "format safetensors gguf; ctx 2 1"},
	} {
		err := engine.Check(c.kind, c.caps)
		var got []string
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				if f, ok := errors.AsType[*engine.IncompatibleError](e); ok {
					got = append(got, f.Subject+" "+f.Required+" "+f.Offered)
				}
			}
		}
		if strings.Join(got, "; ") != c.want || (err != nil) != errors.Is(err, engine.ErrIncompatible) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	err := engine.Check(engine.LlamaCPP{}, engine.Capabilities{Format: strings.Repeat("x\n", 500)})
	if len(err.Error()) > 200 || strings.Contains(err.Error(), "\n") {
		t.Errorf("a hostile format is not cut: %v", err)
	}
}

func ExampleCheck() {
	fmt.Println(engine.Check(engine.VLLM{}, engine.Capabilities{Format: "gguf"}))
	// Output: MODEL_INCOMPATIBLE: format: required safetensors, offered gguf
}
