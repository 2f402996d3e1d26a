package sched_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
)

// invariants is how many ORC-951 numbers.
const invariants = 16

// check holds what must be true after every step.
func (c *cluster) check() {
	if !c.core.Closed() {
		c.t.Fatalf("a key that can be served is thought to be closed")
	}
	held, inside := map[placement.Key]int{}, 0
	for _, j := range c.jobs {
		if j.held != (placement.Key{}) {
			held[j.held]++
		}
		if j.live || j.placed {
			inside++
		}
		c.checkStream(j)
		if late := time.Duration(c.now - j.since); j.live && late > total+cancelAfter+time.Second {
			which := 1
			if c.calm {
				which = 15
			}
			c.fail(which, "task %d lives after %v", j.n, late)
		}
	}
	for _, e := range c.engines {
		if n := c.core.View().Reserved(e.key); n != held[e.key] || n > e.slots {
			c.fail(4, "engine %s: %d of %d slots reserved, %d attempts hold one", e.key, n, e.slots, held[e.key])
		}
	}
	n, workers := c.core.Tables(), c.core.View().Len()
	if n.Keys > n.Tasks || n.Timers > n.Tasks || n.Tenants > n.Tasks || n.Mates > workers || n.Sick > workers || n.Loads > len(c.engines) {
		c.fail(13, "tables grow: %+v", n)
	}
	if total := c.core.Running(); n.Running != total {
		c.fail(12, "the tenants hold %d slots by their own count, %d by the reservations", n.Running, total)
	}
	if n.Tasks != inside {
		c.fail(13, "the core holds %d tasks, the executor %d", n.Tasks, inside)
	}
	c.checkErased()
}

// checkStream looks at a log and at what its reader has seen of it.
func (c *cluster) checkStream(j *job) {
	of := 0
	for _, e := range j.log {
		if e.kind == "token" && of != 0 && e.attempt != of {
			c.fail(7, "attempts %d and %d of task %d both published", of, e.attempt, j.n)
		}
		if e.kind == "token" {
			of = e.attempt
		}
	}
	last, made := uint64(0), 0
	for i, e := range j.read {
		if e.id <= last || e.kind == "end" && i != len(j.read)-1 {
			c.fail(2, "task %d: event %d (%s) after %d", j.n, e.id, e.kind, last)
		}
		last = e.id
		if e.kind == "token" {
			if made++; e.token != made {
				c.fail(3, "task %d: token %d of the engine came as number %d", j.n, e.token, made)
			}
		}
	}
}

func tokens(log []logged) (n int) {
	for _, e := range log {
		if e.kind == "token" {
			n++
		}
	}
	return n
}

// checkEnd: an accepted task ends once, in time.
func (c *cluster) checkEnd(j *job) {
	j.ended++
	if !j.live && !j.placed || j.ended > 1 {
		c.fail(1, "task %d ended %d times", j.n, j.ended)
	}
	if late := time.Duration(c.now - j.since); j.live && late > total+cancelAfter+time.Second {
		c.fail(1, "task %d ended after %v", j.n, late)
	}
}

// checkAssign looks at a dispatch before the executor begins it.
func (c *cluster) checkAssign(j *job, f sched.Assign) {
	switch {
	case j.stopped:
		c.fail(11, "task %d is dispatched after its cancel", j.n)
	case j.emitted:
		c.fail(7, "task %d is dispatched again after a published token", j.n)
	case !j.live:
		c.fail(1, "task %d is dispatched and not live", j.n)
	case f.Why.Winner != f.Worker.Key.String():
		c.fail(14, "explained %s, assigned %s", f.Why.Winner, f.Worker.Key)
	}
	if !c.allowed(j, f.Worker) {
		c.fail(8, "task %d, allowed in %v and %v, goes to %s/%s", j.n, j.task.Need.Regions, c.regions, f.Worker.Country, f.Worker.Group)
	}
	running := 1
	for _, o := range c.jobs {
		if o != j && o.task.Tenant == j.task.Tenant && o.held != (placement.Key{}) {
			running++
		}
		if !j.retried && o.waits() && !o.retried && o.before(j) {
			c.fail(10, "task %d is dispatched before task %d of the same tenant: %+v %+v\n%s", j.n, o.n, j.task, o.task, c.rec.tail())
		}
	}
	if most := c.limit[j.task.Tenant].MaxRunning; most > 0 && running > most {
		c.fail(12, "%d tasks of a tenant run, %d may", running, most)
	}
}

// waits reports whether the queue could give j out.
func (j *job) waits() bool {
	return j.live && j.held == (placement.Key{}) && j.attempt == 0 && j.ended == 0
}

// before reports whether j came earlier than o, and nothing else tells them apart.
func (j *job) before(o *job) bool {
	return j != o && j.order < o.order && j.opened <= o.opened && j.task.Tenant == o.task.Tenant && j.task.Class == o.task.Class &&
		j.task.Due == o.task.Due && j.task.Need.Model == o.task.Need.Model && slices.Equal(j.task.Need.Regions, o.task.Need.Regions)
}

// checkErased: what was erased is in no record and in no state of the core.
func (c *cluster) checkErased() {
	for ref := range c.erased {
		found, err := c.mem.Tasks(context.Background(), store.Filter{Subject: store.SubjectRef(ref), Limit: 1})
		if err != nil || len(found) > 0 {
			c.fail(16, "the store still knows an erased person: %v", err)
		}
		if state, _ := c.core.State(); bytes.Contains(state, []byte(hex.EncodeToString(ref[:]))) {
			c.fail(16, "the core still knows an erased person")
		}
	}
}

func (c *cluster) digest() string {
	page, err := c.mem.Tasks(context.Background(), store.Filter{Limit: 1000})
	return fmt.Sprint(page, err)
}

// recording is the decision log of one term (I14).
type recording struct {
	config sched.Config
	state  []byte
	steps  []recorded
}

type recorded struct {
	at     sched.Instant
	ev, fx []byte
}

func (r *recording) begin(c *cluster) {
	state, err := c.core.State()
	if err != nil {
		panic(err)
	}
	*r = recording{config: c.cfg, state: state}
}

func encode(fx []sched.Effect) (out []byte) {
	for _, f := range fx {
		var err error
		if out, err = sched.AppendEffect(out, f); err != nil {
			panic(err)
		}
	}
	return out
}

func (r *recording) add(at sched.Instant, e sched.Event, fx []sched.Effect) {
	ev, err := sched.AppendEvent(nil, e)
	if err != nil {
		panic(err)
	}
	r.steps = append(r.steps, recorded{at, ev, encode(fx)})
}

// checkReplay plays the log of the term back.
func (c *cluster) checkReplay() {
	again, err := sched.Restore(c.rec.config, c.rec.state)
	if err != nil {
		c.fail(14, "the first state: %v", err)
	}
	for i, s := range c.rec.steps {
		e, err := sched.DecodeEvent(s.ev)
		if err != nil {
			c.fail(14, "step %d: %v", i, err)
		}
		if got := encode(again.Step(s.at, e)); !bytes.Equal(got, s.fx) {
			c.fail(14, "step %d %s: replayed %s, recorded %s", i, s.ev, got, s.fx)
		}
	}
	x, err1 := c.core.State()
	y, err2 := again.State()
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(x, y) {
		c.fail(14, "the last state is another one: %v\n%s\n%s", err, x, y)
	}
}

// walk is one random life of a cluster. It returns what it found wrong, or "".
func walk(t *rapid.T, bug *planted) (found string) {
	defer func() {
		if v := recover(); v != nil {
			text, ok := v.(violation)
			if !ok {
				panic(v)
			}
			found = string(text)
		}
	}()
	c := newCluster(t, bug)
	do, names := c.actions(), slices.Clone(actionNames)
	if c.fair {
		names = append(names, "submit", "submit", "submit", "store", "store")
	}
	for range rapid.IntRange(10, 120).Draw(t, "steps") {
		do[rapid.SampledFrom(names).Draw(t, "action")](t)
	}
	c.drain()
	return ""
}

// TestClusterModel is the cluster simulation (a): ORC-951 I1…I16 after every step of
// random lives with crashes, lost and doubled commits, dying, hanging and lying
// workers, lost nodes, slow readers, storms of cancels, changes of rules and erasures.
// LLORCH_SEEDS says how many; LLORCH_NIGHTLY=1 means 100,000. It also proves
// ORC-101, ORC-123, ORC-400, ORC-404, ORC-654 and ORC-560 in their parts that the core decides.
func TestClusterModel(t *testing.T) {
	seeds := 1000
	if testing.Short() { // the race detector makes each one ten times dearer
		seeds = 200
	}
	if n, err := strconv.Atoi(os.Getenv("LLORCH_SEEDS")); err == nil {
		seeds = n
	} else if os.Getenv("LLORCH_NIGHTLY") != "" {
		seeds = 100_000
	}
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	if before == "100" { // unless the command line says otherwise
		_ = checks.Set(strconv.Itoa(seeds))
		t.Cleanup(func() { _ = checks.Set(before) })
	}
	rapid.Check(t, func(t *rapid.T) {
		if v := walk(t, nil); v != "" {
			t.Fatal(v)
		}
	})
}

// TestClusterModelFindsPlantedBugs proves that every invariant is looked at: a
// cluster with one planted defect is told from a sound one, by the check of that
// number, within some walks.
func TestClusterModelFindsPlantedBugs(t *testing.T) {
	broken := map[int]bool{}
	for _, bug := range plantedBugs() {
		broken[bug.breaks] = true
		t.Run(fmt.Sprintf("I%d %s", bug.breaks, bug.name), func(t *testing.T) {
			for seed := range 1500 {
				v := rapid.Custom(func(rt *rapid.T) string {
					rapid.Bool().Draw(rt, "a generator has to draw")
					return walk(rt, &bug)
				}).Example(seed)
				if bytes.HasPrefix([]byte(v), fmt.Appendf(nil, "I%d: ", bug.breaks)) {
					t.Logf("walk %d: %.200s", seed, v)
					return
				}
			}
			t.Error("no walk noticed")
		})
	}
	for i := 1; i <= invariants; i++ {
		if !broken[i] {
			t.Errorf("no bug breaks invariant %d", i)
		}
	}
}

// drain ends every fault: everything that was accepted has one end, which its
// reader hears, and nothing is left (I15).
func (c *cluster) drain() {
	c.calm, c.fair = true, false
	for _, e := range c.engines {
		e.up, e.ready, e.drains, e.hangs, e.busy = true, true, false, false, 0
	}
	c.regions = nil
	c.step(sched.Policy{})
	for _, t := range tenantIDs() {
		delete(c.limit, t)
		c.step(sched.Tenant{ID: t})
	}
	c.step(c.picture())
	for round := range 60 {
		for range 200 {
			if len(c.ops) == 0 {
				break
			}
			c.answer(0, "")
		}
		for _, a := range slices.Clone(c.attempts) {
			if a.started && !a.marking {
				c.finish(a, exec.OK)
			}
		}
		for len(c.loading) > 0 {
			c.load(0, "arrives")
		}
		for _, e := range c.engines {
			if round%8 == 0 {
				c.step(sched.Probed{Worker: e.key, OK: true})
			}
		}
		c.advance(time.Second)
	}
	for _, j := range c.jobs {
		for c.readOn(j, 1000) {
		}
		switch {
		case j.live || j.placed:
			c.fail(15, "task %d is still here after all faults ended", j.n)
		case j.accepted && !j.closed:
			c.fail(1, "task %d has no end in its stream", j.n)
		case j.accepted:
			rec, err := c.mem.Task(context.Background(), store.TaskID(j.task.ID))
			if err != nil || !rec.State.Terminal() {
				c.fail(1, "task %d is %q in the store: %v", j.n, rec.State, err)
			}
			if ends := len(slices.DeleteFunc(slices.Clone(j.read), func(e logged) bool { return e.kind != "end" })); ends != 1 {
				c.fail(1, "the reader of task %d saw %d ends", j.n, ends)
			}
		}
	}
	if !c.core.Idle() || c.core.Running() != 0 || len(c.ops) > 0 || len(c.attempts) > 0 {
		c.fail(15, "%d slots, %d attempts, calls %s are left", c.core.Running(), len(c.attempts), c.calls())
	}
	c.checkReplay()
}

// readOn moves a reader by at most n events; false at the end of the log.
func (c *cluster) readOn(j *job, n int) bool {
	to := min(len(j.log), j.cursor+n)
	moved := to > j.cursor
	j.read = append(j.read, j.log[j.cursor:to]...)
	j.cursor = to
	c.checkStream(j)
	return moved
}

// tail spells the last steps of the log.
func (r *recording) tail() (out string) {
	for _, s := range r.steps[max(0, len(r.steps)-8):] {
		out += fmt.Sprintf("%d %.300s\n   %.300s\n", s.at, s.ev, s.fx)
	}
	return out
}

// calls names the store calls in flight.
func (c *cluster) calls() (names []string) {
	for _, o := range c.ops {
		names = append(names, o.name)
	}
	return names
}
