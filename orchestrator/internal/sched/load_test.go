package sched_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
)

// disk is an engine with one model loaded ("" = none) and others on disk.
func disk(node, name, loaded string, onDisk ...string) *placement.Worker {
	w := &placement.Worker{Key: placement.Key{Node: node, Pool: "p", Worker: name}, Epoch: 1, SlotsTotal: 2, Online: true, Ready: true}
	if loaded != "" {
		w.Models = []string{loaded}
	}
	for _, m := range onDisk {
		w.OnDisk = append(w.OnDisk, placement.OnDisk{Model: m, Fits: 1})
	}
	return w
}

func model(name string) func(*sched.Task) {
	return func(t *sched.Task) { t.Need.Model = name }
}

func loads(fx []sched.Effect) (out []string) {
	for _, f := range fx {
		if l, ok := f.(sched.Load); ok {
			out = append(out, fmt.Sprintf("%s/%s %s -%v", l.Worker.Node, l.Worker.Key.Worker, l.Model, l.Evict))
		}
	}
	return out
}

// TestLoad: waiting work without a loaded worker begins one load; when the list
// shows the model, all that waited runs. What is merely busy is not loaded a
// second time (ORC-340).
func TestLoad(t *testing.T) {
	a, b := disk("n", "a", "", "x"), disk("n", "b", "", "x")
	tb := newTable(t, sched.Config{}, a, b)
	if got := loads(tb.submit(1, model("x"))); len(got) != 1 || got[0] != "n/a x -[]" {
		t.Fatalf("loads = %v, want one on a", got)
	}
	if got := loads(tb.submit(2, model("x"))); len(got) != 0 {
		t.Fatalf("a second load began: %v", got)
	}
	tb.step(sched.Loading{Worker: a.Key, Model: "x", Bytes: 5 << 20, Total: 10 << 20, Phase: "read"})
	if e, _ := tb.core.Why(id(1)); e.Reason != "model_loading" || e.Words != "The model is being loaded: 5 of 10 MiB." {
		t.Errorf("Why = %s: %s", e.Reason, e.Words)
	}
	if p, ok := tb.core.Pending(id(1)); !ok || p.Model != "x" || p.Bytes != 5<<20 || p.Phase != "read" {
		t.Errorf("Pending = %+v", p)
	}
	if fx := tb.step(sched.Loading{Worker: a.Key, Model: "x", Done: true}); len(loads(fx)) != 0 {
		t.Fatalf("a load began before the list showed the one that ended: %v", fx)
	}
	fx := tb.step(sched.Workers{List: []*placement.Worker{disk("n", "a", "x", "x"), b}})
	if count[sched.Assign](fx) != 2 {
		t.Errorf("with the model loaded: %v, want both tasks to start", fx)
	}
	if fx := tb.submit(3, model("x")); len(loads(fx)) != 0 {
		t.Errorf("a busy model was loaded again: %v", fx)
	}
	if _, _, _, held := tb.core.Held(); held != 2 {
		t.Errorf("%d slots held, want 2", held)
	}
}

// TestLoadNewWorker: the engine that has loaded the model may be a new process with
// a new id at the same place.
func TestLoadNewWorker(t *testing.T) {
	old := disk("n", "p-r0-aaaa", "", "x")
	tb := newTable(t, sched.Config{}, old)
	tb.submit(1, model("x"))
	tb.step(sched.Workers{})
	tb.step(sched.Loading{Worker: old.Key, Model: "x", Done: true})
	if fx := tb.step(sched.Workers{List: []*placement.Worker{disk("n", "p-r0-bbbb", "x", "x")}}); count[sched.Assign](fx) != 1 {
		t.Errorf("the new process was not found: %v", fx)
	}
}

// TestLoadLimits: one load per worker, two per node (ORC-340).
func TestLoadLimits(t *testing.T) {
	tb := newTable(t, sched.Config{}, disk("n", "a", "", "x", "y", "z"), disk("n", "b", "", "x", "y", "z"), disk("n", "c", "", "x", "y", "z"))
	var all []string
	for i, m := range []string{"x", "y", "z"} {
		all = append(all, loads(tb.submit(i+1, model(m)))...)
	}
	if len(all) != 2 || all[0] != "n/a x -[]" || all[1] != "n/b y -[]" {
		t.Fatalf("loads = %v, want x on a and y on b", all)
	}
	fx := tb.step(sched.Workers{List: []*placement.Worker{disk("n", "a", "x", "x", "y", "z"), disk("n", "b", "", "x", "y", "z"), disk("n", "c", "", "x", "y", "z")}})
	if got := loads(fx); len(got) != 1 || got[0] != "n/c z -[]" {
		t.Errorf("after the first ended: %v, want z on c", got)
	}
}

// TestLoadEvicts: only an idle model goes, the least recently used one, and not
// before it has stayed thirty seconds; nothing new is sent to it meanwhile (ORC-341).
func TestLoadEvicts(t *testing.T) {
	a, b := disk("n", "a", "x", "z"), disk("n", "b", "y", "z")
	a.SlotsTotal, b.SlotsTotal = 1, 1
	tb := newTable(t, sched.Config{}, a, b)
	tb.submit(1, model("y"))
	tb.finish(1, 1, exec.OK)
	tb.submit(2, model("x"))
	tb.finish(2, 1, exec.OK) // y was used longer ago
	if fx := append(tb.submit(3, model("z")), tb.wait(29*time.Second)...); len(loads(fx)) != 0 {
		t.Fatalf("a young model was evicted: %v", loads(fx))
	}
	tb.submit(4, model("y")) // y is busy now
	fx := tb.wait(2 * time.Second)
	if got := loads(fx); len(got) != 1 || got[0] != "n/a z -[x]" {
		t.Fatalf("loads = %v, want z in the place of the idle x", got)
	}
	if fx := tb.submit(5, model("x")); count[sched.Assign](fx) != 0 {
		t.Errorf("a task was sent to the engine that is about to lose its model")
	}
}

// TestLoadEvictsOldest: of two idle models the one that was used longer ago goes.
func TestLoadEvictsOldest(t *testing.T) {
	tb := newTable(t, sched.Config{}, disk("n", "a", "x", "z"), disk("n", "b", "y", "z"))
	for i, m := range []string{"y", "x"} {
		tb.submit(i+1, model(m))
		tb.finish(i+1, 1, exec.OK)
	}
	tb.wait(31 * time.Second)
	if got := loads(tb.submit(3, model("z"))); len(got) != 1 || got[0] != "n/b z -[y]" {
		t.Errorf("loads = %v, want z in the place of y", got)
	}
}

// TestLoadADoesNotBlockB: while A is loaded on one engine, each task for B on the
// other one starts in the step that asks for it (ORC-214, ORC-340).
func TestLoadADoesNotBlockB(t *testing.T) {
	a := disk("n", "a", "", "A")
	tb := newTable(t, sched.Config{}, a, disk("n", "b", "B"))
	tb.submit(1, model("A"))
	for n := 2; n < 200; n++ {
		if fx := tb.submit(n, model("B")); count[sched.Assign](fx) != 1 {
			t.Fatalf("task %d for B waits: %v", n, fx)
		}
		tb.step(sched.Loading{Worker: a.Key, Model: "A", Bytes: int64(n), Total: 1000})
		if fx := tb.finish(n, 1, exec.OK); count[sched.Terminal](fx) != 1 {
			t.Fatalf("task %d for B did not end: %v", n, fx)
		}
		tb.wait(100 * time.Millisecond)
	}
}

// TestLoadHoldsNoLock: a worker that dies in the middle of a load holds up nothing:
// its tasks go elsewhere at once (ORC-340, ORC-342).
func TestLoadHoldsNoLock(t *testing.T) {
	a, b := disk("n", "a", "", "A", "B"), disk("o", "b", "", "A", "B")
	tb := newTable(t, sched.Config{}, a, b)
	tb.submit(1, model("A"))
	before := tb.now
	fx := tb.step(sched.Loading{Worker: a.Key, Model: "A", Done: true, Fail: "WORKER_UNREACHABLE"})
	fx = append(fx, tb.wait(3*time.Second)...)
	if got := loads(fx); len(got) != 1 || got[0] != "o/b A -[]" {
		t.Fatalf("after the worker died: %v, want a load on the other one within 3 s", got)
	}
	// The other one's node goes offline in the middle: the same without a word from it.
	gone := *b
	gone.Online, gone.Gone = false, true
	fx = tb.step(sched.Workers{List: []*placement.Worker{a, &gone}})
	if end, ok := find[sched.Terminal](fx); !ok || end.Code != "MODEL_LOAD_FAILED" {
		t.Errorf("after two workers failed: %v, want MODEL_LOAD_FAILED", fx)
	}
	if got := loads(tb.submit(2, model("B"))); len(got) != 1 || tb.now-before > 4*second {
		t.Errorf("the next load waits: %v", got)
	}
}

// TestLoadByProgress: a load fails when nothing moves for a minute, however long it
// takes as a whole (ORC-342).
func TestLoadByProgress(t *testing.T) {
	a := disk("n", "a", "", "A")
	tb := newTable(t, sched.Config{}, a)
	tb.submit(1, model("A"), func(t *sched.Task) { t.Total = 2 * time.Hour })
	for i := range 60 {
		tb.step(sched.Loading{Worker: a.Key, Model: "A", Bytes: int64(i), Total: 60})
		if fx := tb.wait(59 * time.Second); count[sched.Retry](fx)+count[sched.Terminal](fx) != 0 {
			t.Fatalf("a load that moves was given up after %d steps: %v", i, fx)
		}
	}
	tb.step(sched.Loading{Worker: a.Key, Model: "A", Bytes: 59, Total: 60}) // no news
	fx := tb.wait(2 * time.Second)
	if r, ok := find[sched.Retry](fx); !ok || r.Class != exec.Startup {
		t.Fatalf("a load that stands still: %v, want it given up", fx)
	}
	fx = tb.wait(10 * time.Minute) // four more tries, on the only worker
	if end, ok := find[sched.Terminal](fx); !ok || end.Code != "STARTUP_TIMEOUT" {
		t.Errorf("the task ended with %v, want STARTUP_TIMEOUT", end)
	}
}

// TestLoadFailsTwice: two different workers failed → every task that waits for the
// model ends, and no other does (ORC-342).
func TestLoadFailsTwice(t *testing.T) {
	a, b, c := disk("n", "a", "", "A", "B"), disk("n", "b", "", "A"), disk("n", "c", "", "A")
	tb := newTable(t, sched.Config{}, a, b, c)
	tb.submit(1, model("A"))
	tb.submit(2, model("A"), func(t *sched.Task) { t.Need.Place.Avoid = []string{"other"} }) // another key
	tb.submit(3, model("B"))
	fx := tb.step(sched.Loading{Worker: a.Key, Model: "A", Done: true, Fail: "INSUFFICIENT_VRAM"})
	if count[sched.Terminal](fx) != 0 || !slices.Contains(loads(fx), "n/b A -[]") {
		t.Fatalf("after the first failure: %v, want a load on b", loads(fx))
	}
	fx = tb.step(sched.Loading{Worker: b.Key, Model: "A", Done: true, Fail: "INSUFFICIENT_VRAM"})
	var ended []string
	for _, f := range fx {
		if e, ok := f.(sched.Terminal); ok {
			ended = append(ended, e.Code)
		}
	}
	if !slices.Equal(ended, []string{"MODEL_LOAD_FAILED", "MODEL_LOAD_FAILED"}) {
		t.Errorf("ended %v, want both tasks for A with MODEL_LOAD_FAILED", ended)
	}
	if _, ok := tb.core.Pending(id(3)); !ok {
		t.Error("the task for B ended with those for A")
	}
}

// TestOnDemandSkipsLoad: an engine that loads by itself gets the task as it is, and
// more time to its first token (ORC-343).
func TestOnDemandSkipsLoad(t *testing.T) {
	w := disk("n", "a", "x")
	w.OnDemand, w.Models = true, []string{"x", "y"}
	tb := newTable(t, sched.Config{Startup: 40 * time.Second}, w)
	fx := tb.submit(1, model("y"))
	if a, ok := find[sched.Assign](fx); !ok || a.Warmup != 40*time.Second || len(loads(fx)) != 0 {
		t.Errorf("effects %v, want an Assign with 40 s more and no load", fx)
	}
}

// TestTimerOutlivesPins: a model that was too young to go, at workers that can load
// nothing any more, keeps no other timer from coming.
func TestTimerOutlivesPins(t *testing.T) {
	a := disk("n", "a", "x", "z")
	tb := newTable(t, sched.Config{}, a)
	tb.submit(1, model("x"))
	tb.submit(2, model("x"))
	tb.submit(3, model("x"))
	tb.step(sched.Workers{List: []*placement.Worker{disk("n", "a", "x")}})
	if n := count[sched.StopRun](tb.wait(6 * time.Minute)); n != 2 {
		t.Errorf("%d attempts were stopped at the end of their time, want 2", n)
	}
	if ends := count[sched.Terminal](tb.wait(time.Minute)); ends != 0 || !tb.core.Idle() {
		t.Errorf("tasks are left: idle = %t", tb.core.Idle())
	}
}

// TestLoadedButNotShown: an engine that says it has loaded a model, and never serves
// it, is not asked for ever: that counts as a load that failed (ORC-342).
func TestLoadedButNotShown(t *testing.T) {
	a := disk("n", "a", "", "x")
	tb := newTable(t, sched.Config{}, a)
	tries, codes := 0, []string{}
	tb.on = func(fx []sched.Effect) {
		tries += len(loads(fx))
		if e, ok := find[sched.Terminal](fx); ok {
			codes = append(codes, e.Code)
		}
		if len(loads(fx)) > 0 {
			tb.step(sched.Loading{Worker: a.Key, Model: "x", Done: true})
		}
	}
	tb.on(tb.submit(1, model("x")))
	tb.wait(4 * time.Minute)
	if tries != exec.MaxAttempts || len(codes) != 1 || codes[0] != "MODEL_LOAD_FAILED" {
		t.Errorf("%d loads, ends %q; want five and MODEL_LOAD_FAILED", tries, codes)
	}
}

// TestLoadFailuresForgotten: failures from before the model was loaded do not count
// against tasks that come after it was lost again (ORC-342).
func TestLoadFailuresForgotten(t *testing.T) {
	list := func(model string) sched.Workers {
		return sched.Workers{List: []*placement.Worker{disk("n", "a", "", "x"), disk("n", "b", model, "x"), disk("n", "c", "", "x")}}
	}
	tb := newTable(t, sched.Config{}, list("").List...)
	fail := func(fx []sched.Effect) []sched.Effect {
		l, ok := find[sched.Load](fx)
		if !ok {
			t.Fatal("no load began")
		}
		return tb.step(sched.Loading{Worker: l.Worker.Key, Model: "x", Done: true, Fail: "OOM"})
	}
	fail(tb.submit(1, model("x")))
	tb.wait(5 * time.Second)
	if n := count[sched.Assign](tb.step(list("x"))); n != 1 {
		t.Fatal("the task did not start")
	}
	tb.step(list(""))
	fail(tb.submit(2, model("x")))
	if e, ended := find[sched.Terminal](tb.fx); ended {
		t.Errorf("the first failure that the task saw ended it: %s", e.Code)
	}
}
