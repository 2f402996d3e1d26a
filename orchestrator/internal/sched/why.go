package sched

import (
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Pending is how a waiting task stands.
type Pending struct {
	Reason  string // as in the explanation
	Ahead   int
	StartIn time.Duration // predicted
	Band    time.Duration // ± of StartIn
	Model   string        // that is being loaded for it; "" = none
	Phase   string        // of the load
	Bytes   int64         // loaded so far
	Total   int64         // −1 unknown
}

// The reasons for which a task waits (ORC-310). no_worker is followed by the binding
// filter, and placement has the sentence.
const (
	whyPersisting = "persisting"
	whyBackoff    = "backoff"
	whyQuota      = "quota"
	whyLoading    = "model_loading"
	whyShare      = "fair_share"
	whySlot       = "slot"
	whyVRAM       = "vram"
	whyQuarantine = "quarantine"
	whyNoWorker   = "no_worker:"
)

var sentences = [...]struct{ reason, words string }{
	{whyPersisting, "The task is being stored."},
	{whyBackoff, "The last attempt failed; the next one follows after a pause."},
	{whyQuota, "The tenant has all the slots that its quota allows; the task starts when one of its tasks ends."},
	{whyShare, "Every slot for it is taken, and other tasks go first: they came earlier, have a higher class, or their tenant had less so far."},
	{whySlot, "Every slot of the workers that serve the model is taken; the task starts when one is free."},
	{whyVRAM, "No worker that could load the model has the memory for it now."},
	{whyQuarantine, "The workers that serve the model failed calls; they are tried again after a pause."},
}

// Why explains where a task went or would go now, or why it waits; false if the
// core does not hold it.
func (c *Core) Why(id queue.ID) (placement.Explanation, bool) {
	t, ok := c.tasks[id]
	if !ok {
		return placement.Explanation{}, false
	}
	e := placement.Explain(c.view, c.need(t), c.policy)
	if t.phase == running {
		return e, true
	}
	e.Winner, e.RunnerUp, e.Reason = "", "", c.reason(t)
	for _, s := range sentences {
		if s.reason == e.Reason {
			e.Words = s.words
		}
	}
	if e.Reason == whyLoading {
		e.Words = c.loadWords(t)
	}
	return e, true
}

// Pending tells how a task that waits stands; false if it does not wait here.
func (c *Core) Pending(id queue.ID) (Pending, bool) {
	t := c.tasks[id]
	if t == nil || t.phase == running {
		return Pending{}, false
	}
	p := Pending{Reason: c.reason(t), Total: -1}
	p.Ahead, _ = c.queue.Position(id)
	p.StartIn, p.Band = c.startIn(t)
	if i := c.coming(c.request(t.item.Key)); i >= 0 && p.Reason == whyLoading {
		l := c.loads[i]
		p.Model, p.Phase, p.Bytes, p.Total = l.Model, l.Phase, l.Bytes, l.Total
	}
	return p, true
}

// reason names the one thing that a task waits for.
func (c *Core) reason(t *task) string {
	switch t.phase {
	case placed:
		return whyPersisting
	case backoff:
		return whyBackoff
	}
	if c.tenants.busy[t.Tenant].held {
		return whyQuota
	}
	need := c.need(t)
	d, r := placement.Look(c.view, need, c.policy), &need
	switch {
	case d.Worker != nil:
		return whyShare
	case d.Load != nil || !c.loaded(r) && c.coming(r) >= 0:
		return whyLoading
	}
	switch d.Filter {
	case "slots":
		if ahead, _ := c.queue.Position(t.ID); ahead > 0 {
			return whyShare
		}
		return whySlot
	case "memory", "vram":
		return whyVRAM
	case "quarantine":
		return whyQuarantine
	case "":
		return whyNoWorker + "empty"
	}
	return whyNoWorker + d.Filter
}

func (c *Core) loadWords(t *task) string {
	i := c.coming(c.request(t.item.Key))
	switch {
	case i < 0:
		return "No worker has the model loaded; its load begins when a worker may take it."
	case c.loads[i].Total > 0:
		return fmt.Sprintf("The model is being loaded: %d of %d MiB.", c.loads[i].Bytes>>20, c.loads[i].Total>>20)
	}
	return "The model is being loaded."
}
