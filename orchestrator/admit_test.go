package orchestrator_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestPromptNeedsContext: the prompt's own estimate decides which context a task
// needs, also after the text has been sealed away (ORC-240 check 5).
func TestPromptNeedsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 0))}) // 8,192 tokens, about 29,500 bytes
		for _, c := range []struct {
			prompt int
			want   error
		}{{28_000, nil}, {32_000, taskapi.ContextTooLarge}} {
			_, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Prompt: strings.Repeat("a", c.prompt)}))
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("a prompt of %d bytes: %v, want %v", c.prompt, err, c.want)
			}
		}
	})
}

// TestFarDeadline: a deadline beyond what a Duration holds is met by everything.
func TestFarDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net)})
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Deadline: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}))
		if err != nil {
			t.Fatal(err)
		}
		if _, c := ends(t, o, acc.ID); c != "" {
			t.Errorf("ended with %q", c)
		}
	})
}

// TestUnknownClass: a class that does not exist is refused before the core sees it.
func TestUnknownClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 1))})
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Class: queue.Batch + 1})); !errors.Is(err, taskapi.InvalidParams) {
			t.Errorf("Submit = %v, want INVALID_PARAMS", err)
		}
	})
}

// rawSpec is a /v1 call with a body of about n bytes.
func rawSpec(n int) orchestrator.Spec {
	raw := []byte(`{"model":"sim-8b","prompt":"` + strings.Repeat("a", n) + `","max_tokens":2,"stream":true}`)
	return orchestrator.Spec{Kind: worker.Completion, Model: "sim-8b", Raw: raw, Stream: true, MaxTokens: 2, Ephemeral: true}
}

// TestBodiesForgotten: no body of an ended task is kept with its event log, and bodies that wait count against the bound of the queue (G8, ORC-201).
func TestBodiesForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) { return tokens(2), nil }}
		list := over(fake("a", 1))
		o, _ := serve(t, orchestrator.Config{Pools: list, Workers: a, Queue: queue.Config{Bytes: 10_000}})
		for _, spec := range []orchestrator.Spec{rawSpec(6000), fill(orchestrator.Spec{Prompt: strings.Repeat("a", 6000)})} {
			acc, err := o.Submit(t.Context(), me, spec)
			if err != nil {
				t.Fatal(err)
			}
			if _, c := ends(t, o, acc.ID); c != "" {
				t.Errorf("ended with %q", c)
			}
		}
		synctest.Wait()
		if s := o.Sizes(); s.Ended != 2 || s.Bodies > 100 {
			t.Errorf("%d bytes of bodies are kept for %d ended calls, want next to none for 2", s.Bodies, s.Ended)
		}
		list.set(fake("a", 0))
		synctest.Wait()
		if _, err := o.Submit(t.Context(), me, rawSpec(6000)); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Submit(t.Context(), me, rawSpec(6000)); !errors.Is(err, taskapi.QueueFull) {
			t.Errorf("a second body above the bound = %v, want QUEUE_FULL", err)
		}
	})
}

// TestDuplicateWhenFull: a request that was accepted gets its answer again when
// there is no place for it any more, and nobody makes room for it (ORC-246).
func TestDuplicateWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) { return tokens(2), nil }}
		list := over(fake("a", 1))
		o, _ := serve(t, orchestrator.Config{Pools: list, Workers: a, Queue: queue.Config{Capacity: 1, Policy: queue.DropLRU}})
		spec := fill(orchestrator.Spec{ID: orchestrator.TaskID{1}})
		acc, err := o.Submit(t.Context(), me, spec)
		if err != nil {
			t.Fatal(err)
		}
		ends(t, o, acc.ID)
		keyed, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Key: "k"}))
		if err != nil {
			t.Fatal(err)
		}
		ends(t, o, keyed.ID)
		list.set(fake("a", 0))
		time.Sleep(11 * time.Minute) // its event log is forgotten
		waits, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := o.Submit(t.Context(), me, spec); err != nil || !again.Duplicate || again.Status != "completed" {
			t.Errorf("again = %+v, %v, want the duplicate of a completed task", again, err)
		}
		if again, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Key: "k"})); err != nil || again.ID != keyed.ID || !again.Duplicate {
			t.Errorf("again under its key = %+v, %v, want the duplicate of %v", again, err, keyed.ID)
		}
		other := spec
		other.Prompt = "other"
		if _, err := o.Submit(t.Context(), me, other); !errors.Is(err, taskapi.Conflict) {
			t.Errorf("other content = %v, want CONFLICT", err)
		}
		if task, err := o.Task(t.Context(), me, waits.ID); err != nil || task.Status != "queued" {
			t.Errorf("the waiting task is %s, %v: it made room for a request that needs no place", task.Status, err)
		}
	})
}

// TestOwnTimeIsOver: a caller whose time runs out during admission hears that,
// not that the store is away.
func TestOwnTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 1))})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.Sleep(2 * time.Second)
		if _, err := o.Submit(ctx, me, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.DeadlineUnmet) {
			t.Errorf("Submit = %v, want DEADLINE_UNMET", err)
		}
	})
}
