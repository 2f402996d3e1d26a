package sched

import (
	"github.com/llorch/llorch/orchestrator/internal/exec"
)

// refuse begins the shutdown: waiting tasks are left to a durable store, else ended.
func (c *Core) refuse(durable bool) {
	c.refusing, c.durable = true, durable
	for _, t := range c.sorted() {
		if t.phase == waiting || t.phase == backoff {
			c.release(t)
		}
	}
}

// release gives up a waiting task during the shutdown.
func (c *Core) release(t *task) {
	if c.durable && !t.Ephemeral {
		c.emit(Leave{t.ID})
		c.forget(t)
		return
	}
	c.terminal(t, "SHUTTING_DOWN", Shutdown, "")
}

// cut stops what still runs.
func (c *Core) cut(now Instant) {
	for _, t := range c.sorted() {
		if t.phase == running && t.stop == "" {
			t.stop = Shutdown
			c.timers.set(t, now+Instant(c.cfg.CancelAfter))
			c.emit(StopRun{t.ID, t.attempt, Shutdown})
		}
	}
}

// afterCut ends an attempt that the shutdown stopped: a task that published
// nothing stays in a durable store.
func (c *Core) afterCut(t *task, r Result) {
	switch {
	case r.Class == exec.OK:
		c.terminal(t, "", "", "")
	case r.Emitted:
		c.terminal(t, "WORKER_RESET", Shutdown, exec.Reset)
	default:
		c.release(t)
	}
}
