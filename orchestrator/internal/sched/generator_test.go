package sched_test

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// generator draws events that an executor could send, in any order.
type generator struct {
	t     *rapid.T
	now   sched.Instant
	tasks int
	runs  []sched.Assign // whose Finished is owed
}

func (g *generator) config() sched.Config {
	policy := rapid.SampledFrom([]queue.Policy{queue.Reject, queue.DropLRU, queue.Shed}).Draw(g.t, "policy")
	return sched.Config{Queue: queue.Config{Capacity: capacity, Policy: policy}, CancelAfter: cancelAfter, Seed: 7}
}

func (g *generator) see(fx []sched.Effect) {
	for _, f := range fx {
		if a, ok := f.(sched.Assign); ok {
			g.runs = append(g.runs, a)
		}
	}
}

func (g *generator) task() sched.Task {
	t := g.t
	g.tasks++
	return sched.Task{
		ID: id(g.tasks), Tenant: queue.Tenant{byte(rapid.IntRange(0, 2).Draw(t, "tenant"))}, Class: queue.Class(rapid.IntRange(0, 1).Draw(t, "class")),
		Session: sched.Ref{byte(rapid.IntRange(0, 2).Draw(t, "session"))}, Subject: sched.Ref{byte(rapid.IntRange(1, 2).Draw(t, "subject"))},
		Need: placement.Request{Model: rapid.SampledFrom([]string{"m", "m", "o"}).Draw(t, "model"), Prompt: 10, Expected: 20},
		Cost: int64(rapid.IntRange(0, 50).Draw(t, "cost")) * 1000, Bytes: 10, MaxTokens: 20, Total: total, Ephemeral: rapid.Bool().Draw(t, "ephemeral"),
	}
}

func (g *generator) any() queue.ID { return id(rapid.IntRange(1, max(1, g.tasks)).Draw(g.t, "id")) }

func (g *generator) workers() sched.Workers {
	var list []*placement.Worker
	for i := range 3 {
		w := engine(fmt.Sprint(i), 2)
		w.Epoch = uint64(rapid.IntRange(1, 2).Draw(g.t, "epoch"))
		w.OnDisk = []placement.OnDisk{{Model: "o", Need: 1 << 30, Fits: 1}}
		w.SlotsBusy = rapid.IntRange(0, 2).Draw(g.t, "busy")
		if rapid.IntRange(0, 3).Draw(g.t, "up") > 0 {
			list = append(list, w)
		}
	}
	return sched.Workers{List: list}
}

// next moves the clock and draws an event.
func (g *generator) next() sched.Event {
	t := g.t
	g.now += sched.Instant(rapid.Int64Range(1, int64(3*time.Second)).Draw(t, "d"))
	key := placement.Key{Node: "n", Pool: "p", Worker: fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "worker"))}
	switch rapid.IntRange(0, 13).Draw(t, "event") {
	case 0, 1, 2:
		return sched.Submit{Task: g.task()}
	case 3, 4:
		return sched.Persisted{ID: g.any()}
	case 5:
		return sched.Withdrawn{ID: g.any()}
	case 6, 7:
		return g.workers()
	case 8, 9:
		if len(g.runs) == 0 {
			return sched.Tick{}
		}
		i := rapid.IntRange(0, len(g.runs)-1).Draw(t, "run")
		a := g.runs[i]
		g.runs = append(g.runs[:i], g.runs[i+1:]...)
		class := rapid.SampledFrom([]exec.Class{exec.OK, exec.OK, exec.Connect, exec.Reset, exec.Overload, exec.Store}).Draw(t, "class")
		return sched.Finished{ID: a.ID, Attempt: a.Attempt, Result: sched.Result{
			Class: class, TokensIn: 10, TokensOut: rapid.IntRange(0, 40).Draw(t, "out"), First: time.Second, Decode: time.Second,
		}}
	case 10:
		return sched.Cancel{ID: g.any(), Reason: sched.Client}
	case 11:
		return rapid.SampledFrom([]sched.Event{
			sched.Probed{Worker: key, OK: true},
			sched.Probed{Worker: key},
			sched.Loading{Worker: key, Model: "o", Bytes: int64(g.now), Total: -1, Phase: "load"},
			sched.Loading{Worker: key, Model: "o", Done: true},
			sched.Loading{Worker: key, Model: "o", Done: true, Fail: "INTERNAL"},
			sched.Progress{ID: id(1), Tokens: 3},
			sched.Tenant{ID: queue.Tenant{1}, Rules: sched.Rules{Weight: 3, MaxRunning: 1, Wait: true}},
			sched.Policy{Policy: placement.Policy{Strategy: "most-vram-free"}},
			sched.Policy{Policy: placement.Policy{Strategy: "round-robin", TieRule: "rotate"}},
		}).Draw(t, "other")
	case 12:
		return sched.Recovered{Task: g.task()}
	}
	return sched.Tick{}
}
