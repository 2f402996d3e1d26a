package sched

import (
	"slices"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// nowhere is a list of regions that no worker is in; nil would be all of them.
var nowhere = [1]string{"-"}

// narrow returns the regions that are in both lists. A country is in its group,
// as the workers tell; one without workers does not matter.
func (c *Core) narrow(a, b []string) []string {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	out := []string{} // not nil, which every worker is in
	for _, r := range a {
		if slices.Contains(b, r) {
			out = append(out, r)
		}
	}
	for w := range c.view.Workers() {
		if w.In(a) && w.In(b) && w.Country != "" && !w.In(out) {
			out = append(out, w.Country)
		}
	}
	if len(out) == 0 {
		return nowhere[:]
	}
	slices.Sort(out)
	return out
}

// request returns what tasks of a key need, within the regions that hold now.
func (c *Core) request(id queue.KeyID) *placement.Request {
	k := c.keys.byID[id]
	if k.gen != c.gen {
		k.gen, k.now = c.gen, k.need
		k.now.Regions = c.narrow(k.need.Regions, c.cfg.Regions)
	}
	return &k.now
}

// need returns what a task needs, within the regions that hold now.
func (c *Core) need(t *task) placement.Request {
	r := *c.request(t.item.Key)
	r.Ctx, r.Prompt, r.Expected, r.Tried, r.Affinity = t.Need.Ctx, t.Need.Prompt, t.Need.Expected, t.tried, c.affinity(t)
	return r
}

// residency asserts, before a slot is taken, that a worker is where the task may
// be and that nothing else was considered (ORC-844).
func (c *Core) residency(t *task, w *placement.Worker, why *placement.Explanation) bool {
	if w.In(t.Need.Regions) && w.In(c.cfg.Regions) && !slices.ContainsFunc(why.RegionsConsidered, func(r string) bool {
		return why.AllowedRegions != nil && !slices.Contains(why.AllowedRegions, r)
	}) {
		return true
	}
	if c.cfg.Strict {
		panic("sched: a worker outside the allowed regions was chosen")
	}
	c.emit(Note{Kind: "residency_refused", Worker: w.Key, ID: t.ID})
	c.queue.Return(t.item)
	c.terminal(t, residencyCode(c.request(t.item.Key).Regions), "", "")
	return false
}

// residencyCode is the refusal when no worker is in the regions.
func residencyCode(regions []string) string {
	if len(regions) == 1 && regions[0] == "EU" {
		return "NO_EU_WORKER_AVAILABLE"
	}
	return "NO_REGION_WORKER_AVAILABLE"
}

// swap applies another policy and other regions: what may not stay where it is
// ends (ORC-844).
func (c *Core) swap(now Instant, e Policy) {
	c.policy, c.cfg.Regions = e.Policy, e.Regions
	c.gen++
	c.emit(Note{Kind: "policy_changed", Why: c.policy.Hash()})
	for _, t := range c.sorted() {
		switch t.phase {
		case running:
			if w, ok := c.view.Find(t.worker); ok && (!w.In(t.Need.Regions) || !w.In(c.cfg.Regions)) {
				c.cancel(now, t.ID, Operator, "CANCELLED")
			}
		default:
			if r := c.request(t.item.Key); r.Regions != nil && placement.Binding(c.view, *r) == "region" {
				c.cancel(now, t.ID, Operator, residencyCode(r.Regions))
			}
		}
	}
}
