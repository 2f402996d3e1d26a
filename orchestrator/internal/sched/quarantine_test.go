package sched_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

const second = sched.Instant(time.Second)

// table drives a core by hand: it keeps the effects of a step, and steps through
// the timers that come before an instant.
type table struct {
	t     *testing.T
	core  *sched.Core
	now   sched.Instant
	timer sched.Instant
	fx    []sched.Effect
	on    func([]sched.Effect) // hears the effects of each tick, when it comes
}

func newTable(t *testing.T, cfg sched.Config, workers ...*placement.Worker) *table {
	t.Helper()
	if cfg.CancelAfter == 0 {
		cfg.CancelAfter = cancelAfter
	}
	cfg.Strict = true
	c, err := sched.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tb := &table{t: t, core: c, now: 1}
	tb.step(sched.Workers{List: workers})
	return tb
}

func (tb *table) step(e sched.Event) []sched.Effect {
	tb.fx = slices.Clone(tb.core.Step(tb.now, e))
	if s, ok := find[sched.SetTimer](tb.fx); ok {
		tb.timer = s.At
	}
	return tb.fx
}

// wait lets time pass and returns the effects of the ticks.
func (tb *table) wait(d time.Duration) (all []sched.Effect) {
	tb.t.Helper()
	until := tb.now + sched.Instant(d)
	for range 100_000 {
		if tb.timer == 0 || tb.timer > until {
			tb.now = until
			return all
		}
		tb.now = max(tb.now, tb.timer)
		fx := tb.step(sched.Tick{})
		if all = append(all, fx...); tb.on != nil {
			tb.on(fx)
		}
		if tb.timer != 0 && tb.timer <= tb.now {
			tb.t.Fatalf("the timer does not move on")
		}
	}
	tb.t.Fatalf("ticks without end")
	return nil
}

// submit asks for an ephemeral task and returns the effects.
func (tb *table) submit(n int, change ...func(*sched.Task)) []sched.Effect {
	task := sched.Task{ID: id(n), Need: placement.Request{Model: "m"}, Total: 5 * time.Minute, Ephemeral: true}
	for _, f := range change {
		f(&task)
	}
	return tb.step(sched.Submit{Task: task})
}

func (tb *table) finish(n, attempt int, class exec.Class) []sched.Effect {
	return tb.step(sched.Finished{ID: id(n), Attempt: attempt, Result: sched.Result{Class: class}})
}

func kinds(fx []sched.Effect) (out []string) {
	for _, f := range fx {
		if n, ok := f.(sched.Note); ok {
			out = append(out, n.Kind)
		}
	}
	return out
}

func count[E sched.Effect](fx []sched.Effect) (n int) {
	for _, f := range fx {
		if _, ok := f.(E); ok {
			n++
		}
	}
	return n
}

// TestQuarantine: one refused connection takes a worker out, for one second and
// then twice as long with every probe that fails, up to a minute; a probe that
// succeeds opens it, and there is one probe at a time (ORC-405).
func TestQuarantine(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1), engine("b", 2))
	tb.submit(1)
	first, _ := find[sched.Assign](tb.fx)
	fx := tb.finish(1, 1, exec.Connect)
	if again, ok := find[sched.Assign](fx); !ok || again.Worker.Key == first.Worker.Key || !slices.Equal(kinds(fx), []string{"quarantined"}) {
		t.Fatalf("after a refused connection: %v", fx)
	}
	for i, base := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		d := base * time.Second
		if fx := tb.wait(d * 8 / 10); count[sched.Probe](fx) != 0 {
			t.Fatalf("try %d: asked before %v", i, d*8/10)
		}
		fx := tb.wait(d * 31 / 100)
		if p, ok := find[sched.Probe](fx); !ok || count[sched.Probe](fx) != 1 || p.Worker.Key != first.Worker.Key {
			t.Fatalf("try %d: effects %v, want one probe within %v", i, fx, d*111/100)
		}
		if base == 60 && i == 7 {
			break
		}
		tb.step(sched.Probed{Worker: first.Worker.Key})
	}
	for n := 2; n < 5; n++ {
		if a, ok := find[sched.Assign](tb.submit(n)); ok && a.Worker.Key == first.Worker.Key {
			t.Fatalf("a task went to a worker in quarantine")
		}
	}
	fx = tb.step(sched.Probed{Worker: first.Worker.Key, OK: true})
	if !slices.Contains(kinds(fx), "restored") || count[sched.Assign](fx) == 0 {
		t.Errorf("after a good probe: %v, want it restored and a task on it", fx)
	}
}

// TestProbeWithoutAnswer: a probe that hangs has failed after ten seconds.
func TestProbeWithoutAnswer(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1), engine("b", 1))
	tb.submit(1)
	tb.finish(1, 1, exec.Connect)
	if n := count[sched.Probe](tb.wait(time.Minute)); n < 3 || n > 5 {
		t.Errorf("%d probes in a minute without an answer, want 3 to 5", n)
	}
}

// TestRatioTrip: half of at least twenty results within thirty seconds take a
// worker out; what it is not to blame for does not count (ORC-405).
func TestRatioTrip(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  exec.Class
		gap  time.Duration
		out  bool
	}{
		{"half fail", exec.Server, 0, true},
		{"timeouts", exec.Timeout, time.Second, true},
		{"overload", exec.Overload, 0, false},
		{"rejected", exec.Rejected, 0, false},
		{"store", exec.Store, 0, false},
		{"slowly", exec.Server, 3 * time.Second, false},
	} {
		tb := newTable(t, sched.Config{}, engine("a", 1))
		out := 0
		for n := 1; n <= 40; n++ {
			class := exec.OK
			if n%2 == 0 {
				class = c.bad
			}
			tb.submit(n, func(t *sched.Task) { t.Total = time.Hour })
			tb.step(sched.Finished{ID: id(n), Attempt: 1, Result: sched.Result{Class: class, Emitted: true}})
			if slices.Contains(kinds(tb.fx), "quarantined") {
				if out = n; n < 20 {
					t.Errorf("%s: out after %d results", c.name, n)
				}
				break
			}
			tb.wait(c.gap)
		}
		if (out > 0) != c.out {
			t.Errorf("%s: out after %d results, want out %v", c.name, out, c.out)
		}
	}
}

// TestOverloadNeverTrips: 2,048 tasks on 8 slow workers that answer 503 now and
// then: no worker is taken out, and no task ends with an error (ORC-405).
func TestOverloadNeverTrips(t *testing.T) {
	var workers []*placement.Worker
	for i := range 8 {
		workers = append(workers, engine(fmt.Sprint(i), 32))
	}
	tb := newTable(t, sched.Config{Queue: queue.Config{Capacity: queue.Unbounded}}, workers...)
	type run struct{ n, attempt int }
	var open []run
	ended := 0
	collect := func(fx []sched.Effect) {
		for _, f := range fx {
			switch f := f.(type) {
			case sched.Assign:
				n := 0
				for _, b := range f.ID {
					n = n<<8 | int(b)
				}
				open = append(open, run{n, f.Attempt})
			case sched.Note:
				if f.Kind == "quarantined" {
					t.Fatalf("worker %s was taken out", f.Worker)
				}
			case sched.Terminal:
				if ended++; f.Code != "" {
					t.Fatalf("a task ended with %s", f.Code)
				}
			}
		}
	}
	for n := 1; n <= 2048; n++ {
		collect(tb.submit(n, func(t *sched.Task) { t.Total = time.Hour }))
	}
	for turn := 0; ended < 2048; turn++ {
		if turn > 100_000 {
			t.Fatalf("%d of 2,048 ended", ended)
		}
		if len(open) == 0 {
			collect(tb.wait(time.Second))
			continue
		}
		r := open[0]
		open = open[1:]
		class := exec.OK
		if (r.n+r.attempt)%3 == 0 && r.attempt < 4 { // every third attempt of a task finds the engine's queue full
			class = exec.Overload
		}
		collect(tb.finish(r.n, r.attempt, class))
	}
}

// TestQueueHeadProbes: with no other worker the queue does not fail as a whole: one
// task at a time tries, when the wait is over, and its success lets all others in
// (ORC-405).
func TestQueueHeadProbes(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 4))
	tb.submit(1)
	tb.finish(1, 1, exec.Connect)
	for n := 2; n <= 6; n++ {
		if tb.submit(n); count[sched.Assign](tb.fx) != 0 {
			t.Fatalf("task %d went to a worker in quarantine", n)
		}
	}
	if e, _ := tb.core.Why(id(6)); e.Reason != "quarantine" {
		t.Errorf("Why = %q, want quarantine", e.Reason)
	}
	fx := tb.wait(1200 * time.Millisecond)
	a, ok := find[sched.Assign](fx)
	if !ok || count[sched.Assign](fx) != 1 || count[sched.Probe](fx) != 0 {
		t.Fatalf("after the wait: %v, want one task that tries", fx)
	}
	fx = tb.step(sched.Finished{ID: a.ID, Attempt: a.Attempt, Result: sched.Result{Class: exec.Connect}})
	if count[sched.Assign](fx)+count[sched.Terminal](fx) != 0 {
		t.Fatalf("after the try failed: %v, want nothing", fx)
	}
	if fx := tb.wait(1700 * time.Millisecond); count[sched.Assign](fx) != 0 {
		t.Fatalf("the next try came before the doubled wait: %v", fx)
	}
	fx = tb.wait(600 * time.Millisecond)
	if a, ok = find[sched.Assign](fx); !ok {
		t.Fatalf("no second try: %v", fx)
	}
	fx = tb.step(sched.Progress{ID: a.ID, Tokens: 1})
	if !slices.Contains(kinds(fx), "restored") || count[sched.Assign](fx) != 3 {
		t.Errorf("after its first token: %v, want the worker restored and three more tasks", fx)
	}
}

// TestQueueHeadCancelled: a try that taught nothing is made again.
func TestQueueHeadCancelled(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1))
	tb.submit(1)
	tb.finish(1, 1, exec.Connect)
	a, ok := find[sched.Assign](tb.wait(1200 * time.Millisecond))
	if !ok {
		t.Fatal("no try")
	}
	tb.step(sched.Cancel{ID: a.ID, Reason: sched.Client})
	tb.step(sched.Finished{ID: a.ID, Attempt: a.Attempt, Result: sched.Result{Class: exec.Reset}})
	if n := count[sched.Probe](tb.wait(1200 * time.Millisecond)); n != 1 {
		t.Errorf("%d probes after a cancelled try, want one", n)
	}
}

// TestQuarantineForgets: a worker with a new id, or one that was gone from the
// list, starts anew; one whose node is away is not asked (ORC-405).
func TestQuarantineForgets(t *testing.T) {
	a := engine("a", 1)
	tb := newTable(t, sched.Config{}, a)
	tb.submit(1)
	tb.finish(1, 1, exec.Connect)
	away := *a
	away.Online = false
	tb.step(sched.Workers{List: []*placement.Worker{&away}})
	if fx := tb.wait(30 * time.Second); count[sched.Probe](fx)+count[sched.Assign](fx) != 0 {
		t.Errorf("a worker whose node is away was asked: %v", fx)
	}
	fx := tb.step(sched.Workers{List: []*placement.Worker{engine("a2", 1)}})
	if got, ok := find[sched.Assign](fx); !ok || got.Worker.Key.Worker != "a2" {
		t.Errorf("with a new id: %v, want the task on it at once", fx)
	}
	tb.finish(1, 2, exec.Connect)
	tb.step(sched.Workers{})
	fx = tb.step(sched.Workers{List: []*placement.Worker{engine("a2", 1)}})
	if count[sched.Assign](fx) == 0 && count[sched.Assign](tb.wait(500*time.Millisecond)) == 0 {
		t.Errorf("after it was gone from the list it is still out")
	}
}

// TestBusyWorkerKept: a worker that streams is left alone, though for five minutes
// its node is only suspect, it answers no probe and refuses new connections; when
// it answers again it is open within a second or so (ORC-405, ORC-406).
func TestBusyWorkerKept(t *testing.T) {
	a := engine("a", 2)
	tb := newTable(t, sched.Config{}, a, engine("b", 1))
	long := func(t *sched.Task) { t.Total = time.Hour }
	tb.submit(1, long)
	on, _ := find[sched.Assign](tb.fx)
	if on.Worker.Key.Worker != "a" {
		t.Fatal("the test wants the first task on a")
	}
	tb.submit(2, long)
	tb.finish(2, 1, exec.Connect) // a takes no second connection; 2 goes on at b
	silent := *a
	silent.Online, silent.Ready = false, false
	asked := 0
	for s := range 300 {
		switch s {
		case 100:
			tb.step(sched.Workers{List: []*placement.Worker{&silent, engine("b", 1)}})
		case 200:
			tb.step(sched.Workers{List: []*placement.Worker{a, engine("b", 1)}})
		}
		fx := append(tb.wait(time.Second), tb.step(sched.Progress{ID: id(1), Tokens: s + 1})...)
		for _, f := range fx {
			switch f := f.(type) {
			case sched.Probe:
				asked++
				tb.step(sched.Probed{Worker: f.Worker.Key})
			case sched.StopRun, sched.Terminal:
				t.Fatalf("second %d: %v", s, f)
			}
		}
	}
	if asked < 100 {
		t.Errorf("asked %d times in 200 s: the wait grew although tokens flow", asked)
	}
	p, ok := find[sched.Probe](tb.wait(1200 * time.Millisecond))
	if !ok {
		t.Fatal("not asked again")
	}
	if tb.step(sched.Probed{Worker: p.Worker.Key, OK: true}); !slices.Contains(kinds(tb.fx), "restored") {
		t.Errorf("not restored: %v", tb.fx)
	}
}

// TestDeadWorkerUnderLoad: of two workers one dies at ten requests a second; no
// client sees a failure (ORC-403, ORC-405).
func TestDeadWorkerUnderLoad(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 8), engine("b", 8))
	tries := 0
	for n := 1; n <= 600; n++ {
		fx := tb.submit(n)
		for {
			a, ok := find[sched.Assign](fx)
			if !ok {
				break
			}
			class := exec.OK
			if a.Worker.Key.Worker == "a" && n > 100 {
				tries++
				class = exec.Connect
			}
			fx = tb.step(sched.Finished{ID: a.ID, Attempt: a.Attempt, Result: sched.Result{Class: class}})
			if end, ok := find[sched.Terminal](fx); ok && end.Code != "" {
				t.Fatalf("task %d ended with %s", n, end.Code)
			}
		}
		for _, f := range tb.wait(100 * time.Millisecond) {
			if p, ok := f.(sched.Probe); ok {
				tb.step(sched.Probed{Worker: p.Worker.Key})
			}
		}
	}
	if !tb.core.Idle() || tries == 0 || tries > 3 {
		t.Errorf("idle %v, %d tasks tried the dead worker, want 1 to 3", tb.core.Idle(), tries)
	}
}
