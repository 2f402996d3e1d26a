package sched

import (
	"bytes"
	"slices"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// memory is what the core knows beside its tasks, its queue and its view, as lists
// in one order (ORC-124).
type memory struct {
	Rules    []item[queue.Tenant, Rules] // of tenants without tasks, the oldest first, then of the others by id
	Sessions []item[[16]byte, placement.Key]
	Mates    []mate
	Sick     []sick
	Loads    []load
	Failed   []failedLoads // by key
	Rng      uint64
	Regions  []string
	Learned  learned
}

// failedLoads are the loads that failed for a key.
type failedLoads struct {
	Key   queue.KeyID
	At    []placement.Key
	After Instant
}

// memory copies what is not to be found elsewhere.
func (c *Core) memory() memory {
	m := memory{
		Rules: c.tenants.idle.all(), Sessions: c.sessions.all(), Mates: slices.Clone(c.mates), Sick: slices.Clone(c.sick),
		Loads: slices.Clone(c.loads), Rng: uint64(c.rng), Regions: c.cfg.Regions, Learned: c.est.state(),
	}
	var busy []item[queue.Tenant, Rules]
	seen, keys := make(map[queue.Tenant]bool), make(map[queue.KeyID]bool)
	for _, t := range c.sorted() {
		if r := c.rules(t.Tenant); r != (Rules{}) && !seen[t.Tenant] {
			seen[t.Tenant] = true
			busy = append(busy, item[queue.Tenant, Rules]{t.Tenant, r})
		}
		if k := c.keys.byID[t.item.Key]; (k.failed != nil || k.after != 0) && !keys[k.id] {
			keys[k.id] = true
			m.Failed = append(m.Failed, failedLoads{k.id, slices.Clone(k.failed), k.after})
		}
	}
	slices.SortFunc(busy, func(a, b item[queue.Tenant, Rules]) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	slices.SortFunc(m.Failed, func(a, b failedLoads) int { return int(a.Key) - int(b.Key) })
	m.Rules = append(m.Rules, busy...)
	return m
}

// recall puts it back into a core whose tasks, queue and view are complete.
func (c *Core) recall(m memory) {
	c.tenants.idle.max += len(m.Rules) // those with tasks leave it in a moment
	for _, x := range m.Rules {
		c.tenants.idle.put(x.Key, x.Value)
	}
	for _, x := range m.Sessions {
		c.sessions.put(x.Key, x.Value)
	}
	c.est.load(m.Learned)
	c.mates, c.sick, c.loads, c.rng, c.cfg.Regions = m.Mates, m.Sick, m.Loads, splitmix(m.Rng), m.Regions
	for _, f := range m.Failed {
		if k := c.keys.byID[f.Key]; k != nil {
			k.failed, k.after = f.At, f.After
		}
	}
	for _, t := range c.sorted() {
		c.enter(t.Tenant)
		if t.phase == running {
			c.slots(t.Tenant, +1)
		}
	}
	c.tenants.idle.max = maxIdle
	c.gen++
	c.stale, c.loadable = true, c.any(onDisk)
}

func onDisk(w *placement.Worker) bool { return len(w.OnDisk) > 0 }
