package sched

import (
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// assign gives free slots to waiting tasks, in the order of the queue, and sees
// to workers that have to be asked or loaded first.
func (c *Core) assign(now Instant) {
	if c.refusing {
		return
	}
	c.overdue(now)
	c.pin(now)
	for !c.queue.Empty() {
		if _, free := c.view.Slots(); free == 0 && !c.loadable {
			break
		}
		c.want = c.want[:0]
		it, ok := c.queue.Pick(now, c.free)
		if !ok {
			break
		}
		c.start(now, c.tasks[it.ID], it)
	}
	c.load(now)
	c.askAgain(now)
}

// free reports whether a slot is free for tasks of a key.
func (c *Core) free(id queue.KeyID) bool {
	k, mark := c.keys.byID[id], [2]uint64{c.gen, c.view.Opened()}
	if k.closed == mark {
		return false
	}
	d := placement.Decide(c.view, *c.request(id), c.policy)
	switch {
	case d.Load != nil:
		c.want = append(c.want, id)
	case d.Worker == nil && k.need.Place.Spread == 0:
		k.closed = mark
	}
	return d.Worker != nil
}

// notNow is how long a picked task is put back when no worker takes it, though
// one took its key.
const notNow = 100 * time.Millisecond

// start reserves the slot and begins the next attempt of a picked task; false if
// it could not.
func (c *Core) start(now Instant, t *task, it queue.Item) bool {
	t.item = it
	if now >= t.expiry() { // it ends before its timer is looked at (ORC-409)
		c.queue.Return(it)
		why, code := c.expired(now, t)
		c.terminal(t, code, why, "")
		return false
	}
	need := c.need(t)
	w := placement.Decide(c.view, need, c.policy).Worker
	if w == nil {
		c.queue.Return(it)
		t.phase, t.resume = backoff, now+Instant(notNow)
		c.arm(t)
		return false
	}
	why := placement.Explain(c.view, need, c.policy)
	if !c.residency(t, w, &why) {
		return false
	}
	if it.Promoted {
		c.emit(Note{Kind: "promoted", ID: t.ID, For: time.Duration(now - t.arrived)})
	}
	t.phase, t.attempt, t.began, t.hold, t.tokens, t.seen, t.gone = running, t.attempt+1, now, 0, 0, 0, false
	t.worker, t.epoch = w.Key, w.Epoch
	why.DecisionID, why.At, why.Attempt = decisionID(t.ID, t.attempt), int64(now), t.attempt
	c.choice(now, t, need)
	c.view.Assign(t.ID, t.attempt, w.Key, need)
	c.slots(t.Tenant, +1)
	c.remember(t)
	c.arm(t)
	a := Assign{ID: t.ID, Attempt: t.attempt, Worker: w, Why: why}
	if w.OnDemand {
		a.Warmup = c.cfg.Startup
	}
	c.emit(a)
	return true
}

// stand ends the run of a task: its slot is free, and a worker that it was to try
// is asked again if it learned nothing.
func (c *Core) stand(now Instant, t *task) {
	c.slots(t.Tenant, -1)
	if m := c.mate(t.worker); m != nil {
		m.Used = now
	}
	if i, out := c.ill(t.worker); out && c.sick[i].Try == t.attempt && c.sick[i].Task == t.ID {
		c.again(now, &c.sick[i])
	}
	t.phase = backoff
}

// workers applies a new picture and stops attempts whose worker is gone. A worker's
// id is new for every process: one that stands under a larger epoch of its node has
// outlived the node's program, and what runs there with it.
func (c *Core) workers(now Instant, list []*placement.Worker) {
	c.view.Apply(list)
	c.gen++
	c.loadable = c.any(onDisk)
	c.muster(now)
	for _, k := range c.settleLoads() {
		if i := c.loadAt(k); i >= 0 {
			c.loadFailed(now, i, exec.Load)
		}
	}
	for _, t := range c.sortedBy(func(t *task) bool { return t.hold > 0 || t.phase == running }) {
		if t.hold > 0 && len(list) > 0 {
			c.arrived(t)
		}
		if t.phase != running || t.stop != "" {
			continue
		}
		w, ok := c.view.Find(t.worker)
		t.gone = !ok || w.Epoch < t.epoch || w.Gone
		c.miss(now, t)
	}
}

// silence is how long a lost worker may still send bytes (ORC-406).
const silence = 3 * time.Second

// miss stops the attempt of a lost worker, once no byte comes from it any more.
func (c *Core) miss(now Instant, t *task) {
	if !t.gone || t.seen > 0 && now < t.seen+Instant(silence) {
		c.arm(t)
		return
	}
	t.stop = Lost
	c.timers.set(t, now+Instant(c.cfg.CancelAfter))
	c.emit(StopRun{t.ID, t.attempt, Lost})
}
