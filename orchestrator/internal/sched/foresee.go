package sched

import (
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Foresight is what would happen to a task.
type Foresight struct {
	Why         placement.Explanation
	Ahead       int
	Start, Band time.Duration
}

// Foresee tells where a task would go now and what waits before it, and changes
// nothing.
func (c *Core) Foresee(now Instant, in Task) (out Foresight) {
	last := c.keys.last
	t := &task{Task: in, phase: placed, arrived: now, attempt: in.Attempt, wakeAt: -1}
	t.item = c.itemOf(t, now)
	out.Why = placement.Explain(c.view, c.need(t), c.policy)
	out.Why.At = int64(now)
	out.Ahead = c.queue.Before(t.item)
	out.Start, out.Band = c.startIn(t)
	c.keys.drop(t.item.Key)
	c.keys.last = last
	return out
}

// TenantStand is how a tenant stands.
type TenantStand struct {
	queue.TenantState
	Running int
}

// Stand is a picture of the queue.
type Stand struct {
	Waiting [2]int // by class
	Bytes   int64
	Oldest  Instant       // when the oldest waiting task came; 0 = none waits
	Tenants []TenantStand // those with places by id, then the others, longest idle first
}

// Stand returns how the queue stands.
func (c *Core) Stand() (s Stand) {
	s.Waiting = [2]int{c.Depth(queue.Interactive), c.Depth(queue.Batch)}
	s.Bytes = c.queue.Bytes()
	for _, it := range c.queue.All() {
		if s.Oldest == 0 || it.Arrived < s.Oldest {
			s.Oldest = it.Arrived
		}
	}
	for _, t := range c.queue.Tenants() {
		x := TenantStand{TenantState: t}
		if b := c.tenants.busy[t.ID]; b != nil {
			x.Running = b.running
		}
		s.Tenants = append(s.Tenants, x)
	}
	return s
}
