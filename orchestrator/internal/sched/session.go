package sched

import "github.com/llorch/llorch/orchestrator/placement"

// affinity returns the worker of the session's last turn, the zero Key if there
// is none or it is gone (ORC-305).
func (c *Core) affinity(t *task) placement.Key {
	if t.Session == ([16]byte{}) {
		return placement.Key{}
	}
	k, _ := c.sessions.get(t.Session)
	if _, ok := c.view.Find(k); !ok {
		return placement.Key{}
	}
	return k
}

// remember notes where the session's turn went.
func (c *Core) remember(t *task) {
	if t.Session != ([16]byte{}) {
		c.sessions.put(t.Session, t.worker)
	}
}
