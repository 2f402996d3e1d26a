package sched_test

import (
	"encoding/binary"
	"testing"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
)

func session(n int) func(*sched.Task) {
	return func(t *sched.Task) { binary.BigEndian.PutUint64(t.Session[:], uint64(n)) }
}

// TestAffinity: the next turn of a session goes to the worker of the last one, while
// it is feasible, and the decision says whether it was (ORC-305).
func TestAffinity(t *testing.T) {
	a, b := engine("a", 1), engine("b", 8)
	tb := newTable(t, sched.Config{}, a, b)
	turn := func(n int) sched.Assign {
		t.Helper()
		got, ok := find[sched.Assign](tb.submit(n, session(1)))
		if !ok {
			t.Fatalf("turn %d waits", n)
		}
		return got
	}
	if got := turn(1); got.Worker != b || got.Why.Warm {
		t.Fatalf("first turn on %s, warm %v", got.Worker.Key, got.Why.Warm)
	}
	tb.finish(1, 1, exec.OK)
	for n := 10; n < 17; n++ {
		tb.submit(n) // b is the fuller one now
	}
	if got := turn(2); got.Worker != b || !got.Why.Warm {
		t.Errorf("second turn on %s, warm %v; want b, warm", got.Worker.Key, got.Why.Warm)
	}
	if got := turn(3); got.Worker != a || got.Why.Warm {
		t.Errorf("with b full: on %s, warm %v", got.Worker.Key, got.Why.Warm)
	}
	tb.finish(3, 1, exec.OK)
	tb.finish(2, 1, exec.OK)
	tb.step(sched.Workers{List: []*placement.Worker{b}})
	if got := turn(4); got.Worker != b || got.Why.Warm {
		t.Errorf("with a gone: on %s, warm %v", got.Worker.Key, got.Why.Warm)
	}
}

// TestAbandonedStateExpires: of sessions that nobody ends only the newest are
// remembered, 65,536 of them; here the bound is 100 (G8).
func TestAbandonedStateExpires(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1))
	if n := tb.core.BoundSessions(100); n != 65_536 {
		t.Errorf("bound %d, want 65,536", n)
	}
	for n := 1; n <= 300; n++ {
		tb.submit(n, session(n))
		tb.finish(n, 1, exec.OK)
	}
	if n := tb.core.Sessions(); n != 100 {
		t.Errorf("%d sessions remembered, want 100", n)
	}
}

// TestSpread: at most so many of a session's tasks run on one node (ORC-301).
func TestSpread(t *testing.T) {
	a, b := in("DE", "EU", "a"), in("DE", "EU", "b")
	a.SlotsTotal, b.SlotsTotal = 8, 8
	tb := newTable(t, sched.Config{}, a, b)
	started := map[string]int{}
	for n := 1; n <= 4; n++ {
		if got, ok := find[sched.Assign](tb.submit(n, session(1), func(t *sched.Task) { t.Need.Place.Spread = 1 })); ok {
			started[got.Worker.Node]++
		}
	}
	if started["a"] != 1 || started["b"] != 1 {
		t.Errorf("started %v, want one on each node", started)
	}
	if e, _ := tb.core.Why(id(4)); e.Reason != "no_worker:spread" {
		t.Errorf("Why = %q, want no_worker:spread", e.Reason)
	}
	if got, ok := find[sched.Assign](tb.finish(1, 1, exec.OK)); !ok || got.ID != id(3) {
		t.Errorf("after one ended: %v", tb.fx)
	}
}
