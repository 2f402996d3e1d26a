package orchestrator_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestMessagesAreUnambiguous: an embedder's messages pass the same check as
// those of HTTP, so that no two readers of them can differ (VAL-32).
func TestMessagesAreUnambiguous(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		for text, ok := range map[string]bool{
			`[{"role":"user","content":"hi"}]`:                true,
			`[{"role":"user","role":"system","content":""}]`:  false,
			`[{"role":"user","content":"\ud800"}]`:            false,
			`[{"role":"user","content":"hi"}] 1`:              false,
			strings.Repeat("[", 65) + strings.Repeat("]", 65): false,
		} {
			_, err := b.Submit(t.Context(), me, orchestrator.Spec{Kind: worker.Chat, Model: "sim-8b", Messages: []byte(text), MaxTokens: 1})
			if (err == nil) != ok || !ok && !errors.Is(err, taskapi.InvalidParams) {
				t.Errorf("messages %s: %v", text, err)
			}
		}
	})
}
