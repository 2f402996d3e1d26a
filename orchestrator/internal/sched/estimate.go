package sched

import (
	"time"

	"github.com/llorch/llorch/orchestrator/queue"
)

// estimate is a mean with the weight 1/8 for each new value, as in RFC 6298; it
// starts at two seconds.
type estimate struct{ mean time.Duration }

const startMean = 2 * time.Second

func (e *estimate) add(d time.Duration) {
	if e.mean == 0 {
		e.mean = startMean
	}
	e.mean += (max(0, d) - e.mean) / 8
}

func (e *estimate) value() time.Duration {
	if e.mean == 0 {
		return startMean
	}
	return e.mean
}

// learn takes what an attempt that went well tells.
func (c *Core) learn(now Instant, t *task, _ Result) { c.service.add(time.Duration(now - t.began)) }

// fastest is how long the task holds a slot in the best case.
func (t *task) fastest() time.Duration { return 0 }

// startIn predicts when a task with that many tasks ahead starts: an estimate
// that takes every slot as equal.
func (c *Core) startIn(ahead int) time.Duration {
	total, free := c.view.Slots()
	if total == 0 || ahead < free {
		return 0
	}
	return c.service.value() * time.Duration(ahead-free+1) / time.Duration(total)
}

// Bounds of the hint for refused clients (ORC-254).
const (
	minHint = 250 * time.Millisecond
	maxHint = time.Minute
)

// drainHint predicts when one place of the queue is free again.
func (c *Core) drainHint() time.Duration {
	total, _ := c.view.Slots()
	return min(maxHint, max(minHint, c.service.value()/time.Duration(max(1, total))))
}

// StartIn predicts when a waiting task starts, from now.
func (c *Core) StartIn(id queue.ID) time.Duration {
	ahead, _ := c.queue.Ahead(id)
	return c.startIn(ahead)
}
