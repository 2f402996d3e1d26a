package sched_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
)

// cluster is the simulation of ORC-951: the real core and the real memory store,
// with an executor, engines, readers and clients that fail in every way.
type cluster struct {
	t        *rapid.T
	bug      *planted // nil: none
	core     *sched.Core
	cfg      sched.Config
	fair     bool // a walk without what shifts shares: I9 is looked at
	now      sched.Instant
	timer    sched.Instant
	mem      *store.Memory
	epoch    store.Epoch
	jobs     []*job
	attempts []*attempt // not finished
	ops      []*op      // store calls in flight
	loading  []*loading
	engines  []*simEngine
	erased   map[sched.Ref]bool // erasure done
	regions  []string           // of the installation
	persons  int
	arrivals int
	rec      recording
	calm     bool // no faults any more
	shares   shares
	depth    int // of the queue, before the step
	limit    map[queue.Tenant]sched.Rules
}

// job is a task as its client, its reader and the executor see it.
type job struct {
	n        int
	order    int // of arrival
	task     sched.Task
	placed   bool // the store is being asked
	accepted bool // its 202 was given
	live     bool // the core holds it
	since    sched.Instant
	asked    bool // a cancel is under way
	stopped  bool // a cancel was acknowledged
	over     bool // nothing follows: refused, withdrawn, or its end is stored
	gone     bool // never promised, and lost with the process
	ended    int  // terminal effects
	attempt  int  // the running one, 0 none
	held     placement.Key
	begun    int  // last attempt that the store knows
	emitted  bool // a token may have been published
	muted    bool
	opened   sched.Instant // when it could be picked first
	retried  bool
	quiet    int // tokens in the log when its cancel was acknowledged

	log    []logged
	closed bool // the terminal event is in the log
	cursor int  // of the reader
	read   []logged
	marks  map[int]bool
}

// logged is an entry of a stream log. token is the number that the engine gave it.
type logged struct {
	id      uint64
	kind    string // queued, started, token, end
	attempt int
	token   int
}

// attempt is a dispatch, from Assign to Finished.
type attempt struct {
	j       *job
	n       int
	engine  *simEngine
	epoch   uint64
	started bool
	told    bool // a stop was given
	made    int  // tokens that the engine made
	passed  int  // tokens that were published or refused
	marking bool
}

// simEngine is a worker.
type simEngine struct {
	key     placement.Key
	epoch   uint64
	country string
	group   string
	up      bool
	ready   bool
	drains  bool
	hangs   bool
	models  []string // loaded
	slots   int
	busy    int // as it says, true or not
}

// loading is a model on its way.
type loading struct {
	engine *simEngine
	model  string
	bytes  int64
}

// op is a store call in flight: write may be lost, doubled, or answer unknown.
type op struct {
	name  string
	epoch store.Epoch
	write func(store.Epoch) error
	then  func(error) // never ErrUnknown
	maybe bool        // it may have been written: asked until the answer is sure
}

// violation is what a walk found; it travels as a panic.
type violation string

func (c *cluster) fail(invariant int, format string, args ...any) {
	panic(violation(fmt.Sprintf("I%d: %s", invariant, fmt.Sprintf(format, args...))))
}

func newCluster(t *rapid.T, bug *planted) *cluster {
	c := &cluster{t: t, bug: bug, now: 1, mem: store.NewMemory(), erased: map[sched.Ref]bool{}, limit: map[queue.Tenant]sched.Rules{}}
	c.fair = rapid.IntRange(0, 3).Draw(t, "fair") == 0
	policies := []queue.Policy{queue.Reject, queue.DropLRU, queue.Shed}
	c.cfg = sched.Config{
		Queue: queue.Config{Capacity: capacity, Policy: rapid.SampledFrom(policies).Draw(t, "policy")}, CancelAfter: cancelAfter, Seed: 11, Strict: true,
	}
	if c.fair { // G7 is about weights that stay
		c.cfg.Queue.Capacity = 6 * capacity
		for _, tenant := range tenantIDs() {
			c.limit[tenant] = sched.Rules{Weight: rapid.IntRange(1, 4).Draw(t, "weight")}
		}
	}
	slots := rapid.IntRange(1, slotsEach).Draw(t, "slots")
	for i := range 4 {
		e := &simEngine{key: placement.Key{Node: fmt.Sprintf("n%d", i/2), Pool: "p", Worker: fmt.Sprint(i)}, epoch: 1, up: true, ready: true, slots: slots, models: []string{"m"}}
		e.country, e.group = "DE", "EU"
		if i == 3 {
			e.country, e.group = "US", "US"
		}
		c.engines = append(c.engines, e)
	}
	c.lead()
	return c
}

// lead begins a term with an empty core, as a process does when it starts.
func (c *cluster) lead() {
	lease, err := c.mem.Lead(context.Background(), store.LeaseRequest{Holder: "sim"})
	if err != nil {
		panic(err)
	}
	c.epoch, c.timer, c.attempts, c.loading = lease.Epoch, 0, nil, nil
	if c.core, err = sched.New(c.cfg); err != nil {
		panic(err)
	}
	c.shares.reset()
	c.rec.begin(c)
	c.step(c.picture())
	if c.regions != nil {
		c.step(sched.Policy{Regions: c.regions})
	}
	for _, t := range tenantIDs() {
		if r, ok := c.limit[t]; ok {
			c.step(sched.Tenant{ID: t, Rules: r})
		}
	}
}

func tenantIDs() []queue.Tenant { return []queue.Tenant{{1}, {2}, {3}} }

func (c *cluster) picture() sched.Workers {
	var list []*placement.Worker
	for _, e := range c.engines {
		if e.up {
			list = append(list, &placement.Worker{
				Key: e.key, Epoch: e.epoch, Models: e.models, OnDisk: spare(e.models), Country: e.country, Group: e.group, SlotsTotal: e.slots, SlotsBusy: e.busy,
				Online: true, Ready: e.ready, Draining: e.drains, Gone: e.hangs && !e.ready, TokensPerS: 20_000, FirstToken: int64(time.Second),
			})
		}
	}
	return sched.Workers{List: list}
}

// spare are the models beside the loaded ones.
func spare(loaded []string) (out []placement.OnDisk) {
	for _, m := range []string{"m", "o"} {
		if !slices.Contains(loaded, m) {
			out = append(out, placement.OnDisk{Model: m, Need: 1 << 30, Fits: 1})
		}
	}
	return out
}

// step applies an event, does what the effects say and checks every invariant.
func (c *cluster) step(e sched.Event) {
	c.depth = c.core.Depth(queue.Interactive) + c.core.Depth(queue.Batch)
	c.shares.before(c)
	fx := slices.Clone(c.core.Step(c.now, e))
	c.rec.add(c.now, e, fx)
	if c.bug != nil && c.bug.effects != nil {
		fx = c.bug.effects(c, fx)
	}
	for _, f := range fx {
		c.apply(f)
	}
	if c.bug != nil && c.bug.core != nil {
		c.bug.core(c.core)
	}
	c.check()
}

func (c *cluster) of(x queue.ID) *job {
	for _, j := range c.jobs {
		if j.task.ID == x {
			return j
		}
	}
	panic("sim: effect of an unknown task")
}

func (c *cluster) apply(fx sched.Effect) {
	switch f := fx.(type) {
	case sched.Admit:
		c.admitted(c.of(f.ID))
	case sched.Reject:
		c.of(f.ID).over = true
	case sched.Queued:
		c.publish(c.of(f.ID), "queued", 0, 0)
	case sched.Assign:
		c.assigned(f)
	case sched.Retry:
		j := c.of(f.ID)
		c.shares.returned(j)
		j.attempt, j.held, j.retried = 0, placement.Key{}, true
	case sched.StopRun:
		for _, a := range c.attempts {
			if a.j.task.ID == f.ID && a.n == f.Attempt {
				a.told = true
			}
		}
		if f.Reason != sched.Lost {
			c.of(f.ID).muted = true
		}
	case sched.Evict:
		c.ending(c.of(f.ID), f.Code)
	case sched.Terminal:
		c.ending(c.of(f.ID), f.Code)
	case sched.Leave:
		j := c.of(f.ID)
		if j.emitted || j.task.Ephemeral {
			c.fail(1, "task %d is left to the store, which can not take it up", j.n)
		}
		j.live, j.attempt, j.held = false, 0, placement.Key{}
	case sched.Load:
		c.begun(f)
	case sched.SetTimer:
		c.timer = f.At
	}
}

// begun looks at a load that begins: it must be of use to somebody who may go there.
func (c *cluster) begun(f sched.Load) {
	for _, e := range c.engines {
		if e.key == f.Worker.Key {
			c.loading = append(c.loading, &loading{engine: e, model: f.Model})
		}
	}
	if !slices.ContainsFunc(c.jobs, func(j *job) bool { return j.live && j.task.Need.Model == f.Model && c.allowed(j, f.Worker) }) {
		c.fail(8, "%s is loaded in %s/%s, where no task for it may go", f.Model, f.Worker.Country, f.Worker.Group)
	}
}

// allowed reports whether a task may go to the place of a worker.
func (c *cluster) allowed(j *job, w *placement.Worker) bool {
	for _, regions := range [][]string{j.task.Need.Regions, c.regions} {
		if regions != nil && !slices.Contains(regions, w.Country) && !slices.Contains(regions, w.Group) {
			return false
		}
	}
	return true
}

func (c *cluster) admitted(j *job) {
	if c.depth = max(c.depth, c.cfg.Queue.Capacity); c.core.Depth(queue.Interactive)+c.core.Depth(queue.Batch) > c.depth {
		c.fail(5, "%d places of %d are taken", c.core.Depth(queue.Interactive)+c.core.Depth(queue.Batch), c.cfg.Queue.Capacity)
	}
	if j.task.Ephemeral {
		j.live, j.since, j.opened = true, c.now, c.now
		return
	}
	j.placed = true
	c.call("submit", func(e store.Epoch) error {
		res, err := c.mem.Submit(context.Background(), e, []store.NewTask{{Record: store.Record{
			ID: store.TaskID(j.task.ID), Tenant: fmt.Sprint(j.task.Tenant[0]), Subject: store.SubjectRef(j.task.Subject), Model: "m", Class: j.task.Class.String(),
		}, Body: []byte("sealed")}})
		return one(res, err, func(s store.Submitted) error { return s.Err })
	}, func(err error) {
		j.placed = false
		if err != nil {
			j.over = true
			c.step(sched.Withdrawn{ID: j.task.ID})
			return
		}
		j.accepted, j.live, j.since, j.opened = true, true, c.now, c.now
		c.step(sched.Persisted{ID: j.task.ID})
	})
}

// one is the answer to a batch of one.
func one[T any](res []T, err error, of func(T) error) error {
	if err != nil {
		return err
	}
	return of(res[0])
}

func (c *cluster) assigned(f sched.Assign) {
	j := c.of(f.ID)
	c.checkAssign(j, f)
	a := &attempt{j: j, n: f.Attempt, epoch: f.Worker.Epoch}
	for _, e := range c.engines {
		if e.key == f.Worker.Key {
			a.engine = e
		}
	}
	j.attempt, j.held = f.Attempt, f.Worker.Key
	c.attempts = append(c.attempts, a)
	c.shares.assigned(c, j)
	if j.task.Ephemeral {
		a.started = true
		c.publish(j, "started", a.n, 0)
		return
	}
	c.call("start", func(e store.Epoch) error {
		res, err := c.mem.Start(context.Background(), e, []store.StartReq{{ID: store.TaskID(j.task.ID), Attempt: a.n, Worker: f.Worker.Key.String()}})
		return one(res, err, func(s store.Started) error { return s.Err })
	}, func(err error) {
		if err != nil {
			c.finish(a, exec.Store)
			return
		}
		a.started, j.begun = true, a.n
		c.publish(j, "started", a.n, 0)
	})
}

// ending makes an end durable, then tells the reader.
func (c *cluster) ending(j *job, code string) {
	c.checkEnd(j)
	j.live, j.muted, j.attempt, j.held = false, true, 0, placement.Key{}
	if j.task.Ephemeral {
		j.over = true
		c.publish(j, "end", 0, 0)
		return
	}
	c.complete(j, code)
}

func (c *cluster) complete(j *job, code string) {
	state := store.Failed
	switch code {
	case "":
		state = store.Completed
	case "CANCELLED":
		state = store.Cancelled
	}
	x := store.TaskID(j.task.ID)
	c.call("complete", func(e store.Epoch) error {
		rec, err := c.mem.Task(context.Background(), x)
		if err != nil {
			return err
		}
		if state == store.Cancelled && rec.State == store.Running {
			if _, err := c.mem.Cancel(context.Background(), e, []store.CancelReq{{ID: x, Reason: "client"}}); err != nil {
				return err
			}
		}
		res, err := c.mem.Complete(context.Background(), e, []store.Completion{{ID: x, Attempt: rec.Attempt, State: state, Outcome: store.Outcome{Code: code}, Output: []byte("out")}})
		return one(res, err, func(err error) error { return err })
	}, func(err error) {
		switch {
		case errors.Is(err, store.ErrUnavailable):
			c.complete(j, code) // again, until the store has it
		case err == nil, errors.Is(err, store.ErrTransition): // a client's cancel was stored first: the record tells
			j.over = true
			c.publish(j, "end", 0, 0)
		default:
			c.fail(1, "the end of an accepted task can not be stored: %v", err)
		}
	})
}

// call begins a store call of this term.
func (c *cluster) call(name string, write func(store.Epoch) error, then func(error)) {
	c.ops = append(c.ops, &op{name: name, epoch: c.epoch, write: write, then: then})
}

// answer lets a store call happen, or not.
func (c *cluster) answer(i int, how string) {
	o := c.ops[i]
	c.ops = slices.Delete(c.ops, i, i+1)
	if o.epoch != c.epoch { // the process that made it has lost its term
		before, err := c.digest(), o.write(o.epoch)
		if c.bug != nil && c.bug.fence {
			err = o.write(c.epoch)
		}
		if err == nil || c.digest() != before {
			c.fail(6, "%s of term %d in term %d: %v", o.name, o.epoch, c.epoch, err)
		}
		return
	}
	switch {
	case how == "unavailable" && !o.maybe:
		o.then(store.ErrUnavailable)
	case how == "lost", how == "unavailable": // outcome unknown, not written
		o.maybe = true
		c.ops = append(c.ops, o)
	case how == "unknown": // outcome unknown, written
		o.maybe = true
		_ = o.write(o.epoch)
		c.ops = append(c.ops, o)
	default:
		o.then(o.write(o.epoch))
	}
}

// publish appends to a stream log, unless the log is closed for that.
func (c *cluster) publish(j *job, kind string, n, token int) {
	fenced := j.closed || kind == "token" && (j.muted || j.attempt != n)
	if c.bug != nil && c.bug.unfenced {
		fenced = false
	}
	if fenced {
		return
	}
	next := uint64(len(j.log) + 1)
	if c.bug != nil && c.bug.reuse && next > 2 {
		next = 2
	}
	j.log = append(j.log, logged{next, kind, n, token})
	if j.stopped && tokens(j.log) > j.quiet {
		c.fail(11, "task %d publishes a token after its cancel", j.n)
	}
	j.closed = j.closed || kind == "end"
}

// emit makes an engine produce a token and the executor carry it on.
func (c *cluster) emit(a *attempt) {
	a.made++
	c.relay(a)
}

// relay publishes what an attempt made; the first token waits for its mark (ORC-404).
func (c *cluster) relay(a *attempt) {
	j := a.j
	if !j.task.Ephemeral && !j.marks[a.n] {
		if !a.marking {
			a.marking = true
			c.call("mark", func(e store.Epoch) error {
				res, err := c.mem.Mark(context.Background(), e, []store.MarkReq{{ID: store.TaskID(j.task.ID), Attempt: a.n}})
				return one(res, err, func(err error) error { return err })
			}, func(err error) {
				a.marking = false
				if err != nil {
					c.finish(a, exec.Store)
					return
				}
				j.marks[a.n] = true
				c.relay(a)
			})
		}
		return
	}
	for a.passed < a.made {
		a.passed++
		if j.attempt == a.n {
			j.emitted = true
		}
		token := a.passed
		if c.bug != nil && c.bug.skip && token > 1 {
			token++
		}
		c.publish(j, "token", a.n, token)
	}
}

// finish ends an attempt, exactly once.
func (c *cluster) finish(a *attempt, class exec.Class) {
	i := slices.Index(c.attempts, a)
	if i < 0 {
		return
	}
	c.attempts = slices.Delete(c.attempts, i, i+1)
	emitted := a.j.emitted && a.j.attempt == a.n && (c.bug == nil || !c.bug.silent)
	if a.j.attempt == a.n {
		a.j.attempt, a.j.held = 0, placement.Key{}
	}
	c.step(sched.Finished{ID: a.j.task.ID, Attempt: a.n, Result: sched.Result{
		Class: class, Emitted: emitted, TokensIn: a.j.task.Need.Prompt, TokensOut: a.j.task.Need.Expected, First: time.Second, Decode: time.Second,
	}})
}

// crash ends the process at once: calls in flight go on in the store without
// anybody to hear of them; the next process recovers (ORC-654).
func (c *cluster) crash() {
	c.checkReplay()
	for _, j := range c.jobs {
		if j.placed || j.live && j.task.Ephemeral {
			j.gone = true
		}
		if j.log = j.log[:j.cursor]; !j.closed || j.cursor == 0 || j.log[j.cursor-1].kind != "end" {
			j.closed = false // what was not read is lost with the process
		}
		j.placed, j.live, j.attempt, j.held, j.emitted, j.muted = false, false, 0, placement.Key{}, false, false
	}
	if c.bug != nil && c.bug.forget {
		c.mem = store.NewMemory()
	}
	c.lead()
	page, err := c.mem.Tasks(context.Background(), store.Filter{States: []store.State{store.Queued, store.Running, store.Cancelling}, Oldest: true, Limit: 1000})
	if err != nil {
		panic(err)
	}
	for _, r := range page {
		c.recover(c.of(queue.ID(r.ID)), r)
	}
	for _, j := range c.jobs {
		if !j.accepted || j.closed || j.live {
			continue
		}
		rec, err := c.mem.Task(context.Background(), store.TaskID(j.task.ID))
		if err != nil {
			c.fail(1, "an accepted task is lost: %v", err)
		}
		if rec.State.Terminal() { // the reader comes back and hears it from the record
			j.over = true
			c.publish(j, "end", 0, 0)
		}
	}
}

func (c *cluster) recover(j *job, r store.Record) {
	j.gone, j.accepted = false, true // it was stored, whether its client knows or not
	switch {
	case r.State == store.Cancelling:
		j.muted = true
		c.complete(j, "CANCELLED")
	case r.Emitted:
		j.muted = true
		c.complete(j, "WORKER_RESET")
	default:
		j.log, j.cursor, j.read, j.muted, j.ended = nil, 0, nil, false, 0
		j.live, j.since, j.opened, j.begun, j.retried = true, c.now, c.now, r.Attempt, false
		c.arrivals++
		j.order = c.arrivals
		t := j.task
		t.Attempt = r.Attempt
		c.step(sched.Recovered{Task: t})
	}
}

// advance moves the clock and ticks at every instant that the core asked for.
func (c *cluster) advance(d time.Duration) {
	until := c.now + sched.Instant(d)
	for range 10_000 {
		if c.timer == 0 || c.timer > until {
			c.now = until
			return
		}
		c.now = max(c.now, c.timer)
		c.step(sched.Tick{})
		if c.timer != 0 && c.timer <= c.now {
			c.fail(1, "the timer does not move on")
		}
	}
	c.fail(1, "ticks without end")
}
