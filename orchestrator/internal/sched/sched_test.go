package sched_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

func id(n int) (out queue.ID) {
	binary.BigEndian.PutUint64(out[8:], uint64(n))
	return out
}

const (
	capacity    = 6
	slotsEach   = 2
	total       = 20 * time.Second
	cancelAfter = 5 * time.Second
)

// world is the executor of the model: it does what effects say and remembers
// what readers and the store would have seen.
type world struct {
	t        *rapid.T
	core     *sched.Core
	now      sched.Instant
	timer    sched.Instant
	up       []bool // workers
	epoch    []uint64
	placed   map[queue.ID]bool // Admit seen, not yet persisted
	accepted map[queue.ID]bool
	live     map[queue.ID]bool           // accepted and not ended
	runs     map[queue.ID]map[int]string // attempts whose Finished is still owed → worker
	emitted  map[queue.ID]bool
	ended    map[queue.ID]int
	stopped  map[queue.ID]bool // a client's cancel was acknowledged
	began    map[queue.ID]sched.Instant
	halted   map[queue.ID]bool               // its end was decided before: the first one stands
	asked    map[placement.Key]sched.Instant // Probes that are not answered yet
	holds    map[queue.ID]queue.Tenant       // tenants of tasks
	refused  bool
	durable  bool
}

// Two tenants; the second may hold one slot.
var tenantA, tenantB = queue.Tenant{1}, queue.Tenant{2}

func newWorld(t *rapid.T) *world {
	core, err := sched.New(sched.Config{Queue: queue.Config{Capacity: capacity, Policy: queue.DropLRU}, CancelAfter: cancelAfter})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, core: core, now: 1, up: []bool{true, true, true}, epoch: []uint64{1, 1, 1}, placed: map[queue.ID]bool{}, accepted: map[queue.ID]bool{},
		live: map[queue.ID]bool{}, runs: map[queue.ID]map[int]string{}, emitted: map[queue.ID]bool{}, ended: map[queue.ID]int{},
		asked: map[placement.Key]sched.Instant{}, holds: map[queue.ID]queue.Tenant{},
		stopped: map[queue.ID]bool{}, began: map[queue.ID]sched.Instant{}, halted: map[queue.ID]bool{},
	}
	w.step(sched.Tenant{ID: tenantB, Rules: sched.Rules{MaxRunning: 1, Wait: true}})
	w.step(w.workers())
	return w
}

func (w *world) workers() sched.Workers {
	var list []*placement.Worker
	for i, up := range w.up {
		if up {
			list = append(list, &placement.Worker{
				Key: placement.Key{Node: "n", Pool: "p", Worker: fmt.Sprint(i)}, Epoch: w.epoch[i],
				Models: []string{"m"}, SlotsTotal: slotsEach, Online: true, Ready: true,
			})
		}
	}
	return sched.Workers{List: list}
}

func (w *world) step(e sched.Event) {
	for _, fx := range slices.Clone(w.core.Step(w.now, e)) {
		w.apply(fx)
	}
}

func (w *world) apply(fx sched.Effect) {
	t := w.t
	switch f := fx.(type) {
	case sched.Admit:
		w.placed[f.ID] = true
		w.began[f.ID] = w.now
	case sched.Assign:
		switch {
		case !w.live[f.ID]:
			t.Fatalf("assigned a task that is not live")
		case w.stopped[f.ID]:
			t.Fatalf("I11: assigned after a cancel")
		case w.emitted[f.ID]:
			t.Fatalf("assigned again after a published token")
		case w.refused:
			t.Fatalf("assigned during the shutdown")
		}
		for n := range w.runs[f.ID] {
			if n >= f.Attempt {
				t.Fatalf("I7: attempt %d after %d", f.Attempt, n)
			}
		}
		if f.Why.Winner != f.Worker.Key.String() {
			t.Fatalf("explained %s, assigned %s", f.Why.Winner, f.Worker.Key)
		}
		if w.runs[f.ID] == nil {
			w.runs[f.ID] = map[int]string{}
		}
		w.runs[f.ID][f.Attempt] = f.Worker.Key.Worker
		if w.holds[f.ID] == tenantB && w.core.RunningOf(tenantB) > 1 {
			t.Fatalf("a tenant holds more slots than its quota")
		}
	case sched.Probe:
		if at, ok := w.asked[f.Worker.Key]; ok && w.now < at+sched.Instant(10*time.Second) {
			t.Fatalf("two probes of one worker at a time")
		}
		w.asked[f.Worker.Key] = w.now
	case sched.Note:
		if f.Kind == "restored" {
			delete(w.asked, f.Worker)
		}
	case sched.Terminal:
		w.end(f.ID)
		if w.stopped[f.ID] && f.Code != "CANCELLED" {
			t.Fatalf("a cancelled task ended with %q", f.Code)
		}
	case sched.StopRun:
		w.halted[f.ID] = w.halted[f.ID] || f.Reason != sched.Lost
	case sched.Evict:
		w.end(f.ID)
	case sched.Leave:
		if !w.durable || w.emitted[f.ID] {
			t.Fatalf("left a task that can not be taken up again")
		}
		w.end(f.ID)
	case sched.SetTimer:
		w.timer = f.At
	}
}

// end checks I1: one end per accepted task.
func (w *world) end(id queue.ID) {
	if !w.live[id] {
		w.t.Fatalf("I1: an end for a task that is not live")
	}
	if w.ended[id]++; w.ended[id] > 1 {
		w.t.Fatalf("I1: second end")
	}
	if late := time.Duration(w.now - w.began[id]); late > total+cancelAfter+time.Second {
		w.t.Fatalf("I1: ended after %v", late)
	}
	delete(w.live, id)
}

func (w *world) check() {
	if !w.core.Closed() {
		w.t.Fatalf("a key that can be served is thought to be closed")
	}
	if n := w.core.Depth(queue.Interactive) + w.core.Depth(queue.Batch); n > capacity+len(w.live) {
		w.t.Fatalf("I5: %d places of %d", n, capacity)
	}
	for i := range w.up {
		key := placement.Key{Node: "n", Pool: "p", Worker: fmt.Sprint(i)}
		held := w.core.View().Reserved(key)
		owed := 0
		for _, attempts := range w.runs {
			for _, worker := range attempts {
				if worker == key.Worker {
					owed++
				}
			}
		}
		if held < 0 || held > slotsEach || held > owed {
			w.t.Fatalf("I4: worker %d holds %d slots of %d, %d attempts run", i, held, slotsEach, owed)
		}
	}
}

// advance moves the clock and ticks at every instant that the core asked for.
func (w *world) advance(d time.Duration) {
	until := w.now + sched.Instant(d)
	for range 10_000 {
		if w.timer == 0 || w.timer > until {
			w.now = until
			return
		}
		w.now = max(w.now, w.timer)
		w.step(sched.Tick{})
		if w.timer != 0 && w.timer <= w.now {
			w.t.Fatalf("timer does not move on")
		}
	}
	w.t.Fatalf("ticks without end")
}

func (w *world) anyRun(t *rapid.T) (queue.ID, int, bool) {
	var all []queue.ID
	for x, attempts := range w.runs {
		if len(attempts) > 0 {
			all = append(all, x)
		}
	}
	if len(all) == 0 {
		return queue.ID{}, 0, false
	}
	slices.SortFunc(all, func(a, b queue.ID) int {
		return int(binary.BigEndian.Uint64(a[8:])) - int(binary.BigEndian.Uint64(b[8:]))
	})
	x := rapid.SampledFrom(all).Draw(t, "run")
	for n := 1; ; n++ {
		if _, ok := w.runs[x][n]; ok {
			return x, n, true
		}
	}
}

// TestCoreModel drives the core with every event in any order and holds the
// invariants I1, I4, I5, I7, I11 and I15 of ORC-951.
func TestCoreModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		next := 0
		classes := []exec.Class{exec.Connect, exec.Overload, exec.Rejected, exec.Denied, exec.Server, exec.Reset, exec.Timeout, exec.Protocol, exec.Store, exec.Erased}
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(t *rapid.T) {
				w.t = t
				next++
				task := sched.Task{
					ID: id(next), Class: queue.Class(rapid.IntRange(0, 1).Draw(t, "class")), Need: placement.Request{Model: "m"},
					Total: total, Ephemeral: rapid.Bool().Draw(t, "ephemeral"), Subject: [16]byte{byte(next % 3)},
					Tenant: rapid.SampledFrom([]queue.Tenant{tenantA, tenantB}).Draw(t, "tenant"), Cost: 1000,
				}
				w.holds[task.ID] = task.Tenant
				if rapid.IntRange(0, 3).Draw(t, "deadline") == 0 {
					task.Due = w.now + sched.Instant(rapid.IntRange(1, 10).Draw(t, "s"))*sched.Instant(time.Second)
				}
				if task.Ephemeral { // accepted in the step itself
					w.accepted[task.ID], w.live[task.ID] = true, true
				}
				w.step(sched.Submit{Task: task})
				if task.Ephemeral && !w.placed[task.ID] {
					delete(w.live, task.ID)
				}
				if task.Ephemeral {
					delete(w.placed, task.ID)
				}
			},
			"store answers": func(t *rapid.T) {
				w.t = t
				for n := 1; n <= next; n++ {
					if !w.placed[id(n)] {
						continue
					}
					delete(w.placed, id(n))
					if rapid.IntRange(0, 4).Draw(t, "fails") == 0 {
						w.step(sched.Withdrawn{ID: id(n)})
						return
					}
					w.accepted[id(n)], w.live[id(n)], w.began[id(n)] = true, true, w.now
					w.step(sched.Persisted{ID: id(n)})
					return
				}
				t.Skip("nothing is being stored")
			},
			"finish": func(t *rapid.T) {
				w.t = t
				x, n, ok := w.anyRun(t)
				if !ok {
					t.Skip("nothing runs")
				}
				r := sched.Result{Emitted: w.emitted[x]}
				if rapid.Bool().Draw(t, "fails") {
					r.Class = rapid.SampledFrom(classes).Draw(t, "class")
				}
				delete(w.runs[x], n)
				w.step(sched.Finished{ID: x, Attempt: n, Result: r})
			},
			"token": func(t *rapid.T) {
				if x, _, ok := w.anyRun(t); ok && w.live[x] {
					w.emitted[x] = true
				}
			},
			"cancel": func(t *rapid.T) {
				w.t = t
				x := id(rapid.IntRange(1, max(1, next)).Draw(t, "task"))
				if w.live[x] && !w.halted[x] {
					w.stopped[x] = true
				}
				before := w.ended[x]
				w.step(sched.Cancel{ID: x, Reason: sched.Client})
				if w.stopped[x] && w.ended[x] == before && len(w.runs[x]) == 0 && w.live[x] {
					t.Fatalf("a waiting task did not end with its cancel")
				}
			},
			"probe answers": func(t *rapid.T) {
				w.t = t
				w.probes(rapid.Bool().Draw(t, "ok"))
			},
			"token seen": func(t *rapid.T) {
				w.t = t
				if x, _, ok := w.anyRun(t); ok {
					w.step(sched.Progress{ID: x, Tokens: 1})
				}
			},
			"person erased": func(t *rapid.T) {
				w.t = t
				who := rapid.IntRange(0, 8).Draw(t, "person") // mostly nobody
				for n := 1; n <= next; n++ {
					if n%3 == who && w.live[id(n)] && !w.halted[id(n)] {
						w.stopped[id(n)] = true
					}
				}
				w.step(sched.CancelAll{Subject: [16]byte{byte(who)}, Reason: sched.Erasure})
			},
			"worker dies or returns": func(t *rapid.T) {
				w.t = t
				i := rapid.IntRange(0, len(w.up)-1).Draw(t, "worker")
				w.up[i] = !w.up[i]
				delete(w.asked, placement.Key{Node: "n", Pool: "p", Worker: fmt.Sprint(i)})
				if w.up[i] {
					w.epoch[i]++
				}
				w.step(w.workers())
			},
			"time": func(t *rapid.T) {
				w.t = t
				w.advance(time.Duration(rapid.IntRange(1, 8000).Draw(t, "ms")) * time.Millisecond)
			},
			"shutdown": func(t *rapid.T) {
				w.t = t
				if w.refused || rapid.IntRange(0, 9).Draw(t, "really") > 0 {
					t.Skip("later")
				}
				w.refused, w.durable = true, rapid.Bool().Draw(t, "durable")
				w.step(sched.Refuse{Durable: w.durable})
				if rapid.Bool().Draw(t, "cut") {
					w.step(sched.Cut{})
				}
			},
			"": func(t *rapid.T) { w.t = t; w.check() },
		})
		w.t = t
		w.drain(next)
	})
}

// probes answers every probe that is under way.
func (w *world) probes(ok bool) {
	for i := range w.up {
		if k := (placement.Key{Node: "n", Pool: "p", Worker: fmt.Sprint(i)}); w.asked[k] != 0 {
			delete(w.asked, k)
			w.step(sched.Probed{Worker: k, OK: ok})
		}
	}
}

// drain ends every fault and checks that nothing stays (I15): all accepted
// tasks have one end and all slots are free.
func (w *world) drain(next int) {
	for i := range w.up {
		w.up[i] = true
	}
	w.step(w.workers())
	for range 200 {
		for n := 1; n <= next; n++ {
			if w.placed[id(n)] {
				delete(w.placed, id(n))
				w.accepted[id(n)], w.live[id(n)], w.began[id(n)] = true, true, w.now
				w.step(sched.Persisted{ID: id(n)})
			}
			for a := range w.runs[id(n)] {
				delete(w.runs[id(n)], a)
				w.step(sched.Finished{ID: id(n), Attempt: a})
			}
		}
		w.probes(true)
		w.advance(time.Second)
		w.check()
	}
	if !w.core.Idle() || w.core.Running() != 0 || len(w.live) != 0 {
		w.t.Fatalf("I15: %d tasks live, %d slots held after the faults ended", len(w.live), w.core.Running())
	}
	for x := range w.accepted {
		if w.began[x] != 0 && w.ended[x] != 1 {
			w.t.Fatalf("I1: an accepted task has %d ends", w.ended[x])
		}
	}
	if w.timer != 0 {
		w.t.Fatalf("a timer without a task")
	}
}

func newCore(t *testing.T, workers ...*placement.Worker) *sched.Core {
	t.Helper()
	c, err := sched.New(sched.Config{CancelAfter: cancelAfter})
	if err != nil {
		t.Fatal(err)
	}
	c.Step(1, sched.Workers{List: workers})
	return c
}

func engine(name string, slots int) *placement.Worker {
	return &placement.Worker{Key: placement.Key{Node: "n", Pool: "p", Worker: name}, Epoch: 1, Models: []string{"m"}, SlotsTotal: slots, Online: true, Ready: true}
}

func find[E sched.Effect](fx []sched.Effect) (E, bool) {
	for _, f := range fx {
		if e, ok := f.(E); ok {
			return e, true
		}
	}
	var none E
	return none, false
}

// TestDeadWorkerBeforeFirstByte: an attempt that dies before its first token
// runs again at once on another worker (ORC-403).
func TestDeadWorkerBeforeFirstByte(t *testing.T) {
	c := newCore(t, engine("a", 1), engine("b", 1))
	first, _ := find[sched.Assign](c.Step(2, sched.Submit{Task: sched.Task{ID: id(1), Need: placement.Request{Model: "m"}, Total: total, Ephemeral: true}}))
	fx := c.Step(3, sched.Finished{ID: id(1), Attempt: 1, Result: sched.Result{Class: exec.Connect}})
	again, ok := find[sched.Assign](fx)
	if !ok || again.Worker.Key == first.Worker.Key || again.Attempt != 2 {
		t.Errorf("after a dead worker: %v, want attempt 2 on the other worker than %s", fx, first.Worker.Key)
	}
}

// TestFirstBindingReason: the refusal names what binds first (ORC-247).
func TestFirstBindingReason(t *testing.T) {
	small := engine("a", 1)
	small.CtxMax = 100
	for _, c := range []struct {
		name    string
		workers []*placement.Worker
		need    placement.Request
		want    string
	}{
		{"no worker", nil, placement.Request{Model: "m"}, "POOL_UNAVAILABLE"},
		{"unknown model", []*placement.Worker{small}, placement.Request{Model: "x"}, "MODEL_NOT_FOUND"},
		{"context", []*placement.Worker{small}, placement.Request{Model: "m", Ctx: 101}, "CONTEXT_TOO_LARGE"},
		{"pin", []*placement.Worker{small}, placement.Request{Model: "m", Place: placement.Constraints{Pool: "q"}}, "INVALID_PARAMS"},
		{"engine", []*placement.Worker{small}, placement.Request{Model: "m", Engine: "vllm"}, "MODEL_NOT_AVAILABLE"},
	} {
		core := newCore(t, c.workers...)
		got, ok := find[sched.Reject](core.Step(2, sched.Submit{Task: sched.Task{ID: id(1), Need: c.need, Total: total}}))
		if !ok || got.Code != c.want {
			t.Errorf("%s: rejected %v with %q, want %q", c.name, ok, got.Code, c.want)
		}
	}
}

// TestVictimToldOnce: a full queue ends exactly one waiting task (ORC-202).
func TestVictimToldOnce(t *testing.T) {
	core, _ := sched.New(sched.Config{Queue: queue.Config{Capacity: 1, Policy: queue.DropLRU}, CancelAfter: cancelAfter})
	busy := engine("a", 0)
	core.Step(1, sched.Workers{List: []*placement.Worker{busy}})
	submit := func(n int) []sched.Effect {
		core.Step(2, sched.Submit{Task: sched.Task{ID: id(n), Need: placement.Request{Model: "m"}, Total: total}})
		return slices.Clone(core.Step(2, sched.Persisted{ID: id(n)}))
	}
	submit(1)
	core.Step(3, sched.Submit{Task: sched.Task{ID: id(2), Need: placement.Request{Model: "m"}, Total: total}})
	fx := core.Step(3, sched.Cancel{ID: id(1), Reason: sched.Client})
	if _, again := find[sched.Terminal](fx); again {
		t.Errorf("the victim ended twice")
	}
}

func BenchmarkFullPath(b *testing.B) {
	core, _ := sched.New(sched.Config{Queue: queue.Config{Capacity: queue.Unbounded}, CancelAfter: cancelAfter})
	var workers []*placement.Worker
	for i := range 16 {
		workers = append(workers, engine(fmt.Sprintf("w%02d", i), 8))
	}
	core.Step(1, sched.Workers{List: workers})
	for i := 1; b.Loop(); i++ {
		at := sched.Instant(i)
		core.Step(at, sched.Submit{Task: sched.Task{ID: id(i), Need: placement.Request{Model: "m"}, Total: time.Hour, Ephemeral: true}})
		core.Step(at, sched.Finished{ID: id(i), Attempt: 1})
	}
}
