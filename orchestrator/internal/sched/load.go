package sched

import (
	"slices"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/placement"
)

// The rules of loads (ORC-340, 341).
const (
	perNode = 2                // loads at a time
	stay    = 30 * time.Second // a model is not evicted before
	appear  = 15 * time.Second // within this a loaded model shows in the list of workers
)

// load is a model on its way into a worker. It holds no slot and nothing of other
// models. The worker may get a new id with it, so its place counts.
type load struct {
	Worker placement.Key
	Model  string
	Began  Instant
	Moved  Instant // last change of Bytes or Phase, or the end
	Bytes  int64
	Total  int64
	Phase  string
	Done   bool // loaded; it stays until the list of workers shows it
}

// at reports whether k is the place of the load.
func (l *load) at(k placement.Key) bool { return samePlace(l.Worker, k) }

func (c *Core) loadAt(k placement.Key) int {
	return slices.IndexFunc(c.loads, func(l load) bool { return l.at(k) })
}

// endLoad drops a load; its place may be used again.
func (c *Core) endLoad(i int) {
	k := c.loads[i].Worker
	c.loads, c.stale = slices.Delete(c.loads, i, i+1), true
	c.est.version++
	if _, out := c.ill(k); !out {
		c.view.Quarantine(k, false)
	}
}

// overdue fails the loads that stand still, and those that the list of workers does
// not show.
func (c *Core) overdue(now Instant) {
	for i := len(c.loads) - 1; i >= 0; i-- {
		switch l := c.loads[i]; {
		case l.Done && now >= l.Moved+Instant(appear):
			c.loadFailed(now, i, exec.Load)
		case !l.Done && now >= l.Moved+Instant(c.cfg.Startup):
			c.loadFailed(now, i, exec.Startup)
		}
	}
}

// pin keeps the models where they are: where one loads, where two load on the node,
// and where they came just now (ORC-340, 341).
func (c *Core) pin(now Instant) {
	if !c.loadable {
		c.ripe = 0
		return
	}
	if !c.stale && (c.ripe == 0 || now < c.ripe) {
		return
	}
	c.stale, c.ripe = false, 0
	for i := range c.mates {
		m := &c.mates[i]
		young := len(m.Models) > 0 && now < m.Since+Instant(stay)
		if young {
			c.ripe = earlier(c.ripe, m.Since+Instant(stay))
		}
		onNode := 0
		for i := range c.loads {
			if c.loads[i].Worker.Node == m.Key.Node {
				onNode++
			}
		}
		c.view.Pin(m.Key, young || onNode >= perNode || c.loadAt(m.Key) >= 0)
	}
}

// load begins the loads that the keys in want need.
func (c *Core) load(now Instant) {
	c.pause = 0
	for _, id := range c.want {
		if k := c.keys.byID[id]; k != nil { // its tasks may have ended just now
			c.loadFor(now, k)
		}
	}
	c.want = c.want[:0]
}

// loadFor begins a load for a key that no loaded worker serves, if there is a
// place for one. The least recently used models go first.
func (c *Core) loadFor(now Instant, k *key) {
	if now < k.after {
		c.pause = earlier(c.pause, k.after)
		return
	}
	c.pin(now)
	r := *c.request(k.id)
	r.Tried = c.failedAt(k)
	d := placement.Decide(c.view, r, c.policy)
	if d.Load == nil || c.coming(&r) >= 0 {
		return
	}
	w := d.Load
	if len(d.Evict) > 0 {
		c.view.Quarantine(w.Key, true) // nothing new for a model that is about to go
	}
	c.loads, c.stale = append(c.loads, load{Worker: w.Key, Model: r.Model, Began: now, Moved: now, Total: -1}), true
	c.est.version++
	slices.SortFunc(c.loads, func(a, b load) int { return a.Worker.Compare(b.Worker) })
	c.emit(Load{w, r.Model, d.Evict})
}

// failedAt lists the workers at the places where a load for the key failed.
func (c *Core) failedAt(k *key) (out []placement.Key) {
	if len(k.failed) == 0 {
		return nil
	}
	for w := range c.view.Workers() {
		if slices.ContainsFunc(k.failed, func(f placement.Key) bool { return samePlace(f, w.Key) }) {
			out = append(out, w.Key)
		}
	}
	return out
}

func samePlace(a, b placement.Key) bool {
	return a.Node == b.Node && a.Pool == b.Pool && a.Place() == b.Place()
}

// coming returns the load that will serve the request, −1 if there is none.
func (c *Core) coming(r *placement.Request) int {
	return slices.IndexFunc(c.loads, func(l load) bool {
		w, ok := c.view.Find(l.Worker)
		return l.Model == r.Model && (!ok || fits(w, r))
	})
}

// loaded reports whether a worker that takes work has the model, busy or not.
func (c *Core) loaded(r *placement.Request) bool {
	for w := range c.view.Workers() {
		if w.Online && w.Ready && !w.Draining && slices.Contains(w.Models, r.Model) && fits(w, r) {
			return true
		}
	}
	return false
}

// fits reports whether a request may go to the place and engine of w.
func fits(w *placement.Worker, r *placement.Request) bool {
	p := &r.Place
	pinned := p.Mode != "prefer"
	return w.In(r.Regions) && !slices.Contains(p.Avoid, w.Pool) && (r.Engine == "" || r.Engine == w.Engine) && (!pinned ||
		(p.Pool == "" || p.Pool == w.Pool) && (p.Node == "" || p.Node == w.Node) && (p.Worker == "" || p.Worker == w.Key.Worker))
}

// loading takes news of a load.
func (c *Core) loading(now Instant, e Loading) {
	i := c.loadAt(e.Worker)
	if i < 0 || c.loads[i].Model != e.Model || c.loads[i].Done {
		return
	}
	l := &c.loads[i]
	if e.Bytes != l.Bytes || e.Phase != l.Phase || e.Done {
		l.Moved = now
	}
	l.Bytes, l.Total, l.Phase = e.Bytes, e.Total, e.Phase
	c.est.version++
	switch {
	case e.Fail != "":
		c.loadFailed(now, i, exec.Load)
	case e.Done:
		l.Done = true
		if w, ok := c.view.Find(l.Worker); ok {
			c.est.loaded(l.Model, w, max(l.Total, l.Bytes), time.Duration(now-l.Began))
		}
		c.settleLoads()
	}
}

// settleLoads ends the loads that the list of workers shows, and fails those whose
// node is offline.
func (c *Core) settleLoads() (lost []placement.Key) {
	for w := range c.view.Workers() {
		i := c.loadAt(w.Key)
		switch {
		case i < 0:
		case w.Ready && slices.Contains(w.Models, c.loads[i].Model):
			for _, t := range c.sortedBy(func(t *task) bool { return t.Need.Model == c.loads[i].Model }) {
				k := c.keys.byID[t.item.Key]
				k.failed, k.after = nil, 0 // a later failure is the first one
			}
			c.endLoad(i)
		case w.Gone && !w.Online:
			lost = append(lost, c.loads[i].Worker)
		}
	}
	return lost
}

// loadFailed counts a failed load as an attempt of every task that waits for it;
// two different workers end them (ORC-342).
func (c *Core) loadFailed(now Instant, i int, class exec.Class) {
	l := c.loads[i]
	c.endLoad(i)
	for _, t := range c.sorted() {
		k := c.keys.byID[t.item.Key]
		if t.phase == placed || t.phase == running || t.Need.Model != l.Model {
			continue
		}
		r := c.request(k.id)
		if w, ok := c.view.Find(l.Worker); c.loaded(r) || ok && !fits(w, r) {
			continue
		}
		if !slices.ContainsFunc(k.failed, func(f placement.Key) bool { return samePlace(f, l.Worker) }) {
			k.failed = append(k.failed, l.Worker)
		}
		t.loads++
		need := *r
		need.Tried = c.failedAt(k)
		d := placement.Decide(c.view, need, c.policy)
		v := exec.Next(exec.Attempt{
			N: t.attempt - t.Attempt + t.loads, Class: class, Seed: seed(t.ID), Left: t.left(now),
			Others: d.Load != nil && !slices.Contains(need.Tried, d.Load.Key),
		})
		switch {
		case len(k.failed) >= 2:
			c.terminal(t, "MODEL_LOAD_FAILED", "", class)
		case !v.Retry:
			c.terminal(t, v.Code, "", class)
		default:
			k.after = max(k.after, now+Instant(v.After))
			c.emit(Retry{t.ID, t.attempt, class, v.After})
		}
	}
}

// nextLoad is the instant at which a load fails, ends or may begin; 0 if there is none.
func (c *Core) nextLoad() Instant {
	at := c.pause
	if !c.queue.Empty() {
		at = earlier(at, c.ripe)
	}
	for _, l := range c.loads {
		limit := c.cfg.Startup
		if l.Done {
			limit = appear
		}
		at = earlier(at, l.Moved+Instant(limit))
	}
	return at
}
