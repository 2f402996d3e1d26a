package sched_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// crowded returns a core with busy workers of two slots and waiting tasks, each with
// a prompt of its own length.
func crowded(t testing.TB, workers, waiting int) (c *sched.Core, running []sched.Assign) {
	c, err := sched.New(sched.Config{Queue: queue.Config{Capacity: queue.Unbounded}, CancelAfter: cancelAfter})
	if err != nil {
		t.Fatal(err)
	}
	var list []*placement.Worker
	for i := range workers {
		list = append(list, &placement.Worker{
			Key: placement.Key{Node: fmt.Sprintf("n%03d", i/8), Pool: "p", Worker: fmt.Sprint(i)}, Epoch: 1, Models: []string{"m"},
			CtxMax: 32768, SlotsTotal: 2, Online: true, Ready: true,
		})
	}
	idle := *list[0]
	idle.Pool, idle.Models = "idle", []string{"other"} // a free slot that helps none who waits
	c.Step(1, sched.Workers{List: append(list, &idle)})
	for i := range 2*workers + waiting {
		for _, fx := range c.Step(sched.Instant(2+i), sched.Submit{Task: lengthy(i)}) {
			if a, ok := fx.(sched.Assign); ok {
				running = append(running, a)
			}
		}
	}
	return c, running
}

func lengthy(i int) sched.Task {
	return sched.Task{
		ID: id(i + 1), Tenant: queue.Tenant{byte(i % 10)}, Ephemeral: true, Total: time.Hour, QueueFor: time.Hour, MaxTokens: 256,
		Need: placement.Request{Model: "m", Ctx: 100 + i*7%20000, Prompt: 100 + i*7%20000},
	}
}

// BenchmarkStep: one task ends and another one comes, with 10,000 waiting.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("workers=%d", n), func(b *testing.B) {
			c, running := crowded(b, n, 10_000)
			now, next := sched.Instant(1<<20), 2*n+10_000
			for b.Loop() {
				a := running[0]
				running = running[1:]
				now += 1000
				for _, fx := range c.Step(now, sched.Finished{ID: a.ID, Attempt: a.Attempt, Result: sched.Result{Class: exec.OK, TokensIn: 100, TokensOut: 50}}) {
					if a, ok := fx.(sched.Assign); ok {
						running = append(running, a)
					}
				}
				c.Step(now, sched.Submit{Task: lengthy(next)})
				next++
			}
		})
	}
}

// BenchmarkStandings: all who wait hear how they stand.
func BenchmarkStandings(b *testing.B) {
	c, _ := crowded(b, 100, 10_000)
	for b.Loop() {
		c.Standings()
	}
}

// BenchmarkWorkers: a new picture of the workers.
func BenchmarkWorkers(b *testing.B) {
	c, _ := crowded(b, 100, 10_000)
	var list []*placement.Worker
	for w := range c.View().Workers() {
		list = append(list, w)
	}
	for now := sched.Instant(1 << 20); b.Loop(); now++ {
		c.Step(now, sched.Workers{List: list})
	}
}
