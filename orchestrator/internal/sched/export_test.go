package sched

// Held returns the entries of every table of the core.
func (c *Core) Held() (tasks, keys, timers, reservations int) {
	return len(c.tasks), len(c.keys.byText) + len(c.keys.byID), len(c.timers), c.Running()
}
