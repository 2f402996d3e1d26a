package orchestrator_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// as makes the one worker of a bench an engine of that kind that can do that.
func (b *bench) as(engine string, workloads ...string) {
	w := *b.pools.list[0]
	w.Engine, w.Workloads = engine, workloads
	b.pools.set(&w)
	synctest.Wait() // the core has heard of it
}

// TestSingleResponseTasks is ORC-440 and ORC-448: an embedding or a reranking is
// one result and then the end; a worker that can not do it ends the task with
// MODEL_INCOMPATIBLE, and what is no such task is refused at the door.
func TestSingleResponseTasks(t *testing.T) {
	embed := orchestrator.Spec{Kind: worker.Embedding, Model: "sim-8b", Inputs: []string{"one", "two"}}
	rerank := orchestrator.Spec{Kind: worker.Rerank, Model: "sim-8b", Prompt: "q", Inputs: []string{"a", "b", "c"}}
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Preset: "zero"}}, func(t *testing.T, b *bench) {
		for member, s := range map[string]orchestrator.Spec{
			"embedding": embed, "relevance_score": rerank,
			`"data"`: {Kind: worker.Embedding, Model: "sim-8b", Raw: []byte(`{"model":"sim-8b","input":"x"}`), Ephemeral: true},
		} {
			acc, err := b.Submit(t.Context(), me, s)
			if err != nil {
				t.Fatalf("Submit: %v", err)
			}
			events := b.read(acc.ID, 0)
			i := slices.IndexFunc(events, func(e orchestrator.Event) bool { return e.Type == orchestrator.EventResult })
			if i < 0 || i != len(events)-2 || events[len(events)-1].Type != orchestrator.EventEnd || !strings.Contains(string(events[i].Data), member) {
				t.Errorf("%s: events %s, want one result with it, then end", member, types(events))
			}
		}
		for field, s := range map[string]orchestrator.Spec{
			"kind":   {Kind: "translation", Model: "sim-8b", Prompt: "p"},
			"inputs": {Kind: worker.Completion, Model: "sim-8b", Prompt: "p", Inputs: []string{"a"}},
			"prompt": {Kind: worker.Rerank, Model: "sim-8b", Inputs: []string{"a"}},
		} {
			_, err := b.Submit(t.Context(), me, s)
			if e, ok := errors.AsType[*taskapi.Error](err); !ok || e.Details["field"] != field {
				t.Errorf("Submit with a wrong %s = %v", field, err)
			}
		}
		for _, inputs := range [][]string{nil, {"\x00"}, make([]string, taskapi.MaxInputs+1)} {
			if _, err := b.Submit(t.Context(), me, orchestrator.Spec{Kind: worker.Embedding, Model: "sim-8b", Inputs: inputs}); err == nil {
				t.Errorf("Submit of %d inputs was accepted", len(inputs))
			}
		}
	})
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Preset: "zero", Flavour: worker.Ollama}}, func(t *testing.T, b *bench) {
		b.as("ollama")
		acc, err := b.Submit(t.Context(), me, rerank)
		if err != nil {
			t.Fatalf("Submit: %v", err)
		}
		if got := code(t, b.read(acc.ID, 0)); got != taskapi.ModelIncompatible {
			t.Errorf("a reranking at an Ollama ended with %q, want MODEL_INCOMPATIBLE", got)
		}
	})
}

// TestChatOnlyWorker is ORC-440: a prompt also runs on a worker that only chats,
// as a message; the body of a /v1/completions call does not.
func TestChatOnlyWorker(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{Preset: "zero"}}, func(t *testing.T, b *bench) {
		b.as("llamacpp", "chat")
		acc := b.submit(orchestrator.Spec{})
		if events := b.read(acc.ID, 0); code(t, events) != "" {
			t.Errorf("events %s, want an answer", types(events))
		}
		if got := b.engines[0].Requests(); len(got) != 1 || got[0].Path != "/v1/chat/completions" {
			t.Errorf("the engine was asked %+v, want a chat", got)
		}
		if acc, err := b.Submit(t.Context(), me, rawSpec(1)); err == nil {
			if c := code(t, b.read(acc.ID, 0)); c == "" {
				t.Error("a body for /v1/completions ran on a worker that only chats")
			}
		}
		if got := b.engines[0].Requests(); len(got) != 1 {
			t.Errorf("the engine was asked %d times, want once", len(got))
		}
	})
}

// TestTruncatedByEngine is ORC-440: an Ollama that cut the prompt without a word
// is a warning at the end.
func TestTruncatedByEngine(t *testing.T) {
	for prompt, want := range map[string]bool{strings.Repeat("word ", 400): true, "short": false} {
		inBubble(t, orchestrator.Config{}, []workertest.Config{{Preset: "zero", Flavour: worker.Ollama, Ctx: 64}}, func(t *testing.T, b *bench) {
			b.as("ollama")
			events := b.read(b.submit(orchestrator.Spec{Prompt: prompt, MaxTokens: 4}).ID, 0)
			var end taskapi.End
			if last := events[len(events)-1]; last.Type != orchestrator.EventEnd || json.Unmarshal(last.Data, &end) != nil {
				t.Fatalf("events %s", types(events))
			}
			if got := slices.Contains(end.Warnings, taskapi.WarningTruncatedByEngine); got != want {
				t.Errorf("a prompt of %d bytes: warnings %q with %d tokens in, want %t", len(prompt), end.Warnings, end.TokensIn, want)
			}
		})
	}
}
