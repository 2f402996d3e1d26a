package sched

import (
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// RunningOf returns the slots that a tenant holds, by the reservations.
func (c *Core) RunningOf(id queue.Tenant) (n int) {
	for _, t := range c.sorted() {
		if t.Tenant == id && t.phase == running {
			n++
		}
	}
	return n
}

// Closed reports whether every key that is thought to be closed is.
func (c *Core) Closed() bool {
	for _, t := range c.sorted() {
		k := c.keys.byID[t.item.Key]
		if d := placement.Look(c.view, *c.request(k.id), c.policy); k.closed == [2]uint64{c.gen, c.view.Opened()} && (d.Worker != nil || d.Load != nil) {
			return false
		}
	}
	return true
}

// Held returns the entries of every table of the core.
func (c *Core) Held() (tasks, keys, timers, reservations int) {
	return len(c.tasks) + len(c.tenants.busy) + len(c.sick) + len(c.loads), len(c.keys.byText) + len(c.keys.byID), len(c.timers), c.Running()
}

// Virtual returns the virtual time of a tenant.
func (c *Core) Virtual(id queue.Tenant, class queue.Class) int64 { return c.queue.Virtual(id, class) }

// IdleTenants returns how many tenants without tasks have rules here.
func (c *Core) IdleTenants() int { return len(c.tenants.idle.byKey) }

// Sessions returns how many sessions are remembered.
func (c *Core) Sessions() int { return len(c.sessions.byKey) }

// BoundSessions sets how many sessions are remembered and returns the bound before.
func (c *Core) BoundSessions(n int) int {
	before := c.sessions.max
	c.sessions.max = n
	return before
}

// KeyText spells a set of requirements.
func KeyText(r placement.Request) string { return keyText(r) }

// Smooth returns the mean and the deviation after some values.
func Smooth(values ...int64) (mean, dev int64) {
	var f figure
	for _, x := range values {
		f.add(x)
	}
	return f.Mean, f.Dev
}

// Learned returns how many classes of workers and models something is known of.
func (c *Core) Learned() (speeds, shapes int) {
	return len(c.est.speeds.byKey), len(c.est.shapes.byKey)
}

// Output predicts the tokens that a task puts out.
func (c *Core) Output(t Task) int64 { return c.est.output(&task{Task: t}).Mean }

// Rates returns what placement is told of a worker.
func (c *Core) Rates(model string, w *placement.Worker) placement.Rates {
	return c.est.rates(model, w)
}

// Isqrt returns ⌊√x⌋.
func Isqrt(x uint64) uint64 { return isqrt(x) }
