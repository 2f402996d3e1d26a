package sched

import (
	"cmp"
	"errors"

	"github.com/llorch/llorch/orchestrator/queue"
)

// submit takes a place for a new task, or refuses it.
func (c *Core) submit(now Instant, in Task) *task {
	if c.refusing {
		c.emit(Reject{ID: in.ID, Code: "SHUTTING_DOWN"})
		return nil
	}
	if rule := c.quota(in.Tenant); rule != "" {
		c.emit(Reject{ID: in.ID, Code: "QUOTA_EXCEEDED", After: c.drainHint(&task{Task: in}), Details: Details{Filter: "quota", Field: rule}})
		return nil
	}
	t := &task{Task: in, phase: placed, arrived: now, attempt: in.Attempt, wakeAt: -1}
	t.item = c.itemOf(t, now)
	if code, details, after := c.unservable(c.need(t)); details.Filter == "empty" && c.cfg.Hold > 0 {
		t.hold = now + Instant(c.cfg.Hold)
	} else if code != "" {
		return c.refused(t, Reject{ID: in.ID, Code: code, After: spread(in.ID, after), Details: details})
	}
	if r, no := c.feasible(now, t); no {
		return c.refused(t, r)
	}
	ahead, victims, err := c.queue.Push(now, t.item, nil)
	if err != nil {
		return c.refused(t, c.full(t, err))
	}
	for _, v := range victims {
		c.evict(v)
	}
	c.add(t)
	at, band := c.startIn(t)
	c.emit(Admit{ID: t.ID, Ahead: ahead, StartIn: at, Band: band})
	if t.Ephemeral {
		return c.open(t)
	}
	return nil
}

// refused says no to a task that has a key already.
func (c *Core) refused(t *task, r Reject) *task {
	c.emit(r)
	c.keys.drop(t.item.Key)
	return nil
}

// itemOf is what the queue holds of a task.
func (c *Core) itemOf(t *task, now Instant) queue.Item {
	due := t.end()
	if t.QueueFor > 0 && t.Due == 0 {
		due = min(due, now+Instant(t.QueueFor))
	}
	need := t.Need
	need.Session = [16]byte{}
	if need.Place.Spread > 0 {
		need.Session = t.Session
	}
	it := queue.Item{ID: t.ID, Tenant: t.Tenant, Class: t.Class, Key: c.keys.take(need), Cost: t.Cost, Bytes: t.Bytes, Arrived: now, Due: due}
	it.Service = int64(c.served(t, it.Key))
	if t.Due > 0 {
		it.Latest = max(1, t.Due-Instant(c.shortest(t, it.Key)))
	}
	if it.Cost == 0 {
		it.Cost = int64(max(0, t.Need.Prompt))*c.cfg.PromptCost + c.est.output(t).Mean*c.cfg.OutputCost
	}
	return it
}

// add takes a task into the tables.
func (c *Core) add(t *task) {
	c.tasks[t.ID] = t
	c.enter(t.Tenant)
	c.arm(t)
}

// full is the refusal of the queue.
func (c *Core) full(t *task, err error) Reject {
	r := Reject{ID: t.ID, Code: "QUEUE_FULL", After: c.drainHint(t), Details: Details{Label: string(cmp.Or(c.cfg.Queue.Policy, queue.Reject))}}
	switch {
	case errors.Is(err, queue.ErrDuplicate):
		return Reject{ID: t.ID, Code: "CONFLICT"}
	case errors.Is(err, queue.ErrTenantFull):
		r.Code, r.Details.Label = "ADMISSION_REJECT", "fair-share"
	}
	return r
}

func (c *Core) evict(v queue.Victim) {
	t := c.tasks[v.Item.ID]
	code := "QUEUE_FULL_DROP_LRU"
	if v.Policy == queue.Shed {
		code = "ADMISSION_REJECT"
	}
	c.emit(Evict{t.ID, code})
	c.forget(t)
}

// recover takes a task back that was accepted before; capacity does not matter.
// It always says Queued, so that a reader from before the restart finds the
// event ids that it knows.
func (c *Core) recover(now Instant, in Task) {
	if c.tasks[in.ID] != nil {
		return
	}
	t := &task{Task: in, arrived: now, attempt: in.Attempt, wakeAt: -1}
	t.item = c.queue.Restore(c.itemOf(t, now))
	c.add(t)
	if c.open(t) != nil {
		ahead, _ := c.queue.Position(t.ID)
		at, _ := c.startIn(t)
		c.emit(Queued{t.ID, ahead, at})
	}
}

// open lets a task be picked.
func (c *Core) open(t *task) *task {
	t.phase = waiting
	if t.stop != "" { // it was to end before the store had answered
		c.terminal(t, t.code, t.stop, "")
		return nil
	}
	if c.refusing {
		c.release(t)
		return nil
	}
	c.queue.Open(t.ID)
	return t
}

// arrived lets a task that waited for workers go on waiting for a slot, once there
// is one for it; nodes come one by one.
func (c *Core) arrived(t *task) {
	if code, _, _ := c.unservable(c.need(t)); code == "" {
		t.hold = 0
		c.arm(t)
	}
}
