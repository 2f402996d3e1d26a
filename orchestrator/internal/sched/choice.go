package sched

import (
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Choice is what a decision was made from: the state right before an Assign.
type Choice struct {
	At      Instant
	ID      queue.ID
	Attempt int
	View    *placement.View // read only, and only during the call
	Need    placement.Request
}

// Watch lets f see every choice of a worker before its slot is reserved, nil ends
// that. f changes nothing; it runs inside Step (ORC-133).
func (c *Core) Watch(f func(Choice)) { c.watch = f }

func (c *Core) choice(now Instant, t *task, need placement.Request) {
	if c.watch != nil {
		c.watch(Choice{now, t.ID, t.attempt, c.view, need})
	}
}
