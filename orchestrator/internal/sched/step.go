package sched

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Step applies one event at an instant that never goes back, and returns the
// effects in the order in which they have to happen. The slice is reused by the
// next call.
func (c *Core) Step(now Instant, e Event) []Effect {
	c.fx = c.fx[:0]
	fresh := c.apply(now, e)
	c.assign(now)
	if t := fresh; t != nil && t.phase == waiting {
		ahead, _ := c.queue.Ahead(t.ID)
		c.emit(Queued{t.ID, ahead, c.startIn(ahead)})
	}
	if next := c.timers.next(); next != c.timerSet {
		c.timerSet = next
		c.emit(SetTimer{next})
	}
	return c.fx
}

// apply changes the state; it returns a task that may be picked from now on for
// the first time.
func (c *Core) apply(now Instant, e Event) *task {
	switch e := e.(type) {
	case Submit:
		return c.submit(now, e.Task)
	case Persisted:
		if t := c.tasks[e.ID]; t != nil && t.phase == placed {
			return c.open(t)
		}
	case Withdrawn:
		if t := c.tasks[e.ID]; t != nil && t.phase == placed {
			c.forget(t)
		}
	case Recovered:
		c.recover(now, e.Task)
	case Workers:
		c.workers(now, e.List)
	case Finished:
		c.finished(now, e)
	case Cancel:
		c.cancel(now, e.ID, e.Reason, "CANCELLED")
	case Tick:
		c.tick(now)
	case Refuse:
		c.refuse(e.Durable)
	case Cut:
		c.cut(now)
	}
	return nil
}

// submit takes a place for a new task, or refuses it.
func (c *Core) submit(now Instant, in Task) *task {
	if c.refusing {
		c.emit(Reject{ID: in.ID, Code: "SHUTTING_DOWN"})
		return nil
	}
	if code := unservable(placement.Binding(c.view, in.Need)); code != "" {
		c.emit(Reject{ID: in.ID, Code: code})
		return nil
	}
	t := &task{Task: in, phase: placed, arrived: now, attempt: in.Attempt, wakeAt: -1}
	t.item = queue.Item{ID: in.ID, Class: in.Class, Key: c.keys.take(in.Need), Bytes: in.Bytes, Arrived: now}
	ahead, victims, err := c.queue.Push(now, t.item, nil)
	if err != nil {
		c.keys.drop(t.item.Key)
		c.emit(Reject{ID: in.ID, Code: pushCode(err), After: c.drainHint()})
		return nil
	}
	for _, v := range victims {
		c.evict(v)
	}
	c.tasks[t.ID] = t
	c.emit(Admit{ID: t.ID, Ahead: ahead, StartIn: c.startIn(ahead)})
	c.timers.set(t, t.expiry())
	if t.Ephemeral {
		return c.open(t)
	}
	return nil
}

// unservable maps the binding static filter to the refusal (ORC-247), "" for
// none. A worker that is only busy, not ready or not online is no reason to refuse.
func unservable(binding string) string {
	switch binding {
	case "empty", "avoid":
		return "POOL_UNAVAILABLE"
	case "model":
		return "MODEL_NOT_FOUND"
	case "ctx":
		return "CONTEXT_TOO_LARGE"
	case "engine":
		return "MODEL_NOT_AVAILABLE"
	case "pin":
		return "INVALID_PARAMS"
	}
	return ""
}

func pushCode(err error) string {
	if errors.Is(err, queue.ErrDuplicate) {
		return "CONFLICT"
	}
	return "QUEUE_FULL"
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
	t.item = queue.Item{ID: in.ID, Class: in.Class, Key: c.keys.take(in.Need), Bytes: in.Bytes, Arrived: now}
	t.item = c.queue.Restore(t.item)
	c.tasks[t.ID] = t
	c.timers.set(t, t.expiry())
	if c.open(t) != nil {
		ahead, _ := c.queue.Ahead(t.ID)
		c.emit(Queued{t.ID, ahead, c.startIn(ahead)})
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

// assign gives free slots to waiting tasks, oldest of the highest class first.
func (c *Core) assign(now Instant) {
	if c.refusing {
		return
	}
	for !c.queue.Empty() {
		if _, free := c.view.Slots(); free == 0 {
			return
		}
		it, ok := c.queue.Pick(now, func(k queue.KeyID) bool {
			return placement.Decide(c.view, c.keys.byID[k].need, c.policy).Worker != nil
		})
		if !ok {
			return
		}
		t := c.tasks[it.ID]
		t.item = it // with its order of arrival, for Return
		c.start(now, t)
	}
}

// start reserves the slot and begins the next attempt.
func (c *Core) start(now Instant, t *task) {
	need := t.Need
	need.Tried = t.tried
	w := placement.Decide(c.view, need, c.policy).Worker
	t.phase, t.attempt, t.began = running, t.attempt+1, now
	t.worker, t.epoch = w.Key, w.Epoch
	why := placement.Explain(c.view, need, c.policy)
	why.DecisionID, why.At, why.Attempt = decisionID(t.ID, t.attempt), int64(now), t.attempt
	c.choice(now, t, need)
	c.view.Reserve(t.ID, t.attempt, w.Key)
	c.timers.set(t, t.expiry())
	c.emit(Assign{t.ID, t.attempt, w, why})
}

// finished takes the slot back and decides what follows. The end that was
// decided first stands: a stop before this event beats the result (ORC-561).
func (c *Core) finished(now Instant, e Finished) {
	if !c.view.Release(e.ID, e.Attempt) {
		c.dupes++
		return
	}
	t := c.tasks[e.ID]
	if t == nil || t.phase != running || t.attempt != e.Attempt {
		return
	}
	switch {
	case t.stop == Shutdown:
		c.afterCut(t, e.Result)
	case t.stop != "" && t.stop != Lost:
		c.terminal(t, t.code, t.stop, "") // the worker is not at fault
	case e.Result.Class == exec.OK:
		c.service.add(time.Duration(now - t.began))
		c.terminal(t, "", "", "")
	default:
		c.failed(now, t, e.Result)
	}
}

// failed puts the task back or ends it.
func (c *Core) failed(now Instant, t *task, r Result) {
	if t.stop == Lost {
		r.Class, t.stop = exec.Reset, ""
	}
	if r.Class != exec.Store && !slices.Contains(t.tried, t.worker) {
		t.tried = append(t.tried, t.worker)
	}
	need := t.Need
	need.Tried = t.tried
	d := placement.Decide(c.view, need, c.policy)
	v := exec.Next(exec.Attempt{
		N: t.attempt - t.Attempt, Class: r.Class, Emitted: r.Emitted, Seed: seed(t.ID), RetryAfter: r.RetryAfter,
		Others: d.Worker != nil && !slices.Contains(t.tried, d.Worker.Key), Left: t.left(now),
	})
	if !v.Retry {
		c.terminal(t, v.Code, "", r.Class)
		return
	}
	c.emit(Retry{t.ID, t.attempt, r.Class, v.After})
	c.queue.Return(t.item)
	if c.refusing {
		c.release(t)
		return
	}
	if v.After == 0 {
		t.phase = waiting
		c.queue.Open(t.ID)
		c.timers.set(t, t.expiry())
		return
	}
	t.phase = backoff
	c.timers.set(t, min(now+Instant(v.After), t.expiry()))
}

// cancel ends a task: at once if it waits, else when its attempt has stopped.
func (c *Core) cancel(now Instant, id queue.ID, why Reason, code string) {
	t := c.tasks[id]
	switch {
	case t == nil:
	case t.phase == placed: // the store is asked right now: it ends when that is over
		t.stop, t.code = why, code
		c.timers.set(t, 0)
	case t.phase != running:
		c.terminal(t, code, why, "")
	case t.stop == "" || t.stop == Lost:
		t.stop, t.code = why, code
		c.timers.set(t, now+Instant(c.cfg.CancelAfter))
		c.emit(StopRun{t.ID, t.attempt, why})
	}
}

// tick handles every timer that is over.
func (c *Core) tick(now Instant) {
	for t := c.timers.due(now); t != nil; t = c.timers.due(now) {
		switch {
		case t.phase == backoff && now < t.expiry():
			t.phase = waiting
			c.queue.Open(t.ID)
			c.timers.set(t, t.expiry())
		case t.phase == running && t.stop != "":
			// The attempt did not end in time: give the slot back by force.
			c.view.Release(t.ID, t.attempt)
			c.forced(t)
		default:
			why, code := t.expired(now)
			c.cancel(now, t.ID, why, code)
		}
	}
}

// forced ends a task whose attempt did not answer its StopRun.
func (c *Core) forced(t *task) {
	switch t.stop {
	case Shutdown:
		c.afterCut(t, Result{Class: exec.Reset, Emitted: true})
	case Lost:
		c.terminal(t, "WORKER_RESET", "", exec.Reset)
	default:
		c.terminal(t, t.code, t.stop, "")
	}
}

// workers applies a new picture and stops attempts whose worker is gone. A worker's
// id is new for every process: one that stands under a larger epoch of its node has
// outlived the node's program, and what runs there with it.
func (c *Core) workers(now Instant, list []*placement.Worker) {
	c.view.Apply(list)
	for _, t := range c.sorted() {
		if t.phase != running || t.stop != "" {
			continue
		}
		if w, ok := c.view.Find(t.worker); ok && w.Epoch >= t.epoch && !w.Gone {
			continue
		}
		t.stop = Lost
		c.timers.set(t, now+Instant(c.cfg.CancelAfter))
		c.emit(StopRun{t.ID, t.attempt, Lost})
	}
}

// refuse begins the shutdown: waiting tasks are left to a durable store, else ended.
func (c *Core) refuse(durable bool) {
	c.refusing, c.durable = true, durable
	for _, t := range c.sorted() {
		if t.phase == waiting || t.phase == backoff {
			c.release(t)
		}
	}
}

// release gives up a waiting task during the shutdown.
func (c *Core) release(t *task) {
	if c.durable && !t.Ephemeral {
		c.emit(Leave{t.ID})
		c.forget(t)
		return
	}
	c.terminal(t, "SHUTTING_DOWN", Shutdown, "")
}

// cut stops what still runs.
func (c *Core) cut(now Instant) {
	for _, t := range c.sorted() {
		if t.phase == running && t.stop == "" {
			t.stop = Shutdown
			c.timers.set(t, now+Instant(c.cfg.CancelAfter))
			c.emit(StopRun{t.ID, t.attempt, Shutdown})
		}
	}
}

// afterCut ends an attempt that the shutdown stopped: a task that published
// nothing stays in a durable store.
func (c *Core) afterCut(t *task, r Result) {
	switch {
	case r.Class == exec.OK:
		c.terminal(t, "", "", "")
	case r.Emitted:
		c.terminal(t, "WORKER_RESET", Shutdown, exec.Reset)
	default:
		c.release(t)
	}
}

func (c *Core) terminal(t *task, code string, why Reason, class exec.Class) {
	c.emit(Terminal{t.ID, t.attempt, code, why, class})
	c.forget(t)
}

// forget drops every trace of a task but its reservation.
func (c *Core) forget(t *task) {
	c.queue.Remove(t.ID)
	c.timers.set(t, 0)
	c.keys.drop(t.item.Key)
	delete(c.tasks, t.ID)
}

// sorted returns the tasks by id, so that the order never depends on a map.
func (c *Core) sorted() []*task {
	out := make([]*task, 0, len(c.tasks))
	for _, t := range c.tasks {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *task) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}
