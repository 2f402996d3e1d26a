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
