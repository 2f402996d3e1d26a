package sched

import (
	"bytes"
	"cmp"
	"slices"
)

// Step applies one event at an instant that never goes back, and returns the
// effects in the order in which they have to happen. The slice is reused by the
// next call.
func (c *Core) Step(now Instant, e Event) []Effect {
	c.fx = c.fx[:0]
	fresh := c.apply(now, e)
	c.assign(now)
	if t := fresh; t != nil && t.phase == waiting && c.tasks[t.ID] == t { // it may have ended in this step
		ahead, _ := c.queue.Position(t.ID)
		at, _ := c.startIn(t)
		c.emit(Queued{t.ID, ahead, at})
	}
	if gone := c.view.Broken(); len(gone) > c.broken {
		c.broken = len(gone)
		c.emit(Note{Kind: "scorer_removed"})
	}
	_, ticked := e.(Tick) // its timer is over, whatever it was for
	if next := c.next(); next != c.timerSet || ticked && next != 0 {
		c.timerSet = next
		c.emit(SetTimer{next})
	}
	return c.fx
}

// next is the earliest instant at which something is to be done.
func (c *Core) next() Instant {
	at := c.timers.next()
	if c.refusing {
		return at
	}
	return earlier(earlier(at, c.nextAsk()), c.nextLoad())
}

// apply changes the state; it returns a task that may be picked from now on for
// the first time.
func (c *Core) apply(now Instant, e Event) *task {
	switch e := e.(type) {
	case Submit:
		return c.submit(now, e.Task)
	case Persisted:
		if t := c.tasks[e.ID]; t != nil && t.phase == placed {
			return c.open(t)
		}
	case Withdrawn:
		if t := c.tasks[e.ID]; t != nil && t.phase == placed {
			c.forget(t)
		}
	case Recovered:
		c.recover(now, e.Task)
	case Workers:
		c.workers(now, e.List)
	case Finished:
		c.finished(now, e)
	case Cancel:
		if t := c.tasks[e.ID]; e.Code == "" || t != nil && t.phase != running {
			c.cancel(now, e.ID, e.Reason, cmp.Or(e.Code, "CANCELLED"))
		}
	case CancelAll:
		c.cancelAll(now, e)
	case Tenant:
		c.tenant(e)
	case Policy:
		c.swap(now, e)
	case Probed:
		c.probed(now, e)
	case Loading:
		c.loading(now, e)
	case Progress:
		c.alive(now, e)
	case Tick:
		c.tick(now)
	case Refuse:
		c.refuse(e.Durable)
	case Cut:
		c.cut(now)
	}
	return nil
}

// sorted returns the tasks by id, so that the order never depends on a map.
func (c *Core) sorted() []*task { return c.sortedBy(nil) }

// sortedBy is sorted of those that f accepts; nil = all.
func (c *Core) sortedBy(f func(*task) bool) []*task {
	out := make([]*task, 0, len(c.tasks))
	for _, t := range c.tasks {
		if f == nil || f(t) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *task) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}
