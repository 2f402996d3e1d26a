package sched

// Trial is what a Submit would be answered, check by check; a zero Reject is a pass.
type Trial struct{ Quota, Static, Deadline, Place Reject }

// Before returns the first refusal of those before the place, or the zero Reject.
func (t *Trial) Before() Reject {
	for _, r := range [...]Reject{t.Quota, t.Static, t.Deadline} {
		if r.Code != "" {
			return r
		}
	}
	return Reject{}
}

// Try tells what a Submit would be answered now, and changes nothing.
func (c *Core) Try(now Instant, in Task) (out Trial) {
	if rule := c.quota(in.Tenant); rule != "" {
		out.Quota = Reject{ID: in.ID, Code: "QUOTA_EXCEEDED", After: c.drainHint(&task{Task: in}), Details: Details{Filter: "quota", Field: rule}}
	}
	last := c.keys.last
	t := &task{Task: in, phase: placed, arrived: now, attempt: in.Attempt, wakeAt: -1}
	t.item = c.itemOf(t, now)
	if code, d, after := c.unservable(c.need(t)); code != "" && (d.Filter != "empty" || c.cfg.Hold <= 0) {
		out.Static = Reject{ID: in.ID, Code: code, After: spread(in.ID, after), Details: d}
	}
	if r, no := c.feasible(now, t); no {
		out.Deadline = r
	}
	if err := c.queue.Room(t.item); err != nil {
		out.Place = c.full(t, err)
	}
	c.keys.drop(t.item.Key)
	c.keys.last = last
	return out
}
