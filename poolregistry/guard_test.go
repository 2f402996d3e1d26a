package poolregistry_test

import (
	"testing"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

func many(n int) []NodeID {
	out := make([]NodeID, n)
	for i := range out {
		out[i] = NodeID("n" + uuid(i)[30:])
	}
	return out
}

// staggered lets every node beat once per interval, each at its own instant.
func (w *world) staggered(d time.Duration, ids []NodeID) {
	w.t.Helper()
	gap := 10 * time.Second / time.Duration(len(ids))
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, id := range ids {
			w.beat(id)
			time.Sleep(gap)
		}
	}
}

// PRG-35, PRG-36, PRG-37: how many of how many may die together.
func TestAllSilentMeansUs(t *testing.T) {
	for _, c := range []struct {
		nodes, silent int
		held          bool
	}{
		{1, 1, false},
		{2, 2, false},
		{3, 1, false},
		{3, 2, false},
		{3, 3, true},
		{20, 4, false},
		{20, 5, true},
		{100, 20, false},
		{100, 21, true},
		{100, 100, true},
	} {
		inBubble(t, Config{GuardMaxHold: -1}, func(t *testing.T, w *world) {
			nodes := many(c.nodes)
			w.register(nodes...)
			w.staggered(time.Minute, nodes)
			quiet, alive := nodes[:c.silent], nodes[c.silent:]
			for range 5 {
				if len(alive) > 0 {
					w.staggered(10*time.Second, alive)
				} else {
					time.Sleep(10 * time.Second)
				}
			}
			v := w.View()
			if v.GuardHeld != c.held {
				t.Errorf("%d of %d silent: guard held %t, want %t", c.silent, c.nodes, v.GuardHeld, c.held)
			}
			want := Offline
			if c.held {
				want = Suspect
			}
			for _, id := range quiet {
				w.want(id, want)
				if n := w.node(id); n.GuardHeld != c.held {
					t.Errorf("node %s: guard_held %t", id, n.GuardHeld)
				}
			}
			if v.Online != len(alive) {
				t.Errorf("%d of %d silent: %d online", c.silent, c.nodes, v.Online)
			}
		})
	}
}

// PRG-30, PRG-36: when the observer is connected again, nodes get a fresh window, and
// those that are really gone go after it.
func TestTimersResetAfterSegmentation(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		nodes := many(10)
		w.register(nodes...)
		w.live(time.Minute, 10*time.Second, nodes...)
		time.Sleep(2 * time.Minute)
		if v := w.View(); !v.GuardHeld || v.Suspect != 10 || v.Offline != 0 {
			t.Fatalf("view %+v", v)
		}
		back, gone := nodes[1:], nodes[:1]
		w.beat(back...)
		time.Sleep(1001 * ms) // the guard looks with every tick
		if w.View().GuardHeld {
			t.Fatal("the guard is held although 9 of 10 are back")
		}
		w.beat(back...)
		time.Sleep(10 * time.Second)
		w.want(gone[0], Suspect)
		w.beat(back...)
		time.Sleep(6 * time.Second)
		w.want(gone[0], Offline)
		if v := w.View(); v.Online != 9 {
			t.Errorf("%d online, want 9", v.Online)
		}
	})
}

// PRG-36: the guard gives up after GuardMaxHold, and once given up does not trip
// again for the same nodes.
func TestGuardMaxHold(t *testing.T) {
	inBubble(t, Config{GuardMaxHold: time.Minute}, func(t *testing.T, w *world) {
		nodes := many(5)
		w.register(nodes...)
		w.live(time.Minute, 10*time.Second, nodes...)
		w.beat(nodes...)
		time.Sleep(90*time.Second - 1)
		if v := w.View(); v.Suspect != 5 || !v.GuardHeld {
			t.Fatalf("before: %+v", v)
		}
		time.Sleep(time.Nanosecond)
		if v := w.View(); v.Offline != 5 || v.GuardHeld {
			t.Fatalf("at the end: %+v", v)
		}
		if n := w.Stats().GuardTrips; n != 1 {
			t.Errorf("guard trips = %d", n)
		}
	})
}

// PRG-36: an operator ends it at once; PRG-33, PRG-35: so does a refusal, for its node.
func TestReleaseGuard(t *testing.T) {
	inBubble(t, Config{GuardMaxHold: -1}, func(t *testing.T, w *world) {
		nodes := many(5)
		w.register(nodes...)
		w.live(time.Minute, 10*time.Second, nodes...)
		time.Sleep(time.Hour)
		w.Refused(nodes[0])
		w.want(nodes[0], Offline)
		w.want(nodes[1], Suspect)
		w.ReleaseGuard()
		if v := w.View(); v.Offline != 5 || v.GuardHeld {
			t.Errorf("view %+v", v)
		}
		w.ReleaseGuard() // idempotent
	})
}

// PRG-36: after ReleaseGuard the ordinary rule applies: what the guard held does
// not make it trip again over one node more.
func TestReleasedNodesCountNoMore(t *testing.T) {
	inBubble(t, Config{GuardMaxHold: -1}, func(t *testing.T, w *world) {
		nodes := many(20)
		w.register(nodes...)
		w.live(time.Minute, 10*time.Second, nodes...)
		w.live(time.Minute, 10*time.Second, nodes[8:]...)
		if v := w.View(); !v.GuardHeld || v.Suspect != 8 {
			t.Fatalf("view %+v", v)
		}
		w.ReleaseGuard()
		w.live(time.Minute, 10*time.Second, nodes[9:]...) // one more dies in the same moment
		w.want(nodes[8], Offline)
		if v := w.View(); v.Offline != 9 || w.Stats().GuardTrips != 1 {
			t.Errorf("%d offline, the guard tripped %d times", v.Offline, w.Stats().GuardTrips)
		}
	})
}

// PRG-35: nodes that went offline within the last OfflineAfter count, earlier
// ones do not.
func TestGuardCountsTheWindow(t *testing.T) {
	for gap, held := range map[time.Duration]bool{10 * time.Second: true, 40 * time.Second: false} {
		inBubble(t, Config{}, func(t *testing.T, w *world) {
			nodes := many(10)
			w.register(nodes...)
			w.live(time.Minute, 10*time.Second, nodes...)
			for range 3 { // one more falls silent every gap
				w.beat(nodes...)
				nodes = nodes[1:]
				w.live(gap, 10*time.Second, nodes...)
			}
			w.live(time.Minute, 10*time.Second, nodes...)
			if v := w.View(); v.GuardHeld != held || v.Suspect+v.Offline != 3 {
				t.Errorf("gap %v: %+v", gap, v)
			}
			w.live(5*time.Minute, 10*time.Second, nodes...)
			if v := w.View(); v.GuardHeld || v.Offline != 3 {
				t.Errorf("gap %v, five minutes later: %+v", gap, v)
			}
			if trips := w.Stats().GuardTrips; (trips > 0) != held {
				t.Errorf("gap %v: the guard tripped %d times", gap, trips)
			}
		})
	}
}

// PRG-35: nodes that joined within the last OfflineAfter do not dilute the fraction.
func TestGuardIgnoresNewcomers(t *testing.T) {
	inBubble(t, Config{GuardMaxHold: -1}, func(t *testing.T, w *world) {
		old, joined := many(10), many(35)[10:]
		w.register(old...)
		w.live(time.Minute, 10*time.Second, old...)
		w.beat(old...)
		time.Sleep(10 * time.Second)
		w.register(joined...)
		for range 3 {
			w.beat(joined...)
			w.beat(old[3:]...)
			time.Sleep(7 * time.Second)
		}
		if v := w.View(); !v.GuardHeld || v.Offline != 0 || v.Suspect != 3 {
			t.Errorf("3 of 10, 25 newcomers: guard %t, %d suspect, %d offline", v.GuardHeld, v.Suspect, v.Offline)
		}
	})
}

// PRG-35: a node that is out of use was not online: it does not dilute the
// fraction either, and an operator's word is no mass failure.
func TestGuardIgnoresFailed(t *testing.T) {
	inBubble(t, Config{GuardMaxHold: -1}, func(t *testing.T, w *world) {
		nodes := many(20)
		w.register(nodes...)
		w.live(time.Minute, 10*time.Second, nodes...)
		for _, id := range nodes[:10] {
			w.must(w.Fail(id, "maintenance"))
		}
		if v := w.View(); v.GuardHeld || v.Failed != 10 {
			t.Errorf("guard %t, %d failed", v.GuardHeld, v.Failed)
		}
		w.live(time.Minute, 10*time.Second, nodes...)
		w.live(time.Minute, 10*time.Second, nodes[3:]...)
		if v := w.View(); v.GuardHeld {
			t.Error("failed nodes that are silent trip the guard")
		}
	})
	inBubble(t, Config{GuardMaxHold: -1}, func(t *testing.T, w *world) {
		nodes := many(20)
		w.register(nodes...)
		w.live(time.Minute, 10*time.Second, nodes...)
		for _, id := range nodes[:10] {
			w.must(w.Fail(id, "maintenance"))
		}
		w.live(time.Minute, 10*time.Second, nodes...)
		w.live(time.Minute, 10*time.Second, nodes[:17]...)
		if v := w.View(); !v.GuardHeld || v.Suspect != 3 {
			t.Errorf("3 of 10 silent: guard %t, %d suspect", v.GuardHeld, v.Suspect)
		}
	})
}
