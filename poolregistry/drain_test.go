package poolregistry_test

import (
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// idle sends a beat that says whether the engine is idle, and returns the reply.
func (w *world) idle(id NodeID, is bool) BeatReply {
	w.t.Helper()
	reply, err := w.beatWith(id, func(b *Beat) { b.Pools[0].Idle = is })
	w.must(err)
	return reply
}

func (w *world) wantSchedule(id NodeID, want Schedule, forced bool) {
	w.t.Helper()
	n := w.node(id)
	if n.Schedule != want || (n.Drain != nil) != (want == Draining || want == Drained) || n.Drain != nil && n.Drain.Forced != forced {
		w.t.Errorf("after %v node %s is %s, drain %+v, want %s, forced %t", time.Since(virtualStart), id, n.Schedule, n.Drain, want, forced)
	}
}

// drainWorld is a node "a" that beats, on which the scheduler has so much to do.
func drainWorld(t *testing.T, cfg Config, active *int, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var w *world
		cfg.Active = func(id NodeID) map[PoolID]int {
			w.View() // a hook may call back: no lock is held
			w.Progress(id)
			return map[PoolID]int{"p0": *active}
		}
		w = newWorld(t, cfg)
		w.register("a")
		w.idle("a", true)
		f(w)
	})
}

// PRG-45, PRG-39, PRG-13, PRG-11: a drain says so in the next reply, with what remains, and
// ends when the scheduler has nothing there and the engine is idle in a beat
// after that reply.
func TestDrain(t *testing.T) {
	active := 1
	drainWorld(t, Config{}, &active, func(w *world) {
		w.must(w.Drain("a", time.Minute))
		w.wantSchedule("a", Draining, false) // in the view before the call returns
		n := w.node("a")
		if ok, why := n.Placeable(); ok || why != "draining" || n.Status() != "draining" || n.Liveness != Online {
			t.Errorf("placeable %t, %q, status %s", ok, why, n.Status())
		}
		if want := time.Now().Add(time.Minute).UnixMilli(); n.Drain.DeadlineMS != want {
			t.Errorf("deadline_ms = %d, want %d", n.Drain.DeadlineMS, want)
		}
		time.Sleep(10 * time.Second)
		if r := w.idle("a", true); r.Schedule != Draining || r.DrainMS != 50_000 || r.Active["p0"] != 1 {
			t.Errorf("first reply %+v", r)
		}
		active = 0
		for _, step := range []struct {
			active int
			idle   bool
		}{{1, true}, {0, false}, {1, false}} { // either alone is not enough
			time.Sleep(5 * time.Second)
			active = step.active
			w.idle("a", step.idle)
			w.wantSchedule("a", Draining, false)
		}
		time.Sleep(5 * time.Second)
		active = 0
		if r := w.idle("a", true); r.Schedule != Drained || r.DrainMS != 0 {
			t.Errorf("last reply %+v", r)
		}
		w.wantSchedule("a", Drained, false)
		w.must(w.Drain("a", 0)) // idempotent
		w.wantSchedule("a", Drained, false)
		w.must(w.Uncordon("a"))
		w.wantSchedule("a", Open, false)
		if r := w.idle("a", true); r.Schedule != Open {
			t.Errorf("reply after uncordon %+v", r)
		}
	})
}

// PRG-45: the beat that was under way when the drain began ends nothing, nor does
// one in which some pool is busy.
func TestDrainNeedsALaterBeat(t *testing.T) {
	active := 0
	drainWorld(t, Config{}, &active, func(w *world) {
		w.must(w.Drain("a", time.Minute))
		w.idle("a", true)
		w.wantSchedule("a", Draining, false)
		_, err := w.beatWith("a", func(b *Beat) {
			b.Pools[0].Idle = true
			b.Pools = append(b.Pools, Pool{ID: "p1", State: "ready"})
		})
		w.must(err)
		w.wantSchedule("a", Draining, false)
		w.idle("a", true)
		w.wantSchedule("a", Drained, false)
	})
}

// PRG-45: a new incarnation has to hear of the drain too before its word counts.
func TestDrainIsToldToANewIncarnation(t *testing.T) {
	active := 0
	drainWorld(t, Config{}, &active, func(w *world) {
		w.must(w.Drain("a", time.Minute))
		w.idle("a", true)
		w.must(w.try(other("a", 2, w.grants["a"].LeaseToken)))
		w.seqs["a"] = 0
		w.idle("a", true)
		w.wantSchedule("a", Draining, false)
		w.idle("a", true)
		w.wantSchedule("a", Drained, false)
	})
}

// PRG-45: the deadline is exact for a reader; the earlier of two counts; 0 is now.
func TestDrainDeadline(t *testing.T) {
	active := 1
	drainWorld(t, Config{}, &active, func(w *world) {
		w.must(w.Drain("a", 20*time.Second))
		w.must(w.Drain("a", time.Hour)) // later: the first stays
		time.Sleep(9 * time.Second)
		w.idle("a", false)
		time.Sleep(11*time.Second - 1)
		w.wantSchedule("a", Draining, false)
		time.Sleep(time.Nanosecond)
		w.wantSchedule("a", Drained, true)
		w.idle("a", true)
		w.must(w.Uncordon("a"))

		w.must(w.Drain("a", time.Hour))
		w.must(w.Drain("a", 2*time.Second)) // sooner
		time.Sleep(2 * time.Second)
		w.wantSchedule("a", Drained, true)
		w.must(w.Uncordon("a"))
		w.must(w.Drain("a", 0))
		w.wantSchedule("a", Drained, true)

		e := wantCode(t, w.Drain("a", -1), InvalidNode)
		if len(e.Fields) != 1 || e.Fields[0] != "within: range" {
			t.Errorf("fields %q", e.Fields)
		}
		w.must(w.Uncordon("a"))
		w.must(w.Drain("a", 1<<63-1)) // saturates
		w.wantSchedule("a", Draining, false)
	})
}

// PRG-45: what the timer cannot do is done by whoever calls: a drain that is due
// at once, and one that ends while the observer is paused.
func TestDrainWithoutTimer(t *testing.T) {
	reg, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
	w.register("a")
	w.must(w.Drain("a", 0))
	w.wantSchedule("a", Drained, true)

	active := 0
	drainWorld(t, Config{}, &active, func(w *world) {
		w.must(w.Drain("a", 10*time.Second))
		w.idle("a", true)
		w.paused.Store(true)
		time.Sleep(20 * time.Second)
		w.wantSchedule("a", Draining, false) // nobody looks
		if r := w.idle("a", true); r.Schedule != Drained {
			t.Errorf("reply %+v", r)
		}
		w.wantSchedule("a", Drained, true)
	})
}

// PRG-45: a drain that is over, or another one by now, is not ended by an answer
// that was computed for it.
func TestLateAnswerEndsNoOtherDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		meddle := func() {}
		w = newWorld(t, Config{Active: func(NodeID) map[PoolID]int { meddle(); return nil }})
		w.register("a")
		w.must(w.Drain("a", time.Hour))
		w.idle("a", true)
		meddle = func() { w.must(w.Uncordon("a")) }
		if r := w.idle("a", true); r.Schedule != Open || r.DrainMS != 0 {
			t.Errorf("reply %+v", r)
		}
		w.wantSchedule("a", Open, false)
		meddle = func() {}
		w.must(w.Drain("a", time.Hour))
		w.idle("a", true)
		meddle = func() { w.must(w.Uncordon("a")); w.must(w.Drain("a", time.Minute)) }
		if r := w.idle("a", true); r.Schedule != Draining || r.DrainMS != 60_000 {
			t.Errorf("reply %+v", r)
		}
		meddle = func() { w.must(w.Release("a")) }
		w.idle("a", true)
		if len(w.View().Nodes) != 0 {
			t.Error("the node came back")
		}
	})
}

// PRG-45: the drain of an offline node waits for its return.
func TestDrainOfAnOfflineNode(t *testing.T) {
	active := 1
	drainWorld(t, Config{Timing: Fast(), RestartGrace: -1}, &active, func(w *world) {
		time.Sleep(10 * time.Second)
		w.want("a", Offline)
		w.must(w.Drain("a", 5*time.Second))
		time.Sleep(time.Minute)
		w.wantSchedule("a", Draining, false)
		if n := w.node("a"); n.Status() != "offline" {
			t.Errorf("status %s", n.Status())
		}
		if r := w.idle("a", true); r.Schedule != Draining || r.DrainMS != 0 {
			t.Errorf("reply at the return %+v", r)
		}
		w.wantSchedule("a", Drained, true)
	})
}

// PRG-45, §4.2: cordon keeps work away and does nothing else; pairs that are not
// in the table are refused and change nothing.
func TestCordon(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		w.must(w.Cordon("a"))
		w.must(w.Cordon("a"))
		n := w.node("a")
		if ok, why := n.Placeable(); ok || why != "cordoned" || n.Status() != "online" {
			t.Errorf("placeable %t, %q, status %s", ok, why, n.Status())
		}
		if r, err := w.beatWith("a", nil); err != nil || r.Schedule != Cordoned {
			t.Errorf("reply %+v, %v", r, err)
		}
		w.must(w.Drain("a", time.Hour))
		wantCode(t, w.Cordon("a"), IllegalTransition)
		w.wantSchedule("a", Draining, false)
		w.must(w.Uncordon("a"))
		w.must(w.Uncordon("a"))
		for _, err := range []error{w.Cordon("b"), w.Uncordon("b"), w.Drain("b", 0), w.Fail("b", "x"), w.ClearFailed("b"), w.Release("b")} {
			wantCode(t, err, NodeUnknown)
		}
	})
}

// §4.2, PRG-45: what an operator wants outlives restarts of the node and of the
// registry; the stricter of two holds.
func TestScheduleOutlivesRestarts(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		again := func(instance int, remembered Schedule) {
			r := other("a", instance, w.grants["a"].LeaseToken)
			r.Schedule = remembered
			w.must(w.try(r))
			w.seqs["a"] = 0
		}
		w.register("a")
		w.must(w.Cordon("a"))
		again(2, "") // a restart of the node
		w.wantSchedule("a", Cordoned, false)
		w.must(w.Leave(t.Context(), "a", w.grants["a"].LeaseToken))
		w.register("a") // an orderly one
		w.wantSchedule("a", Cordoned, false)
		again(3, "Draining") // what it remembers is stricter, in any spelling
		w.wantSchedule("a", Draining, false)
		if want := time.Now().Add(24 * time.Hour).UnixMilli(); w.node("a").Drain.DeadlineMS != want {
			t.Errorf("deadline_ms %d, want %d", w.node("a").Drain.DeadlineMS, want)
		}
		again(4, Cordoned) // or milder
		w.wantSchedule("a", Draining, false)
		again(5, Drained)
		w.wantSchedule("a", Drained, false)
		w.must(w.Uncordon("a"))
		again(5, Drained) // the same incarnation, which has not heard of it yet
		w.wantSchedule("a", Open, false)

		w.must(w.Drain("a", time.Minute))
		w.must(w.Leave(t.Context(), "a", w.grants["a"].LeaseToken))
		w.must(w.Uncordon("a")) // also while it is away
		w.register("a")
		w.wantSchedule("a", Open, false)
		r := describe("b")
		r.Schedule = "closed"
		if e := wantCode(t, w.try(r), InvalidNode); len(e.Fields) != 1 || e.Fields[0] != "schedule: charset" {
			t.Errorf("fields %q", e.Fields)
		}
	})
}

// PRG-9: the memory of nodes that left is bounded; the oldest goes.
func TestKeptSchedulesAreBounded(t *testing.T) {
	inBubble(t, Config{Limits: Limits{Nodes: 2}}, func(t *testing.T, w *world) {
		for _, id := range []NodeID{"a", "b", "c"} {
			w.register(id)
			w.must(w.Cordon(id))
			w.must(w.Leave(t.Context(), id, w.grants[id].LeaseToken))
			time.Sleep(time.Second)
		}
		for id, want := range map[NodeID]Schedule{"a": Open, "b": Cordoned, "c": Cordoned} {
			w.register(id)
			w.wantSchedule(id, want, false)
			w.must(w.Release(id))
		}
	})
}
