package poolregistry_test

import (
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// G2, PRG-26, PRG-30: the pure rule over 10^4 hours of node life (10^6 by night): one
// beat in a hundred is lost, the observer pauses for half a second now and then,
// and no node is called offline. Beats that arrive undisturbed are skipped: they
// cannot be late. How often a node was suspect is reported.
func TestNoFalseOfflineUnderLoss(t *testing.T) {
	hours := 10_000
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		hours = 1_000_000
	}
	const loss = 0.01
	timing := Default()
	beats := hours * int(time.Hour/timing.Beat)
	rng := rand.New(rand.NewPCG(1, 2))
	suspects, lost := 0, 0
	for at := 0; at < beats; at++ {
		at += int(rng.ExpFloat64() / loss) // to the next loss
		silence := time.Duration(float64(timing.Beat) * (0.95 + rng.Float64()/10))
		for first := true; first || rng.Float64() < loss; first = false {
			silence += 2500 * time.Millisecond // the attempt's timeout, then the wait before the next
			lost++
		}
		if rng.IntN(2) == 0 {
			silence += time.Duration(rng.Int64N(int64(500 * time.Millisecond)))
		}
		n := NodeTimes{Liveness: Online, Granted: timing.Beat}
		o := ObserverTimes{Detecting: true, LastTick: silence - time.Duration(rng.Int64N(int64(time.Second)))}
		for range 2 { // it moves one step at a time
			n.Liveness, _ = Evaluate(n, o, timing, silence)
		}
		switch n.Liveness {
		case Offline:
			t.Fatalf("offline after %v", silence)
		case Suspect:
			suspects++
		}
	}
	t.Logf("%d node hours, %d beats lost, 0 false offline, %d false suspects", hours, lost, suspects)
	if lost < hours*3 {
		t.Errorf("only %d beats were lost", lost)
	}
}

// G1, PRG-29: how late each of 200 nodes that die at any moment is found, by a
// reader and by a watcher, in virtual time.
func TestDetectionLatency(t *testing.T) {
	for name, timing := range map[string]Timing{"default": Default(), "fast": Fast()} {
		t.Run(name, func(t *testing.T) {
			var worst, worstWatcher time.Duration
			synctest.Test(t, func(t *testing.T) {
				reg, err := New(Config{Timing: timing, RestartGrace: -1})
				if err != nil {
					t.Fatal(err)
				}
				go func() { _ = reg.Run(t.Context()) }()
				synctest.Wait()
				w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
				rng := rand.New(rand.NewPCG(3, 4))
				for _, id := range many(200) {
					time.Sleep(time.Duration(rng.Int64N(int64(time.Second)))) // not in step with the timer
					w.register(id)
					w.beat(id)
					died := time.Now()
					for v := range w.Watch(t.Context()) {
						if n, ok := v.Node(id); ok && n.Liveness == Offline {
							break
						}
					}
					worstWatcher = max(worstWatcher, time.Since(died))
					n := w.node(id)
					worst = max(worst, n.Since.Sub(died))
					w.must(w.Release(id))
				}
			})
			t.Logf("offline after %v, watchers know after %v at worst", worst, worstWatcher)
			if worst > timing.OfflineAfter+time.Second || worstWatcher > timing.OfflineAfter+time.Second || worstWatcher < timing.OfflineAfter {
				t.Errorf("offline after %v, watchers know after %v, limit %v", worst, worstWatcher, timing.OfflineAfter)
			}
		})
	}
}

// PRG-44: Run publishes content to watchers PublishEvery after it changed, however
// many beats come between.
func TestRunPublishesContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, err := New(Config{PublishEvery: 50 * ms})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = reg.Run(t.Context()) }()
		synctest.Wait()
		w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
		w.register("a")
		w.beat("a")
		time.Sleep(time.Second)
		var seen []time.Duration
		from := time.Now()
		go func() {
			for v := range w.Watch(t.Context()) {
				if p, _ := v.Nodes[0].Pool("p0"); p.SlotsFree == 0 {
					seen = append(seen, time.Since(from))
				}
			}
		}()
		synctest.Wait()
		for _, free := range []int{1, 0} {
			_, err := w.beatWith("a", func(b *Beat) { b.Pools[0].SlotsFree = free })
			w.must(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(seen) != 1 || seen[0] > 50*ms {
			t.Errorf("the watcher saw it after %v, want once within 50 ms", seen)
		}
	})
}

// PRG-45: a watcher learns of a drain that is forced within a second.
func TestRunForcesDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = reg.Run(t.Context()) }()
		synctest.Wait()
		w := &world{t: t, Registry: reg, grants: map[NodeID]Grant{}, seqs: map[NodeID]uint64{}}
		w.register("a")
		w.beat("a")
		w.must(w.Drain("a", 5300*ms))
		from := time.Now()
		for v := range w.Watch(t.Context()) {
			if v.Nodes[0].Schedule == Drained {
				break
			}
		}
		if d := time.Since(from); d < 5300*ms || d > 6300*ms {
			t.Errorf("the watcher learned after %v", d)
		}
	})
}
