package orchestrator

import "github.com/llorch/llorch/orchestrator/internal/sched"

// Break makes the loop panic.
func (o *Orchestrator) Break() { o.loop.ask(func(*sched.Core) { panic("planted") }) }

// Sizes are the entries of every table of an orchestrator.
type Sizes struct{ Runs, Ended, Bytes, Why, Order, Access, Facts int }

// Sizes returns them.
func (o *Orchestrator) Sizes() Sizes {
	o.runs.mu.Lock()
	defer o.runs.mu.Unlock()
	o.access.mu.Lock()
	defer o.access.mu.Unlock()
	return Sizes{
		Runs: len(o.runs.byID), Ended: len(o.runs.ended), Bytes: o.runs.bytes, Why: len(o.runs.why), Order: len(o.runs.order),
		Access: len(o.access.byID), Facts: len(o.loop.facts),
	}
}

// CoreIdle reports whether the core holds no task and no slot, and how many
// releases of slots it refused.
func (o *Orchestrator) CoreIdle() (idle bool, dupes int) {
	o.loop.ask(func(c *sched.Core) { idle, dupes = c.Idle() && c.Running() == 0, c.DuplicateReleases() })
	return idle, dupes
}
