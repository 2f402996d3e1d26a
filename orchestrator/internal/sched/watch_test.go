package sched_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// TestNoImmortalTask: 10,000 tasks whose executors hang at random: the attempt, the
// stop, the probe, the load. All end within their total time, the time for a stop
// and a second, and nothing is left (ORC-571).
func TestNoImmortalTask(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	workers := []*placement.Worker{engine("a", 500), engine("b", 500), disk("o", "c", "", "x")}
	tb := newTable(t, sched.Config{Queue: queue.Config{Capacity: queue.Unbounded}}, workers...)
	const total = 30 * time.Second
	began, ended := map[queue.ID]sched.Instant{}, 0
	var handle func(fx []sched.Effect)
	handle = func(fx []sched.Effect) {
		for _, f := range fx {
			switch f := f.(type) {
			case sched.Assign:
				if rnd.IntN(3) == 0 {
					class := []exec.Class{exec.OK, exec.Connect, exec.Reset, exec.Overload}[rnd.IntN(4)]
					handle(tb.step(sched.Finished{ID: f.ID, Attempt: f.Attempt, Result: sched.Result{Class: class}}))
				}
			case sched.Terminal:
				ended++
				if took := time.Duration(tb.now - began[f.ID]); took > total+cancelAfter+time.Second {
					t.Fatalf("a task ended after %v", took)
				}
				delete(began, f.ID)
			}
		}
	}
	tb.on = handle
	for n := 1; n <= 10_000; n++ {
		began[id(n)] = tb.now
		handle(tb.submit(n, func(t *sched.Task) {
			t.Total, t.Class = total, queue.Class(n%2)
			if n%10 == 0 {
				t.Need.Model = "x"
			}
		}))
		if n%50 == 0 {
			tb.wait(100 * time.Millisecond)
		}
		if n%7 == 0 {
			handle(tb.step(sched.Cancel{ID: id(n - rnd.IntN(7)), Reason: sched.Client}))
		}
	}
	tb.wait(total + cancelAfter + time.Second)
	if len(began) != 0 || ended != 10_000 || !tb.core.Idle() || tb.core.Running() != 0 {
		t.Errorf("%d of 10,000 ended, %d alive, %d slots held", ended, len(began), tb.core.Running())
	}
}

// TestPermitReleasedOnce: random failures, cancels, forced ends and late answers of
// 10,000 attempts leave no slot held; a late answer releases nothing a second time
// (ORC-400). LLORCH_NIGHTLY: 1,000,000.
func TestPermitReleasedOnce(t *testing.T) {
	want := 10_000
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		want = 1_000_000
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	tb := newTable(t, sched.Config{Queue: queue.Config{Capacity: 64}}, engine("a", 4), engine("b", 4))
	type run struct {
		id      queue.ID
		attempt int
	}
	var open []run
	attempts, answers := 0, 0
	note := func(fx []sched.Effect) {
		for _, f := range fx {
			if a, ok := f.(sched.Assign); ok {
				attempts++
				open = append(open, run{a.ID, a.Attempt})
			}
		}
	}
	classes := []exec.Class{exec.OK, exec.OK, exec.Connect, exec.Overload, exec.Server, exec.Rejected, exec.Protocol}
	for n := 1; attempts < want; n++ {
		note(tb.submit(n, func(t *sched.Task) { t.Total = 20 * time.Second }))
		if rnd.IntN(4) == 0 {
			note(tb.step(sched.Cancel{ID: id(max(1, n-rnd.IntN(8))), Reason: sched.Client}))
		}
		for len(open) > rnd.IntN(12) {
			i := rnd.IntN(len(open))
			r := open[i]
			if rnd.IntN(50) > 0 { // some answer twice
				open = slices.Delete(open, i, i+1)
			}
			answers++
			note(tb.step(sched.Finished{ID: r.id, Attempt: r.attempt, Result: sched.Result{Class: classes[rnd.IntN(len(classes))]}}))
		}
		note(tb.wait(time.Duration(rnd.IntN(500)) * time.Millisecond))
	}
	tb.wait(time.Minute)
	for _, r := range open {
		tb.step(sched.Finished{ID: r.id, Attempt: r.attempt})
	}
	if held := tb.core.Running(); held != 0 || !tb.core.Idle() {
		t.Errorf("%d slots held after %d attempts and %d answers", held, attempts, answers)
	}
	if total, free := tb.core.View().Slots(); total != free {
		t.Errorf("%d of %d slots free", free, total)
	}
	if tb.core.DuplicateReleases() == 0 {
		t.Errorf("no answer came twice: the test is too tame")
	}
}

// TestDeadlineWarning: at 80 % of its time a task is told once (ORC-570).
func TestDeadlineWarning(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 2))
	tb.submit(1, func(t *sched.Task) { t.Total = 10 * time.Second })
	tb.submit(2, func(t *sched.Task) { t.Total, t.Due, t.Need.Expected = time.Hour, tb.now+20*second, 1 })
	for _, c := range []struct {
		wait time.Duration
		want int
	}{{7900 * time.Millisecond, 0}, {200 * time.Millisecond, 1}, {7800 * time.Millisecond, 0}, {200 * time.Millisecond, 1}} {
		fx := tb.wait(c.wait)
		if n := len(slices.DeleteFunc(kinds(fx), func(k string) bool { return k != "deadline_warning" })); n != c.want {
			t.Errorf("%v on: %d warnings, want %d", time.Duration(tb.now), n, c.want)
		}
	}
}

// TestCancelAll: every task of a person ends, whatever it does, and no other
// (ORC-561, ORC-841).
func TestCancelAll(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 2))
	who := func(n byte) func(*sched.Task) { return func(t *sched.Task) { t.Subject = [16]byte{n} } }
	tb.submit(1, who(1))
	tb.submit(2, who(2))
	tb.submit(3, who(1))
	tb.submit(4, who(1), func(t *sched.Task) { t.Ephemeral = false }) // being stored
	tb.submit(5, who(2))
	fx := tb.step(sched.CancelAll{Subject: [16]byte{1}, Reason: sched.Erasure})
	end, _ := find[sched.Terminal](fx)
	stop, _ := find[sched.StopRun](fx)
	if count[sched.Terminal](fx) != 1 || end.ID != id(3) || end.Reason != sched.Erasure || count[sched.StopRun](fx) != 1 || stop.ID != id(1) {
		t.Errorf("CancelAll = %v, want 3 ended and 1 stopped", fx)
	}
	if end, ok := find[sched.Terminal](tb.step(sched.Persisted{ID: id(4)})); !ok || end.Reason != sched.Erasure {
		t.Errorf("the one that was being stored: %v", tb.fx)
	}
	if end, ok := find[sched.Terminal](tb.finish(1, 1, exec.OK)); !ok || end.Code != "CANCELLED" {
		t.Errorf("the one that ran: %v", tb.fx)
	}
	if _, ok := tb.core.Pending(id(5)); ok || tb.core.Running() != 2 {
		t.Errorf("the other person's tasks do not run")
	}
}

// TestReplicaExhausted: a task that may only use one pool says so when every worker
// of that pool has failed it (ORC-403).
func TestReplicaExhausted(t *testing.T) {
	for pinned, want := range map[bool]string{true: "REPLICA_EXHAUSTED", false: "ENGINE_ERROR"} {
		other := engine("c", 1)
		other.Pool = "q"
		tb := newTable(t, sched.Config{}, engine("a", 1), engine("b", 1), other)
		code := ""
		fx := tb.submit(1, func(t *sched.Task) {
			if pinned {
				t.Need.Place.Pool = "p"
			}
		})
		for range 20 {
			if a, ok := find[sched.Assign](fx); ok {
				if pinned && a.Worker.Pool != "p" {
					t.Fatalf("the pin was widened to %s", a.Worker.Key)
				}
				fx = tb.finish(1, a.Attempt, exec.Server)
			} else {
				fx = tb.wait(500 * time.Millisecond)
			}
			if end, ok := find[sched.Terminal](fx); ok {
				if code = end.Code; end.Attempt != exec.MaxAttempts {
					t.Errorf("ended after %d attempts, want %d", end.Attempt, exec.MaxAttempts)
				}
				break
			}
		}
		if code != want {
			t.Errorf("pinned %v: ended with %q, want %s", pinned, code, want)
		}
	}
}

// TestGoneMidStream: what runs on a lost worker is stopped at once, or three seconds
// after its last byte; a node that is only suspect costs nothing (ORC-406).
func TestGoneMidStream(t *testing.T) {
	a, b := engine("a", 1), engine("b", 1)
	tb := newTable(t, sched.Config{}, a, b)
	tb.submit(1)
	tb.submit(2)
	lost := func(w *placement.Worker) *placement.Worker {
		out := *w
		out.Online, out.Gone = false, true
		return &out
	}
	tb.wait(time.Second)
	tb.step(sched.Progress{ID: id(1), Tokens: 1})
	fx := tb.step(sched.Workers{List: []*placement.Worker{lost(a), lost(b)}})
	if s, ok := find[sched.StopRun](fx); !ok || s.ID != id(2) || s.Reason != sched.Lost || count[sched.StopRun](fx) != 1 {
		t.Fatalf("both lost, one sends bytes: %v", fx)
	}
	for n := range 20 {
		if fx := append(tb.wait(2*time.Second), tb.step(sched.Progress{ID: id(1), Tokens: n + 2})...); count[sched.StopRun](fx) != 0 {
			t.Fatalf("stopped though bytes come: %v", fx)
		}
	}
	if fx := tb.wait(2900 * time.Millisecond); count[sched.StopRun](fx) != 0 {
		t.Errorf("stopped before three seconds of silence: %v", fx)
	}
	if s, ok := find[sched.StopRun](tb.wait(200 * time.Millisecond)); !ok || s.ID != id(1) || s.Reason != sched.Lost {
		t.Errorf("after three seconds of silence: %v", tb.fx)
	}
	if end, ok := find[sched.Terminal](tb.step(sched.Finished{ID: id(1), Attempt: 1, Result: sched.Result{Class: exec.Reset, Emitted: true}})); !ok || end.Code != "WORKER_RESET" {
		t.Errorf("ended with %v, want WORKER_RESET", end)
	}
}

// TestNotDispatchedLate: a slot that comes free at the very instant of a deadline is
// not given to the task (ORC-409); the one that comes after gets it.
func TestNotDispatchedLate(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1))
	tb.submit(1)
	tb.submit(2, func(t *sched.Task) { t.Total = 10 * time.Second })
	tb.submit(3)
	tb.now += 10 * second // no tick before
	fx := tb.finish(1, 1, exec.OK)
	if a, ok := find[sched.Assign](fx); !ok || a.ID != id(3) {
		t.Errorf("the slot went to %v, want task 3", a.ID)
	}
	ends := slices.Collect(func(yield func(sched.Terminal) bool) {
		for _, f := range fx {
			if e, ok := f.(sched.Terminal); ok && !yield(e) {
				return
			}
		}
	})
	if len(ends) != 2 || ends[1].ID != id(2) || ends[1].Code != "QUEUE_TIMEOUT" {
		t.Errorf("ended %v, want task 2 with QUEUE_TIMEOUT", ends)
	}
}

// TestNotes: observers hear of promotions, of scorers that were removed, and of
// another policy by its hash (ORC-213, ORC-311).
func TestNotes(t *testing.T) {
	tb := newTable(t, sched.Config{
		Queue:   queue.Config{AgingAfter: time.Second},
		Scorers: map[string]placement.Scorer{"broken": func(placement.Request, *placement.Worker) int64 { panic("planted") }},
	}, engine("a", 1))
	tb.submit(1)
	tb.submit(2, func(t *sched.Task) { t.Class = queue.Batch })
	tb.wait(2 * time.Second)
	tb.submit(3)
	fx := tb.finish(1, 1, exec.OK)
	if a, _ := find[sched.Assign](fx); a.ID != id(2) || !slices.Contains(kinds(fx), "promoted") {
		t.Errorf("after a second of waiting: %v %v, want the batch task promoted", a.ID, kinds(fx))
	}
	p := placement.Policy{Strategy: "predicted", Scorers: []placement.Scored{{Name: "broken", Weight: 1000}}}
	n, ok := find[sched.Note](tb.step(sched.Policy{Policy: p}))
	if !ok || n.Kind != "policy_changed" || n.Why != p.Hash() {
		t.Errorf("Policy: %+v", n)
	}
	fx = tb.finish(2, 1, exec.OK)
	if a, ok := find[sched.Assign](fx); !ok || !slices.Contains(kinds(fx), "scorer_removed") || a.Why.Policy != p.Hash() {
		t.Errorf("with a scorer that panics: %v", fx)
	}
}

// TestNoTimeAtAll: a task whose time is over when it comes ends in that step, and
// nothing is said of it afterwards.
func TestNoTimeAtAll(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1))
	fx := tb.submit(1, func(t *sched.Task) { t.Total = 0 })
	if count[sched.Terminal](fx) != 1 || count[sched.Queued](fx)+count[sched.Assign](fx) != 0 || !tb.core.Idle() {
		t.Errorf("effects %v, want an Admit and the end", fx)
	}
}
