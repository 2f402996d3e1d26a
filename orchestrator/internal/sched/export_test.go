package sched

import (
	"slices"

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

// EventNames are the names in the table of events, sorted.
func EventNames() []string {
	var out []string
	for _, k := range eventKinds {
		out = append(out, k.name)
	}
	slices.Sort(out)
	return out
}

// EffectNames are the names in the table of effects, sorted.
func EffectNames() []string {
	var out []string
	for _, k := range effectKinds {
		out = append(out, k.name)
	}
	slices.Sort(out)
	return out
}
