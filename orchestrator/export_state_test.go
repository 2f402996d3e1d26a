package orchestrator

import (
	"context"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
)

// Break makes the loop panic.
func (o *Orchestrator) Break() { o.loop.ask(func(*sched.Core) { panic("planted") }) }

// Sizes are the entries of every table of an orchestrator.
type Sizes struct {
	Runs, Ended, Bytes, Why, Order, Access, Facts int
	Bodies                                        int // bytes of requests held by runs
}

// Sizes returns them.
func (o *Orchestrator) Sizes() Sizes {
	o.runs.mu.Lock()
	defer o.runs.mu.Unlock()
	o.access.mu.Lock()
	defer o.access.mu.Unlock()
	bodies := 0
	for _, r := range o.runs.byID {
		r.mu.Lock()
		bodies += len(r.spec.Raw) + len(r.spec.Prompt) + len(r.spec.Messages) + len(r.key)
		if r.body != nil {
			bodies += r.body.size()
		}
		r.mu.Unlock()
	}
	return Sizes{
		Bodies: bodies, Runs: len(o.runs.byID), Ended: len(o.runs.ended), Bytes: o.runs.bytes, Why: len(o.runs.why), Order: len(o.runs.order),
		Access: len(o.access.byID), Facts: len(o.loop.facts),
	}
}

// CoreIdle reports whether the core holds no task and no slot, and how many
// releases of slots it refused.
func (o *Orchestrator) CoreIdle() (idle bool, dupes int) {
	o.loop.ask(func(c *sched.Core) { idle, dupes = c.Idle() && c.Running() == 0, c.DuplicateReleases() })
	return idle, dupes
}

// SubmitAfterEnd hands requests to a loop that has ended until one is refused.
func SubmitAfterEnd() error {
	core, err := sched.New(sched.Config{})
	if err != nil {
		return err
	}
	l := newLoop(core, nil, nil, func(*sched.Core, time.Duration) {})
	l.close()
	if err := l.run(context.Background()); err != nil {
		return err
	}
	for range submitsBound + 1 {
		if err := l.submit(context.Background(), sched.Submit{}); err != nil {
			return err
		}
	}
	return nil
}
