package sched

import (
	"slices"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// maxTokens bounds what an engine is believed to have used: what it says is neither
// learned nor charged beyond.
const maxTokens = 1 << 24

// finished takes the slot back and decides what follows. The end that was
// decided first stands: a stop before this event beats the result (ORC-561).
func (c *Core) finished(now Instant, e Finished) {
	for _, n := range [...]*int{&e.Result.TokensIn, &e.Result.TokensOut} {
		*n = min(max(0, *n), maxTokens)
	}
	if !c.view.Release(e.ID, e.Attempt) {
		c.dupes++
		return
	}
	t := c.tasks[e.ID]
	if t == nil || t.phase != running || t.attempt != e.Attempt {
		return
	}
	if t.stop == "" {
		c.heard(now, t, e.Result.Class)
	}
	c.stand(now, t)
	switch {
	case t.stop == Shutdown:
		c.afterCut(t, e.Result)
	case t.stop != "" && t.stop != Lost:
		c.settle(t, e.Result)
		c.terminal(t, t.code, t.stop, "") // the worker is not at fault
	case e.Result.Class == exec.OK:
		c.learn(now, t, e.Result)
		c.settle(t, e.Result)
		c.terminal(t, "", "", "")
	default:
		c.failed(now, t, e.Result)
	}
}

// failed puts the task back or ends it.
func (c *Core) failed(now Instant, t *task, r Result) {
	if t.stop == Lost {
		r.Class, t.stop = exec.Reset, ""
	}
	if r.Class != exec.Store && !slices.Contains(t.tried, t.worker) {
		t.tried = append(t.tried, t.worker)
	}
	d := placement.Decide(c.view, c.need(t), c.policy)
	v := exec.Next(exec.Attempt{
		N: t.attempt - t.Attempt + t.loads, Class: r.Class, Emitted: r.Emitted, Seed: seed(t.ID), RetryAfter: r.RetryAfter,
		Others: d.Worker != nil && !slices.Contains(t.tried, d.Worker.Key), Left: t.left(now),
	})
	if !v.Retry {
		if v.Spent && c.exhausted(t) {
			v.Code = "REPLICA_EXHAUSTED"
		}
		c.settle(t, r)
		c.terminal(t, v.Code, "", r.Class)
		return
	}
	c.emit(Retry{t.ID, t.attempt, r.Class, v.After})
	c.queue.Return(t.item)
	if c.refusing {
		c.release(t)
		return
	}
	t.phase, t.resume = backoff, now+Instant(v.After)
	if v.After == 0 {
		t.phase = waiting
		c.queue.Open(t.ID)
	}
	c.arm(t)
}

// exhausted reports whether the task may only use one pool, and every worker of
// that pool has failed it.
func (c *Core) exhausted(t *task) bool {
	p := &t.Need.Place
	return p.Pool != "" && p.Mode != "prefer" && !c.any(func(w *placement.Worker) bool {
		return w.Pool == p.Pool && (p.Node == "" || w.Node == p.Node) && !slices.Contains(t.tried, w.Key)
	})
}

// cancelAll ends the tasks of a person.
func (c *Core) cancelAll(now Instant, e CancelAll) {
	for _, t := range c.sorted() {
		if t.Subject == e.Subject {
			c.cancel(now, t.ID, e.Reason, "CANCELLED")
		}
	}
}

// cancel ends a task: at once if it waits, else when its attempt has stopped.
func (c *Core) cancel(now Instant, id queue.ID, why Reason, code string) {
	t := c.tasks[id]
	switch {
	case t == nil:
	case t.phase == placed: // the store is asked right now: it ends when that is over
		t.stop, t.code = why, code
		c.timers.set(t, 0)
	case t.phase != running:
		c.terminal(t, code, why, "")
	case t.stop == "" || t.stop == Lost:
		t.stop, t.code = why, code
		c.timers.set(t, now+Instant(c.cfg.CancelAfter))
		c.emit(StopRun{t.ID, t.attempt, why})
	}
}

// tick handles every timer that is over.
func (c *Core) tick(now Instant) {
	for t := c.timers.due(now); t != nil; t = c.timers.due(now) {
		switch {
		case t.phase == running && t.stop != "":
			// The attempt did not end in time: give the slot back by force.
			c.view.Release(t.ID, t.attempt)
			c.stand(now, t)
			c.forced(t)
		case now >= t.expiry():
			why, code := c.expired(now, t)
			c.cancel(now, t.ID, why, code)
		case !t.warned && now >= t.warning():
			t.warned = true
			c.emit(Note{Kind: "deadline_warning", ID: t.ID, For: t.left(now)})
			c.arm(t)
		case t.phase == running:
			c.miss(now, t)
		default:
			t.phase = waiting
			c.queue.Open(t.ID)
			c.arm(t)
		}
	}
}

// forced ends a task whose attempt did not answer its StopRun.
func (c *Core) forced(t *task) {
	switch t.stop {
	case Shutdown:
		c.afterCut(t, Result{Class: exec.Reset, Emitted: true})
	case Lost:
		c.terminal(t, "WORKER_RESET", "", exec.Reset)
	default:
		c.terminal(t, t.code, t.stop, "")
	}
}

func (c *Core) terminal(t *task, code string, why Reason, class exec.Class) {
	c.emit(Terminal{t.ID, t.attempt, code, why, class})
	c.forget(t)
}

// forget drops every trace of a task but its reservation.
func (c *Core) forget(t *task) {
	c.queue.Remove(t.ID)
	c.timers.set(t, 0)
	c.keys.drop(t.item.Key)
	c.leave(t.Tenant)
	delete(c.tasks, t.ID)
}
