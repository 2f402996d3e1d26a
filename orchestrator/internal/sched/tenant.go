package sched

import (
	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/queue"
)

// maxIdle bounds the tenants without tasks, and the sessions, that are remembered.
const maxIdle = 65_536

// tenant is what the core knows of a tenant with tasks.
type tenant struct {
	id      queue.Tenant
	rules   Rules
	live    int // its tasks
	running int // of them, those that hold a slot
	held    bool
}

// tenants holds those with tasks by id, and the rules of the others.
type tenants struct {
	busy map[queue.Tenant]*tenant
	idle *recent[queue.Tenant, Rules]
}

func newTenants() tenants {
	return tenants{make(map[queue.Tenant]*tenant), newRecent[queue.Tenant, Rules](maxIdle)}
}

// tenant applies new rules. Tasks that run already go on.
func (c *Core) tenant(e Tenant) {
	e.Rules.Weight = min(1000, max(1, e.Rules.Weight))
	c.queue.SetWeight(e.ID, e.Rules.Weight)
	if t := c.tenants.busy[e.ID]; t != nil {
		t.rules = e.Rules
		c.hold(t)
		return
	}
	c.tenants.idle.put(e.ID, e.Rules)
}

// rules returns those of a tenant.
func (c *Core) rules(id queue.Tenant) Rules {
	if t := c.tenants.busy[id]; t != nil {
		return t.rules
	}
	r, _ := c.tenants.idle.get(id)
	return r
}

// enter counts a task of the tenant.
func (c *Core) enter(id queue.Tenant) {
	t := c.tenants.busy[id]
	if t == nil {
		t = &tenant{id: id}
		t.rules, _ = c.tenants.idle.take(id)
		c.tenants.busy[id] = t
	}
	t.live++
}

// leave takes a task back; a tenant without tasks and rules is forgotten.
func (c *Core) leave(id queue.Tenant) {
	t := c.tenants.busy[id]
	if t.live--; t.live > 0 {
		return
	}
	delete(c.tenants.busy, id)
	if t.rules != (Rules{}) {
		c.tenants.idle.put(id, t.rules)
	}
}

// slots counts the slots that the tenant holds.
func (c *Core) slots(id queue.Tenant, by int) {
	t := c.tenants.busy[id]
	t.running += by
	c.hold(t)
}

// hold keeps the tasks of a tenant from being picked while it has all the slots
// that it may have (ORC-243).
func (c *Core) hold(t *tenant) {
	if full := t.rules.MaxRunning > 0 && t.running >= t.rules.MaxRunning; full != t.held {
		t.held = full
		c.queue.Hold(t.id, full)
	}
}

// quota names the rule that a further task of the tenant would break, "" for none.
func (c *Core) quota(id queue.Tenant) string {
	t := c.tenants.busy[id]
	if t == nil {
		return ""
	}
	switch r := t.rules; {
	case r.MaxQueued > 0 && t.live-t.running >= r.MaxQueued:
		return "max_queued"
	case r.MaxRunning > 0 && !r.Wait && t.running >= r.MaxRunning:
		return "max_running"
	}
	return ""
}

// settle replaces the estimated cost of a task that ran by what it used, also
// after a failure or a cancel (ORC-210). Without any figure the estimate stands.
func (c *Core) settle(t *task, r Result) {
	in, out := r.TokensIn, max(r.TokensOut, min(t.tokens, maxTokens))
	switch r.Class {
	case exec.OK:
		if in+out == 0 {
			return
		}
	case exec.Server, exec.Reset, exec.Timeout, exec.Protocol: // it may have read the prompt
		in = max(in, t.Need.Prompt)
	}
	used := int64(in)*c.cfg.PromptCost + int64(out)*c.cfg.OutputCost
	c.queue.Settle(t.Tenant, t.Class, used-t.item.Cost)
}
