package poolregistry_test

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	. "github.com/llorch/llorch/poolregistry"
)

const ms = time.Millisecond

// PRG-26 to PRG-33: one row per clause of the rule.
func TestEvaluate(t *testing.T) {
	s := time.Second
	on := ObserverTimes{Detecting: true, LastTick: 99 * s}
	node := func(l Liveness, last time.Duration) NodeTimes {
		return NodeTimes{Liveness: l, LastBeat: last, Granted: 10 * s}
	}
	for _, c := range []struct {
		name string
		n    NodeTimes
		o    func(*ObserverTimes)
		now  time.Duration
		want Liveness
		why  string
	}{
		{"fresh", node(Online, 86*s), nil, 100 * s, Online, "fresh"},
		{"never beat", node(Registering, 85*s), nil, 100 * s, Suspect, "silent"},
		{"just suspect", node(Online, 85*s), nil, 100 * s, Suspect, "silent"},
		{"one step at a time", node(Online, 0), nil, 100 * s, Suspect, "silent"},
		{"not yet offline", node(Suspect, 70*s+1), nil, 100 * s, Suspect, "fresh"},
		{"just offline", node(Suspect, 70*s), nil, 100 * s, Offline, "silent"},
		{"failed stays", node(Failed, 0), nil, 100 * s, Failed, "failed"},
		{"offline stays", node(Offline, 99*s), nil, 100 * s, Offline, "silent"},
		{"beat in the future", node(Online, 200*s), nil, 100 * s, Online, "fresh"},
		{"not detecting", node(Online, 0), func(o *ObserverTimes) { o.Detecting = false }, 100 * s, Online, "not_detecting"},
		{"late tick", node(Online, 0), func(o *ObserverTimes) { o.LastTick = 98 * s }, 100 * s, Online, "observer_stall"},
		{"tick in time", node(Online, 0), func(o *ObserverTimes) { o.LastTick = 100*s - 1600*ms }, 100 * s, Suspect, "silent"},
		{"after a stall", node(Online, 0), func(o *ObserverTimes) { o.StallEnd = 90*s + 1 }, 100 * s, Online, "observer_stall"},
		{"one interval after", node(Online, 0), func(o *ObserverTimes) { o.StallEnd = 90 * s }, 100 * s, Suspect, "silent"},
		{"credit", node(Online, 80*s), func(o *ObserverTimes) { o.Credit = 6 * s }, 100 * s, Online, "fresh"},
		{"old credit", NodeTimes{Liveness: Online, LastBeat: 80 * s, Credit: 6 * s, Granted: 10 * s}, func(o *ObserverTimes) { o.Credit = 6 * s }, 100 * s, Suspect, "silent"},
		{"grace", node(Suspect, 0), func(o *ObserverTimes) { o.HoldOffline = 100*s + 1 }, 100 * s, Suspect, "grace"},
		{"grace over", node(Suspect, 0), func(o *ObserverTimes) { o.HoldOffline = 100 * s }, 100 * s, Offline, "silent"},
		{"guard", node(Suspect, 0), func(o *ObserverTimes) { o.GuardHeld = true }, 100 * s, Suspect, "guard"},
		{"refused passes the guard", NodeTimes{Liveness: Suspect, Granted: 10 * s, Refused: true}, func(o *ObserverTimes) { o.GuardHeld = true }, 100 * s, Offline, "silent"},
		{"progress", NodeTimes{Liveness: Suspect, LastBeat: s, Granted: 10 * s, Progress: 85*s + 1}, nil, 100 * s, Suspect, "progress"},
		{"progress too old", NodeTimes{Liveness: Suspect, LastBeat: s, Granted: 10 * s, Progress: 85 * s}, nil, 100 * s, Offline, "silent"},
		{"progress before the beat", NodeTimes{Liveness: Suspect, LastBeat: 60 * s, Granted: 10 * s, Progress: 59 * s}, nil, 100 * s, Offline, "silent"},
		{"scaled", NodeTimes{Liveness: Online, LastBeat: 71 * s, Granted: 20 * s}, nil, 100 * s, Online, "fresh"},
		{"scaled suspect", NodeTimes{Liveness: Online, LastBeat: 70 * s, Granted: 20 * s}, nil, 100 * s, Suspect, "silent"},
	} {
		o := on
		if c.o != nil {
			c.o(&o)
		}
		if got, why := Evaluate(c.n, o, Default(), c.now); got != c.want || why != c.why {
			t.Errorf("%s: Evaluate = %s, %s, want %s, %s", c.name, got, why, c.want, c.why)
		}
	}
	long := NodeTimes{Liveness: Suspect, LastBeat: s, Granted: 10 * s, Progress: 301 * s}
	o := ObserverTimes{Detecting: true, LastTick: 301 * s}
	if got, _ := Evaluate(long, o, Default(), 301*s); got != Offline {
		t.Errorf("progress holds a node for ever: %s", got)
	}
}

// PRG-29: the instant that readers wait for is exactly the one at which the rule
// answers otherwise.
func TestDueIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(200*time.Second)).Draw(t, name))
		}
		timing := rapid.SampledFrom([]Timing{Default(), Fast()}).Draw(t, "timing")
		n := NodeTimes{
			Liveness: rapid.SampledFrom([]Liveness{Registering, Online, Suspect}).Draw(t, "liveness"),
			LastBeat: d("beat"), Credit: d("credit"), Granted: timing.Beat + d("granted"),
			Progress: d("progress"), Refused: rapid.Bool().Draw(t, "refused"),
		}
		o := ObserverTimes{Detecting: true, Credit: n.Credit + d("stalls"), StallEnd: d("stall end"), HoldOffline: d("hold")}
		due := Due(n, o, timing)
		o.LastTick = due - 1
		if got, why := Evaluate(n, o, timing, due-1); got != n.Liveness {
			t.Fatalf("before %v: %s (%s)", due, got, why)
		}
		if got, why := Evaluate(n, o, timing, due); got == n.Liveness {
			t.Fatalf("at %v: still %s (%s)", due, got, why)
		}
	})
}

// PRG-29: what silence cannot move is never due, so that readers take no lock for
// it; PRG-31: nor is anything while nobody detects.
func TestDueNever(t *testing.T) {
	const never = time.Duration(1<<63 - 1)
	for _, l := range []Liveness{Offline, Failed} {
		if d := Due(NodeTimes{Liveness: l}, ObserverTimes{Detecting: true}, Default()); d != never {
			t.Errorf("a node that is %s is due at %v", l, d)
		}
	}
	if d := Due(NodeTimes{Liveness: Online}, ObserverTimes{}, Default()); d != never {
		t.Errorf("a node is due at %v although nobody detects", d)
	}
}

// PRG-27.
func TestTimingValidate(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		t  Timing
		ok bool
	}{
		{Timing{}, true},
		{Timing{Beat: 100 * ms}, true},
		{Timing{Beat: 100*ms - 1}, false},
		{Timing{Beat: 5 * time.Minute}, true},
		{Timing{Beat: 5*time.Minute + 1}, false},
		{Timing{Beat: 10 * s, SuspectAfter: 12 * s}, true},
		{Timing{Beat: 10 * s, SuspectAfter: 12*s - 1}, false},
		{Timing{Beat: 10 * s, OfflineAfter: 20 * s}, true},
		{Timing{Beat: 10 * s, OfflineAfter: 20*s - 1}, false},
		{Timing{Beat: 10 * s, SuspectAfter: 30 * s, OfflineAfter: 30 * s}, false},
		{Timing{Beat: 10 * s, OfflineAfter: time.Hour + 1}, false},
		{Timing{Beat: -s}, false},
		{Timing{MaxBeatRate: -1}, false},
	} {
		if err := c.t.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: Validate = %v, want ok %t", c.t, err, c.ok)
		}
		if _, err := New(Config{Timing: c.t}); (err == nil) != c.ok {
			t.Errorf("%+v: New = %v, want ok %t", c.t, err, c.ok)
		}
	}
	if got := Default(); got != (Timing{10 * s, 15 * s, 30 * s, 10_000}) {
		t.Errorf("Default = %+v", got)
	}
	if got := Fast(); got != (Timing{s, 1500 * ms, 3 * s, 10_000}) {
		t.Errorf("Fast = %+v", got)
	}
}

func ids(n int) []NodeID {
	out := make([]NodeID, n)
	for i := range out {
		out[i] = NodeID("n" + string(rune('a'+i)))
	}
	return out
}

// PRG-30, PRG-35, G2: a paused observer evicts nobody, whoever looks first. A reader
// that arrives before the timer recovers is simulated by holding the timer.
func TestObserverPausedEvictsNobody(t *testing.T) {
	for _, pause := range []time.Duration{2 * time.Second, 10 * time.Second, 30 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			nodes := ids(5)
			w.register(nodes...)
			w.live(time.Minute, 10*time.Second, nodes...)
			w.paused.Store(true)
			time.Sleep(pause)
			for _, id := range nodes {
				w.want(id, Online) // the reader is first
			}
			w.paused.Store(false)
			time.Sleep(5 * time.Second)
			for _, id := range nodes {
				w.want(id, Online)
			}
			w.live(40*time.Second, 10*time.Second, nodes...)
			v := w.View()
			if v.Online != 5 || w.Stats().DetectionDelay.Count != 0 {
				t.Errorf("after a pause of %v: %d online, %+v", pause, v.Online, w.Stats().DetectionDelay)
			}
		})
	}
}

// PRG-30: what a node said during the pause counts from when it said it, and a
// node that really died is found, one pause later.
func TestStallCreditIsExact(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("dead", "late")
		w.live(time.Minute, 10*time.Second, "dead", "late")
		w.beat("dead", "late")
		lastBeat := time.Since(virtualStart)
		time.Sleep(5500 * ms)
		_, before, _ := w.Times("dead")
		w.paused.Store(true)
		time.Sleep(20 * time.Second)
		w.beat("late")
		time.Sleep(20 * time.Second)
		w.paused.Store(false)
		time.Sleep(1500 * ms)
		_, after, _ := w.Times("dead")
		pause := after.Credit - before.Credit
		if pause < 40*time.Second || pause != after.StallEnd-before.LastTick {
			t.Fatalf("credit %v, ticks at %v and %v", pause, before.LastTick, after.StallEnd)
		}
		reach := func(at time.Duration) { time.Sleep(at - time.Since(virtualStart)) }
		reach(30*time.Second + lastBeat + pause - 1)
		w.want("dead", Suspect)
		time.Sleep(time.Nanosecond)
		w.want("dead", Offline)
		reach(after.StallEnd + 30*time.Second - 1)
		w.want("late", Suspect)
		time.Sleep(time.Nanosecond)
		w.want("late", Offline)
	})
}
