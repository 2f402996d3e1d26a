package orchestrator_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// tokens is the stream of n tokens.
func tokens(n int) script {
	i := 0
	return func() (worker.Event, error) {
		switch i++; {
		case i <= n:
			return worker.Event{Kind: worker.Token, Text: "w "}, nil
		case i == n+1:
			return worker.Event{Kind: worker.Done, FinishReason: "stop", Usage: worker.Usage{In: 1, Out: n}}, nil
		}
		return worker.Event{}, io.EOF
	}
}

// over lists the given workers for ever.
func over(list ...*placement.Worker) *pools {
	return &pools{list: list, changed: make(chan struct{})}
}

// TestPanickingAdapter: a panic in an adapter ends that attempt: before the
// first token another worker takes the task, after it the task ends typed. The
// slot is free again, and the panic's text, which may quote a prompt, is in no
// log (ORC-400, G9).
func TestPanickingAdapter(t *testing.T) {
	for _, c := range []struct {
		name     string
		panicky  func() (worker.Stream, error)
		code     taskapi.Code
		attempts int
	}{
		{"in Start", func() (worker.Stream, error) { panic(secretPrompt) }, "", 2},
		{"before a token", func() (worker.Stream, error) {
			return script(func() (worker.Event, error) { panic(secretPrompt) }), nil
		}, "", 2},
		{"after a token", func() (worker.Stream, error) {
			one := tokens(1)
			return script(func() (worker.Event, error) {
				if e, _ := one(); e.Kind == worker.Token {
					return e, nil
				}
				panic(secretPrompt)
			}), nil
		}, taskapi.WorkerReset, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			lines, seen := new(records), new(seen)
			a := adapter{func(_ context.Context, target worker.Target, _ *worker.Job) (worker.Stream, error) {
				if target.URL == "http://a.test" {
					return c.panicky()
				}
				return tokens(3), nil
			}}
			o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 2), fake("b", 1)), Workers: a, Logger: lines.logger(), Observer: seen})
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatal(err)
			}
			if _, got := ends(t, o, acc.ID); got != string(c.code) {
				t.Errorf("%s: ended with %q, want %q", c.name, got, c.code)
			}
			if _, f := count[observe.Finished](seen); f.Attempts != c.attempts {
				t.Errorf("%s: %d attempts, want %d", c.name, f.Attempts, c.attempts)
			}
			if idle, dupes := o.CoreIdle(); !idle || dupes != 0 {
				t.Errorf("%s: idle %v, %d double releases", c.name, idle, dupes)
			}
			if strings.Contains(lines.text(), secretPrompt) {
				t.Errorf("%s: the panic's text is in the log: %s", c.name, lines.text())
			}
		})
	}
}

// TestPermitReleasedOnce: after 10,000 tasks with random cancels, panics,
// failures and hangs every slot was released, and none twice; the tables are
// back within their bounds (ORC-400, G8, TestMapsShrink).
func TestPermitReleasedOnce(t *testing.T) {
	const (
		rounds = 40
		each   = 250
	)
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(1, 2))
		draw := func(n int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(n) }
		a := adapter{func(ctx context.Context, _ worker.Target, _ *worker.Job) (worker.Stream, error) {
			switch draw(8) {
			case 0:
				panic("an adapter is broken")
			case 1:
				return nil, &worker.Failure{Class: worker.Connect, Reason: "planted"}
			case 2: // hangs until somebody stops it
				return script(func() (worker.Event, error) { <-ctx.Done(); return worker.Event{}, context.Cause(ctx) }), nil
			case 3:
				return script(func() (worker.Event, error) { panic("a stream is broken") }), nil
			}
			return tokens(draw(3)), nil
		}}
		seen := new(seen)
		o, _ := serve(t, orchestrator.Config{
			Pools: over(fake("a", 40), fake("b", 40), fake("c", 40)), Workers: a, Observer: seen, Queue: queue.Config{Capacity: queue.Unbounded},
			Timing: orchestrator.Timing{Interactive: 20 * time.Second}, Streams: orchestrator.Streams{Ended: 100},
		})
		for range rounds {
			var wg sync.WaitGroup
			for range each {
				kind := draw(10)
				wg.Go(func() {
					acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Ephemeral: kind%2 == 0, Raw: raw(kind%2 == 0)}))
					if err != nil {
						t.Errorf("Submit = %v", err)
						return
					}
					if kind < 3 {
						if err := o.Cancel(t.Context(), me, acc.ID); err != nil {
							t.Errorf("Cancel = %v", err)
						}
					}
				})
			}
			wg.Wait()
			time.Sleep(30 * time.Second) // longer than any task may last
		}
		synctest.Wait()
		if idle, dupes := o.CoreIdle(); !idle || dupes != 0 {
			t.Errorf("idle %v, %d releases of slots that were not held", idle, dupes)
		}
		if held := o.Active("n"); len(held) != 0 {
			t.Errorf("slots still held: %v", held)
		}
		if n, _ := count[observe.Finished](seen); n != rounds*each {
			t.Errorf("%d ends of %d tasks", n, rounds*each)
		}
		if s := o.Sizes(); s.Runs > 100 || s.Ended > 100 || s.Why > 10_000 || s.Order != s.Why || s.Facts != 0 {
			t.Errorf("the tables did not shrink: %+v", s)
		}
	})
}

// raw is the body of a /v1 call, or none.
func raw(ephemeral bool) []byte {
	if !ephemeral {
		return nil
	}
	return []byte(`{"model":"sim-8b","prompt":"x"}`)
}

// TestMapsShrink: after 10,000 tasks, and after their retention, nothing of
// them is left in memory (G8).
func TestMapsShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) { return tokens(2), nil }}
		ctl := &control{access: []orchestrator.WorkerAccess{{Worker: "a", URL: "http://a.test"}}}
		list := over(fake("a", 100))
		o, _ := serve(t, orchestrator.Config{Pools: list, Workers: a, Control: ctl, Queue: queue.Config{Capacity: queue.Unbounded}})
		for i := range 10_050 {
			if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Place: placement.Constraints{Avoid: []string{fmt.Sprint(i)}}})); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if s := o.Sizes(); s.Runs != 1024 || s.Ended != 1024 || s.Why != 10_000 || s.Order != 10_000 || s.Access != 1 {
			t.Errorf("after 10,050 tasks = %+v, want the bounds 1024 and 10,000", s)
		}
		list.set()
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if s := o.Sizes(); s.Runs != 0 || s.Ended != 0 || s.Bytes != 0 || s.Access != 0 {
			t.Errorf("after the retention = %+v, want no run and no access", s)
		}
		if idle, _ := o.CoreIdle(); !idle {
			t.Error("the core still holds a task")
		}
	})
}

// TestOverloadNeverTrips: four times more callers than slots on slow, healthy
// workers: all are served, and nothing is taken for broken (ORC-405 in small).
func TestOverloadNeverTrips(t *testing.T) {
	slow := workertest.Config{Slots: 8, Preset: "slow"}
	cfg := orchestrator.Config{Queue: queue.Config{Capacity: 512}, Timing: orchestrator.Timing{Interactive: 30 * time.Minute}}
	inBubble(t, cfg, []workertest.Config{slow, slow, slow, slow}, func(t *testing.T, b *bench) {
		list := make([]*placement.Worker, len(b.pools.list))
		for i, w := range b.pools.list {
			w := *w
			w.SlotsTotal = 8
			list[i] = &w
		}
		b.pools.set(list...)
		synctest.Wait()
		var ids []orchestrator.TaskID
		for range 128 {
			ids = append(ids, b.submit(orchestrator.Spec{MaxTokens: 5}).ID)
		}
		for _, id := range ids {
			if c := code(t, b.read(id, 0)); c != "" {
				t.Errorf("ended with %s", c)
			}
		}
		if n, _ := count[observe.Retried](b.seen); n != 0 {
			t.Errorf("%d attempts failed on healthy workers", n)
		}
		b.checkIdle()
	})
}

// TestBrokenStreamIsNoEnd (ORC-406, G2): a connection that ends inside an answer is
// reported as a failure that wraps io.EOF; the task did not complete.
func TestBrokenStreamIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &worker.Failure{Class: worker.Reset, Reason: "the engine's answer ended early", Err: io.EOF}
		a := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) {
			some := tokens(3)
			return script(func() (worker.Event, error) {
				if e, err := some(); err == nil && e.Kind == worker.Token {
					return e, nil
				}
				return worker.Event{}, broken
			}), nil
		}}
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 2)), Workers: a})
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, got := ends(t, o, acc.ID); got != string(taskapi.WorkerReset) {
			t.Errorf("ended with %q, want WORKER_RESET", got)
		}
	})
}
