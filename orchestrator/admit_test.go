package orchestrator_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
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

// TestDuplicateWhileDraining: a request under an id or key that was used gets the
// first answer if it is the same, also while the program drains, and CONFLICT if it
// is another; the record stays what it was (ORC-246).
func TestDuplicateWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := new(workertest.Net)
		e := start(t, net, workertest.Config{Tokens: 100})
		o, stop := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Timing: orchestrator.Timing{Drain: time.Hour}, Tenants: one(orchestrator.TenantPolicy{TokensPerDay: 250})})
		byID, byKey := fill(orchestrator.Spec{ID: orchestrator.TaskID{9}, MaxTokens: 100, Keep: true}), fill(orchestrator.Spec{Key: "k", MaxTokens: 100, Keep: true})
		first, err := o.Submit(t.Context(), me, byID)
		if err != nil {
			t.Fatal(err)
		}
		keyed, err := o.Submit(t.Context(), me, byKey)
		if err != nil {
			t.Fatal(err)
		}
		before, err := o.Task(t.Context(), me, first.ID)
		if err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			for _, c := range []struct {
				spec orchestrator.Spec
				id   orchestrator.TaskID
			}{{byID, first.ID}, {byKey, keyed.ID}} {
				if again, err := o.Submit(t.Context(), me, c.spec); err != nil || !again.Duplicate || again.ID != c.id {
					t.Errorf("%s: again = %+v, %v; want the first answer: it costs nothing of the day", when, again, err)
				}
				c.spec.Prompt = "other"
				want := error(taskapi.Conflict)
				if when == "draining" {
					want = taskapi.ShuttingDown
				}
				if _, err := o.Submit(t.Context(), me, c.spec); !errors.Is(err, want) {
					t.Errorf("%s: other content = %v, want %v", when, err, want)
				}
			}
		}
		check("running")
		if after, err := o.Task(t.Context(), me, first.ID); err != nil || after.BodyHash != before.BodyHash || after.Seq != before.Seq {
			t.Errorf("the record changed: %+v, %v", after, err)
		}
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = stop() }()
		synctest.Wait()
		check("draining")
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Key: "new"})); !errors.Is(err, taskapi.ShuttingDown) {
			t.Errorf("a new task while draining = %v", err)
		}
		<-stopped
		if got := e.Stats().Arrived; got != 2 {
			t.Errorf("%d requests at the engine, want 2", got)
		}
	})
}

// TestOneRunOfManyEqual: of equal requests that race, one runs (ORC-246).
func TestOneRunOfManyEqual(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				s := fill(orchestrator.Spec{Key: "k"})
				if i%2 == 0 {
					s = fill(orchestrator.Spec{ID: orchestrator.TaskID{3}})
				}
				if _, err := b.Submit(t.Context(), me, s); err != nil {
					t.Errorf("Submit = %v", err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		if got := b.engines[0].Stats().Arrived; got != 2 {
			t.Errorf("%d requests at the engine, want one for the key and one for the id", got)
		}
	})
}

// TestDeadlineRefusal: a deadline that the load makes impossible is refused with the
// terms, and may be tried again; one that is past may not (ORC-250, 251, 254).
func TestDeadlineRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fake("a", 1)
		w.TokensPerS = 10_000 // 100 ms a token
		o, _ := serve(t, orchestrator.Config{Pools: over(w), Workers: adapter{silent}, Timing: orchestrator.Timing{FirstToken: time.Hour, Interactive: time.Hour, Max: time.Hour}})
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Expected: 20, Keep: true})); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		late := fill(orchestrator.Spec{Expected: 20, Deadline: time.Now().Add(time.Second)})
		e := refusedWith(t, o, late, taskapi.DeadlineUnmet)
		terms, _ := e.Details["terms"].(map[string]int64)
		earliest, _ := e.Details["earliest_finish_ms"].(int64)
		short, _ := e.Details["shortfall_ms"].(int64)
		if !e.Retriable || e.RetryAfter < 225*time.Millisecond || terms["decode_ms"] < 1900 || terms["queue_ms"] <= 0 || earliest != short+1000 {
			t.Errorf("refused with %+v %v", e, e.Details)
		}
		late.Deadline = time.Now().Add(-time.Second)
		if e := refusedWith(t, o, late, taskapi.DeadlineUnmet); e.Retriable || e.Details["exceeded_by_ms"] != int64(1000) {
			t.Errorf("past: refused with %+v", e)
		}
		late.Deadline = time.Now().Add(time.Hour)
		if acc, err := o.Submit(t.Context(), me, late); err != nil || acc.StartIn <= 0 || acc.Band <= 0 || acc.BudgetLeft != -1 {
			t.Errorf("far enough: %+v, %v; want a prediction with its band", acc, err)
		}
	})
}

// TestPinsOfOperators: where only operators may pin, others hear INVALID_PARAMS; what
// is preferred or avoided is nobody's pin (ORC-302).
func TestPinsOfOperators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 4)), Workers: adapter{silent}, Admission: orchestrator.Admission{NoPins: true}})
		admin := me
		admin.Roles |= orchestrator.RoleOperator
		for _, c := range []struct {
			p     orchestrator.Principal
			place placement.Constraints
			want  error
		}{
			{me, placement.Constraints{Pool: "p"}, taskapi.InvalidParams}, {me, placement.Constraints{Node: "n"}, taskapi.InvalidParams},
			{me, placement.Constraints{Mode: taskapi.ModePin, Worker: "a"}, taskapi.InvalidParams}, {admin, placement.Constraints{Pool: "p"}, nil},
			{me, placement.Constraints{Mode: taskapi.ModePrefer, Prefer: []string{"p"}}, nil}, {me, placement.Constraints{Avoid: []string{"q"}}, nil},
		} {
			if _, err := o.Submit(t.Context(), c.p, fill(orchestrator.Spec{Place: c.place})); !errors.Is(err, c.want) {
				t.Errorf("%+v: %v, want %v", c.place, err, c.want)
			}
		}
	})
}

// TestRegionsIntersect: a task may only go where installation, tenant and request all
// allow; lists that have nothing in common allow nothing, not everything (ORC-240
// check 12, ORC-247, ORC-301).
func TestRegionsIntersect(t *testing.T) {
	list := func(names ...string) []poolregistry.Region {
		out := make([]poolregistry.Region, len(names))
		for i, n := range names {
			out[i], _ = poolregistry.ParseRegion(n)
			if n == "EU" {
				out[i] = poolregistry.Region{Group: "EU"}
			}
		}
		return out
	}
	for _, c := range []struct {
		house, tenant, request []poolregistry.Region
		want                   error
	}{
		{nil, nil, nil, nil},
		{nil, list("EU"), list("DE"), nil},
		{list("DE"), list("EU"), nil, nil},
		{nil, list("FR"), list("EU"), taskapi.NoRegionWorkerAvailable},
		{nil, list("FR"), list("DE"), taskapi.NoRegionWorkerAvailable},
		{list("DE"), list("FR"), nil, taskapi.NoRegionWorkerAvailable},
		{nil, list(), nil, taskapi.NoRegionWorkerAvailable},
		{nil, nil, list(), taskapi.NoRegionWorkerAvailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := fake("a", 1)
			w.Country, w.Group = "DE", "EU"
			a := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) { return tokens(2), nil }}
			o, _ := serve(t, orchestrator.Config{Pools: over(w), Workers: a, Residency: c.house, Tenants: one(orchestrator.TenantPolicy{Regions: c.tenant})})
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Regions: c.request}))
			if !errors.Is(err, c.want) {
				t.Fatalf("%v ∩ %v ∩ %v: %v, want %v", c.house, c.tenant, c.request, err, c.want)
			}
			if err == nil {
				if _, code := ends(t, o, acc.ID); code != "" {
					t.Errorf("%v ∩ %v ∩ %v: ended with %q", c.house, c.tenant, c.request, code)
				}
			}
		})
	}
}

// TestLimitsOfShape: each limit of ORC-241 at its edge and one above it; nothing is
// cut to fit, and the answer names the field and never its content.
func TestLimitsOfShape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fake("a", 1)
		w.CtxMax = 0
		o, _ := serve(t, orchestrator.Config{Pools: over(w), Workers: adapter{silent}, Queue: queue.Config{Capacity: queue.Unbounded}})
		long := strings.Repeat("x", 1<<20)
		for _, c := range []struct {
			field string
			ok    orchestrator.Spec
			bad   orchestrator.Spec
		}{
			{"prompt", orchestrator.Spec{Prompt: long}, orchestrator.Spec{Prompt: long + "x"}},
			{"prompt", orchestrator.Spec{Prompt: "\x1b[0m\x01"}, orchestrator.Spec{Prompt: "a\x00"}},
			{"max_tokens", orchestrator.Spec{MaxTokens: 50_000}, orchestrator.Spec{MaxTokens: 50_001}},
			{"ctx", orchestrator.Spec{Ctx: 1_048_576}, orchestrator.Spec{Ctx: 1_048_577}},
			{"idempotency_key", orchestrator.Spec{Key: long[:128]}, orchestrator.Spec{Key: long[:129]}},
			{"idempotency_key", orchestrator.Spec{Key: "a~"}, orchestrator.Spec{Key: "ä"}},
			{"placement.avoid", orchestrator.Spec{Place: placement.Constraints{Avoid: make([]string, 64)}}, orchestrator.Spec{Place: placement.Constraints{Avoid: make([]string, 65)}}},
			{"placement.prefer", orchestrator.Spec{Place: placement.Constraints{Prefer: make([]string, 64)}}, orchestrator.Spec{Place: placement.Constraints{Prefer: make([]string, 65)}}},
			{"stop", orchestrator.Spec{Params: worker.Params{Stop: slices.Repeat([]string{long[:256]}, 16)}}, orchestrator.Spec{Params: worker.Params{Stop: []string{long[:257]}}}},
			{"stop", orchestrator.Spec{}, orchestrator.Spec{Params: worker.Params{Stop: make([]string, 17)}}},
			{"purposes", orchestrator.Spec{}, orchestrator.Spec{Purposes: make([]string, 17)}},
			{"regions", orchestrator.Spec{}, orchestrator.Spec{Regions: make([]poolregistry.Region, 65)}},
			{"session_id", orchestrator.Spec{Session: "a.b_c-1"}, orchestrator.Spec{Session: "a b"}},
			{"expected_tokens", orchestrator.Spec{Expected: 50_000}, orchestrator.Spec{Expected: -1}},
		} {
			if _, err := o.Submit(t.Context(), me, fill(c.ok)); err != nil {
				t.Errorf("%s at its limit: %v", c.field, err)
			}
			if e := refusedWith(t, o, fill(c.bad), taskapi.InvalidParams); e.Details["field"] != c.field {
				t.Errorf("%s above its limit: %v", c.field, e.Details)
			}
		}
	})
}

// TestAnswerFitsContext: without a wish the answer may have 2,048 tokens, or what the
// context leaves (ORC-241).
func TestAnswerFitsContext(t *testing.T) {
	for _, c := range []struct{ ctx, want int }{{8192, 2048}, {1000, 999 - 100*10/36}, {0, 2048}} {
		synctest.Test(t, func(t *testing.T) {
			w := fake("a", 1)
			w.CtxMax = c.ctx
			got := make(chan int, 1)
			a := adapter{func(_ context.Context, _ worker.Target, j *worker.Job) (worker.Stream, error) {
				got <- j.MaxTokens
				return tokens(2), nil
			}}
			o, _ := serve(t, orchestrator.Config{Pools: over(w), Workers: a})
			if _, err := o.Submit(t.Context(), me, orchestrator.Spec{Model: "sim-8b", Prompt: strings.Repeat("a", 100)}); err != nil {
				t.Fatal(err)
			}
			if n := <-got; n != c.want {
				t.Errorf("context %d: the answer may have %d tokens, want %d", c.ctx, n, c.want)
			}
		})
	}
}
