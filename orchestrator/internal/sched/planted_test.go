package sched

import (
	"slices"

	"github.com/llorch/llorch/orchestrator/queue"
)

// A Bug breaks one of the invariants of ORC-951, as a defect of the core would.
// Plant runs after every step of a walk.
type Bug struct {
	Breaks int
	Name   string
	Plant  func(*Core)
}

// each plants something in every task.
func each(f func(c *Core, t *task)) func(*Core) {
	return func(c *Core) {
		for _, t := range c.sorted() {
			if c.tasks[t.ID] == t {
				f(c, t)
			}
		}
	}
}

// Bugs returns the defects of the core.
func Bugs() []Bug {
	return []Bug{
		{1, "a task has no time limit", each(func(c *Core, t *task) { c.timers.set(t, 0) })},
		{4, "a slot is given back while it is used", each(func(c *Core, t *task) { c.view.Release(t.ID, t.attempt) })},
		{4, "a slot is taken for nobody", func(c *Core) {
			for w := range c.view.Workers() {
				c.view.Reserve(queue.ID{0xbb}, 1, w.Key)
				return
			}
		}},
		{5, "the queue has a place more", func(c *Core) {
			cfg := c.cfg.Queue
			cfg.Capacity++
			if q, err := queue.New(cfg); err == nil && q.Load(c.queue.State()) == nil {
				c.queue = q
			}
		}},
		{8, "the region of a task is forgotten", each(func(c *Core, t *task) {
			t.Need.Regions = nil
			if k := c.keys.byID[t.item.Key]; k != nil {
				k.need.Regions = nil
			}
		})},
		{9, "all tenants weigh the same", each(func(c *Core, t *task) { c.queue.SetWeight(t.Tenant, 1) })},
		{10, "who waits goes to the end", each(func(c *Core, t *task) {
			if t.phase != waiting {
				return
			}
			if it, ok := c.queue.Remove(t.ID); ok && t.ID[15]%2 == 0 {
				t.item = c.queue.Restore(it)
			} else if ok {
				c.queue.Return(it)
			}
			c.queue.Open(t.ID)
		})},
		{11, "a cancel is forgotten", each(func(_ *Core, t *task) { t.stop, t.code = "", "" })},
		{12, "a tenant has no limit", each(func(c *Core, t *task) {
			if x := c.tenants.busy[t.Tenant]; x != nil {
				x.rules.MaxRunning = 0
				c.hold(x)
			}
		})},
		{13, "a key outlives its tasks", func(c *Core) {
			if c.keys.last > 0 && c.keys.last < 1000 {
				c.keys.last++
				c.keys.byID[c.keys.last] = &key{id: c.keys.last, uses: 1}
			}
		}},
		{14, "something changes between two steps", func(c *Core) { c.dupes++ }},
		{15, "a task is lost from the queue", each(func(c *Core, t *task) {
			if t.phase == waiting {
				c.queue.Remove(t.ID)
				c.timers.set(t, 0)
			}
		})},
	}
}

// Tables are the sizes of everything that the core keeps (I13).
type Tables struct{ Tasks, Keys, Timers, Tenants, Running, Mates, Sick, Loads int }

// Tables counts.
func (c *Core) Tables() Tables {
	slots := 0
	for _, t := range c.tenants.busy {
		slots += t.running
	}
	return Tables{
		len(c.tasks), max(len(c.keys.byText), len(c.keys.byID)), len(c.timers), len(c.tenants.busy), slots,
		len(c.mates), len(c.sick), len(c.loads),
	}
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
