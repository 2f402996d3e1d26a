package poolregistry_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

const uuid1 = "00000000-0000-4000-8000-000000000001"

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// world is a registry with its Run in a synctest bubble.
type world struct {
	t *testing.T
	*Registry
	grants map[NodeID]Grant
	seqs   map[NodeID]uint64
	paused atomic.Bool // the detection timer
}

// inBubble runs f with a running registry in virtual time.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg)
		f(t, w)
	})
}

func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	reg, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
	done := make(chan error, 1)
	go func() { done <- reg.RunPausable(t.Context(), &w.paused) }()
	t.Cleanup(func() { <-done })
	synctest.Wait()
	return w
}

func describe(id NodeID) Registration {
	return Registration{NodeID: id, InstanceID: uuid1, Address: "http://10.0.0.1:9200", Pools: []Pool{{ID: "p0"}}}
}

func pool() []Pool {
	return []Pool{{ID: "p0", State: "ready", Live: true, Ready: true, SlotsFree: 2, SlotsTotal: 4}}
}

func (w *world) register(ids ...NodeID) {
	w.t.Helper()
	for _, id := range ids {
		w.must(w.try(describe(id)))
	}
}

func (w *world) try(r Registration) error {
	g, err := w.Register(w.t.Context(), r)
	if err == nil {
		w.grants[r.NodeID] = g
	}
	return err
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) beatWith(id NodeID, edit func(*Beat)) (BeatReply, error) {
	w.seqs[id]++
	b := Beat{NodeID: id, LeaseToken: w.grants[id].LeaseToken, Seq: w.seqs[id], Pools: pool()}
	if edit != nil {
		edit(&b)
	}
	return w.Beat(w.t.Context(), b)
}

func (w *world) beat(ids ...NodeID) {
	w.t.Helper()
	for _, id := range ids {
		_, err := w.beatWith(id, nil)
		w.must(err)
	}
}

func (w *world) node(id NodeID) *Node {
	w.t.Helper()
	n, ok := w.View().Node(id)
	if !ok {
		w.t.Fatalf("node %s is not in the view", id)
	}
	return n
}

func (w *world) want(id NodeID, want Liveness) {
	w.t.Helper()
	if n := w.node(id); n.Liveness != want {
		w.t.Errorf("after %v node %s is %s (%s), want %s", time.Since(virtualStart), id, n.Liveness, n.Reason, want)
	}
}

// virtualStart is when every bubble begins.
var virtualStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// live beats ids every interval for d.
func (w *world) live(d, interval time.Duration, ids ...NodeID) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		w.beat(ids...)
		time.Sleep(interval)
	}
}

func wantCode(t *testing.T, err error, want Code) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || !errors.Is(err, want) {
		t.Fatalf("error is %v, want %s", err, want)
	}
	return e
}

// PRG-26, PRG-27, PRG-29, G1: the two limits, to the nanosecond, for both presets.
func TestDetectionWithinTimeout(t *testing.T) {
	for name, timing := range map[string]Timing{"default": Default(), "fast": Fast()} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{Timing: timing, GuardMaxHold: -1}, func(t *testing.T, w *world) {
				w.register("a")
				w.live(timing.OfflineAfter+timing.Beat, timing.Beat, "a")
				w.beat("a")
				time.Sleep(timing.SuspectAfter - 1)
				w.want("a", Online)
				time.Sleep(time.Nanosecond)
				w.want("a", Suspect)
				time.Sleep(timing.OfflineAfter - timing.SuspectAfter - 1)
				w.want("a", Suspect)
				time.Sleep(time.Nanosecond)
				w.want("a", Offline)
				if d := w.Stats().DetectionDelay; d.Count != 1 || d.Sum != timing.OfflineAfter {
					t.Errorf("detection delay = %+v, want one of %v", d, timing.OfflineAfter)
				}
			})
		})
	}
}

// G1: a watcher learns of it at most one second later, without any reader.
func TestWatcherLearnsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = reg.Run(t.Context()) }()
		w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
		w.register("a")
		w.live(40*time.Second, 10*time.Second, "a")
		w.beat("a")
		last := time.Now()
		for v := range w.Watch(t.Context()) {
			n, ok := v.Node("a")
			if ok && n.Liveness == Offline {
				break
			}
		}
		if d := time.Since(last); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("the watcher learned after %v, want 30 to 31 s", d)
		}
	})
}

// PRG-27: each limit is the configured one.
func TestTimeoutIsParameter(t *testing.T) {
	timing := Timing{Beat: 2 * time.Second, SuspectAfter: 5 * time.Second, OfflineAfter: 41 * time.Second}
	inBubble(t, Config{Timing: timing}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(time.Minute, 2*time.Second, "a")
		w.beat("a")
		time.Sleep(41*time.Second - 1)
		w.want("a", Suspect)
		time.Sleep(time.Nanosecond)
		w.want("a", Offline)
	})
}

// PRG-24, PRG-25: work sent under the old epoch can be told apart.
func TestReturnFromOfflineIsFenced(t *testing.T) {
	inBubble(t, Config{Timing: Fast()}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(4*time.Second, time.Second, "a")
		before := w.node("a").Epoch
		time.Sleep(5 * time.Second)
		w.want("a", Offline)
		reply, err := w.beatWith("a", nil)
		w.must(err)
		w.want("a", Online)
		if got := w.node("a").Epoch; got <= before || reply.Epoch != got {
			t.Errorf("epoch %d then %d, reply says %d", before, got, reply.Epoch)
		}
	})
}

// The transition that other registries miss.
func TestOfflineBecomesOnlineByBeat(t *testing.T) {
	inBubble(t, Config{Timing: Fast()}, func(t *testing.T, w *world) {
		w.register("a")
		w.live(4*time.Second, time.Second, "a")
		time.Sleep(time.Minute)
		w.want("a", Offline)
		w.beat("a")
		w.want("a", Online)
		if ok, why := w.node("a").Placeable(); !ok {
			t.Errorf("not placeable: %s", why)
		}
	})
}

// PRG-26: a node whose clock is wrong is flagged and kept.
func TestSkewedNodeStaysOnline(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		for i := range 20 {
			_, err := w.beatWith("a", func(b *Beat) { b.Timestamp = time.Now().Add(-time.Hour * time.Duration(i+1)) })
			w.must(err)
			time.Sleep(10 * time.Second)
			w.want("a", Online)
		}
		if ms := w.node("a").ClockSkewMS; ms > -30_000 {
			t.Errorf("clock_skew_ms = %d", ms)
		}
		if n := w.Stats().Skewed; n != 1 {
			t.Errorf("skewed = %d, want 1", n)
		}
	})
}

// PRG-26: absurd timestamps saturate.
func TestClockBackNoUnderflow(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, w *world) {
		w.register("a")
		for _, at := range []time.Time{time.Unix(-1<<40, 0), time.Unix(1<<40, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
			_, err := w.beatWith("a", func(b *Beat) { b.Timestamp = at })
			w.must(err)
			w.want("a", Online)
		}
	})
}

// PRG-28: who is told to beat slowly is not late.
func TestLeaseUsesHoldersInterval(t *testing.T) {
	timing := Timing{Beat: time.Second, MaxBeatRate: 1} // two nodes: 2 s each
	inBubble(t, Config{Timing: timing}, func(t *testing.T, w *world) {
		w.register("a", "b")
		for range 5 {
			for _, id := range []NodeID{"a", "b"} {
				reply, err := w.beatWith(id, nil)
				w.must(err)
				if ms := reply.NextHeartbeatMS; ms < 1900 || ms > 2100 || reply.TimeoutMS != 6000 {
					t.Fatalf("reply = %+v", reply)
				}
			}
			time.Sleep(2100 * time.Millisecond)
		}
		w.want("a", Online)
		time.Sleep(900 * time.Millisecond)
		w.want("a", Suspect)
		// A reply that was lost: the node still follows the interval before it.
		w.must(w.Leave(t.Context(), "b", w.grants["b"].LeaseToken))
		w.beat("a")
		time.Sleep(2100 * time.Millisecond)
		w.want("a", Online)
	})
}

// PRG-31: without Run nothing expires.
func TestNothingExpiresWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, err := New(Config{Timing: Fast()})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
		w.register("a")
		w.beat("a")
		time.Sleep(time.Hour)
		w.want("a", Online)
		if w.View().Detecting {
			t.Error("View.Detecting without Run")
		}
		go func() { _ = reg.Run(t.Context()) }()
		synctest.Wait()
		if err := reg.Run(t.Context()); err == nil {
			t.Error("a second concurrent Run is no error")
		}
		if !w.View().Detecting {
			t.Error("View.Detecting is false while Run runs")
		}
		time.Sleep(Fast().SuspectAfter - 1)
		w.want("a", Online)
		time.Sleep(time.Nanosecond)
		w.want("a", Suspect)
		time.Sleep(Fast().OfflineAfter - Fast().SuspectAfter)
		w.want("a", Offline)
	})
}

// PRG-32, PRG-43: a registry that lost its memory is rebuilt by what nodes do anyway.
func TestRegistryRestartRecovers(t *testing.T) {
	inBubble(t, Config{Timing: Fast()}, func(t *testing.T, w *world) {
		_, err := w.Beat(t.Context(), Beat{NodeID: "a", LeaseToken: "of an earlier registry", Seq: 7, Pools: pool()})
		wantCode(t, err, NodeUnknown)
		r := describe("a")
		r.PrevEpoch, r.LeaseToken = 41, "of-an-earlier-registry"
		w.must(w.try(r))
		if e := w.node("a").Epoch; e != 42 {
			t.Errorf("epoch = %d, want 42", e)
		}
		_, err = w.Beat(t.Context(), Beat{NodeID: "a", LeaseToken: "another", Seq: 8})
		wantCode(t, err, LeaseInvalid)
		w.beat("a")
		w.want("a", Online)
	})
	inBubble(t, Config{Timing: Fast(), RestartGrace: time.Minute}, func(t *testing.T, w *world) {
		w.register("a")
		w.beat("a")
		time.Sleep(time.Minute - 1)
		w.want("a", Suspect)
		time.Sleep(time.Nanosecond)
		w.want("a", Offline)
	})
}
