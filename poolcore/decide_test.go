package poolcore

import (
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
	"pgregory.net/rapid"
)

func testEdition(replicas int) *edition {
	t := Timing{}.withDefaults()
	return &edition{rules: rules{replicas: replicas, slots: 2, startAtMost: t.Start, stopGrace: t.StopGrace, timing: t}}
}

// script drives one pool of one replica by hand.
type script struct {
	t   *testing.T
	s   poolState
	now time.Duration
	out []effect
}

func begin(t *testing.T, keep bool) *script {
	s := &script{t: t, s: emptyPool()}
	s.feed(evStart{op: 1, keep: keep, edition: testEdition(1)})
	if !keep {
		s.feed(evStaged{op: 1})
	}
	return s
}

func (s *script) feed(e event) {
	s.s, s.out = decide(s.s, e, s.now)
}

func (s *script) gen() gen { return s.s.places[0].gen }

func (s *script) spawned() { s.feed(evSpawned{gen: s.gen()}) }

func (s *script) ready() {
	s.feed(evTick{})
	s.feed(evProbed{gen: s.gen(), probe: probe{ready: true}})
	if got := s.s.places[0].status; got != ready {
		s.t.Fatalf("status = %s, want ready", got)
	}
}

func (s *script) crash(class string) { s.feed(evExited{gen: s.gen(), fail: failure{class: class}}) }

// untilSpawn jumps from due to due until a spawn comes, and says how long it took.
func (s *script) untilSpawn() time.Duration {
	s.t.Helper()
	from := s.now
	for range 10 {
		due := s.s.due()
		if due == never {
			s.t.Fatal("no restart is due")
		}
		s.now = due
		s.feed(evTick{})
		if slices.ContainsFunc(s.out, func(f effect) bool { _, ok := f.(effSpawn); return ok }) {
			return s.now - from
		}
	}
	s.t.Fatal("no spawn")
	return 0
}

// TestRestartSchedule (PCO-34, PCO-35): 1, 2, 4, 8 s, then the breaker; half open
// admits one; success closes it, failure doubles the time.
func TestRestartSchedule(t *testing.T) {
	s := begin(t, true)
	s.spawned()
	for _, want := range []time.Duration{1, 2, 4, 8} {
		s.crash(engine.ClassUnknown)
		if got := s.untilSpawn(); got != want*time.Second {
			t.Fatalf("pause = %v, want %v s", got, int(want))
		}
		s.spawned()
	}
	s.crash(engine.ClassUnknown)
	if s.s.breaker.state != breakerOpen {
		t.Fatalf("breaker = %s after 5 failures", s.s.breaker.state)
	}
	if got := s.untilSpawn(); got != 300*time.Second {
		t.Fatalf("pause with an open breaker = %v, want 300 s", got)
	}
	if s.s.breaker.state != breakerHalfOpen {
		t.Fatalf("breaker = %s, want half open", s.s.breaker.state)
	}
	s.spawned()
	s.crash(engine.ClassUnknown)
	if got := s.untilSpawn(); got != 600*time.Second {
		t.Fatalf("pause after a failed try = %v, want 600 s", got)
	}
	s.spawned()
	s.ready()
	for s.s.breaker.state != breakerClosed {
		s.now = s.s.due()
		s.feed(evTick{})
		if s.s.places[0].asking {
			s.feed(evProbed{gen: s.gen(), probe: probe{ready: true}})
		}
		if s.now > time.Hour {
			t.Fatal("the breaker does not close")
		}
	}
	for s.s.places[0].failures > 0 {
		s.now = s.s.due()
		s.feed(evTick{})
		if s.s.places[0].asking {
			s.feed(evProbed{gen: s.gen(), probe: probe{ready: true}})
		}
	}
	s.crash(engine.ClassKilled)
	if got := s.untilSpawn(); got != time.Second {
		t.Fatalf("pause after 300 s of health = %v, want 1 s", got)
	}
}

// TestHalfOpenAdmitsOne: with three places down, one start is tried.
func TestHalfOpenAdmitsOne(t *testing.T) {
	s, _ := decide(emptyPool(), evStart{keep: true, edition: testEdition(3)}, 0)
	now := time.Duration(0)
	for range 2 {
		for i := range 3 {
			s, _ = decide(s, evSpawnFailed{gen: s.places[i].gen}, now)
		}
		if s.breaker.state == breakerOpen {
			break
		}
		now += 5 * time.Second
		s, _ = decide(s, evTick{}, now)
	}
	if s.breaker.state != breakerOpen {
		t.Fatalf("breaker = %s", s.breaker.state)
	}
	now += time.Hour
	s, effects := decide(s, evTick{}, now)
	spawns := 0
	for _, f := range effects {
		if _, ok := f.(effSpawn); ok {
			spawns++
		}
	}
	if spawns != 1 || s.breaker.state != breakerHalfOpen {
		t.Errorf("%d starts while %s, want 1", spawns, s.breaker.state)
	}
}

// TestConfigErrorTwiceStops (PCO-34): the same arguments fail the same way.
func TestConfigErrorTwiceStops(t *testing.T) {
	s := begin(t, true)
	s.spawned()
	s.crash(engine.ClassConfig)
	s.untilSpawn()
	s.spawned()
	s.crash(engine.ClassConfig)
	if due := s.s.due(); due != never || s.s.phase != failed {
		t.Fatalf("due = %v, phase = %s; want no restart of a failed pool", due, s.s.phase)
	}
	s.feed(evStart{op: 2, edition: s.s.edition})
	if s.s.phase != staging {
		t.Errorf("phase = %s: a new preload must start it again", s.s.phase)
	}
}

// TestPortConflictIsNobodysFault (PCO-19): three retries at once, not counted.
func TestPortConflictIsNobodysFault(t *testing.T) {
	for _, keep := range []bool{true, false} {
		s := begin(t, keep)
		for range 3 {
			s.spawned()
			s.crash(engine.ClassPortConflict)
			if s.s.places[0].status != spawning || s.s.breaker.strikes != 0 {
				t.Fatalf("keep %v: status %s, strikes %d; want another try at once", keep, s.s.places[0].status, s.s.breaker.strikes)
			}
		}
		s.spawned()
		s.crash(engine.ClassPortConflict)
		if s.s.places[0].status == spawning {
			t.Errorf("keep %v: a fourth retry at once", keep)
		}
	}
}

// TestBusyWorkerNotReaped (PCO-37): busy is not dead.
func TestBusyWorkerNotReaped(t *testing.T) {
	miss := func(s *script, grew bool) {
		s.now = s.s.due()
		s.feed(evTick{})
		s.feed(evProbed{gen: s.gen(), probe: probe{failed: true, grew: grew}})
	}
	s := begin(t, true)
	s.spawned()
	s.ready()
	s.feed(evReply{active: 1, until: never})
	if s.s.places[0].status != busy {
		t.Fatalf("status = %s, want busy", s.s.places[0].status)
	}
	for range 20 {
		miss(s, true)
	}
	if !s.s.places[0].serving() {
		t.Fatal("a busy worker that makes progress was given up")
	}
	for range 20 {
		if s.s.places[0].serving() {
			miss(s, true)
		}
	}
	if s.s.places[0].serving() {
		t.Error("five minutes without an answer are enough")
	}

	s = begin(t, true)
	s.spawned()
	s.ready()
	miss(s, false)
	miss(s, false)
	if !s.s.places[0].serving() {
		t.Fatal("two failed probes were enough")
	}
	miss(s, false)
	if s.s.places[0].status != failed {
		t.Errorf("status = %s after three failed probes of an idle worker, want failed", s.s.places[0].status)
	}
}

// TestSlowBigModelIsNotKilled (PCO-30): progress, not patience, limits a start.
func TestSlowBigModelIsNotKilled(t *testing.T) {
	s := begin(t, true)
	s.s.edition.startAtMost = 20 * time.Minute
	s.spawned()
	for s.now < 10*time.Minute {
		s.now = s.s.due()
		s.feed(evTick{})
		if s.s.places[0].asking {
			s.feed(evProbed{gen: s.gen(), probe: probe{failed: true, grew: int(s.now.Seconds())%30 == 0}})
		}
	}
	if s.s.places[0].status != starting {
		t.Fatalf("status = %s after 10 min of progress, want starting", s.s.places[0].status)
	}
	from := s.now
	for s.s.places[0].status == starting {
		s.now = s.s.due()
		s.feed(evTick{})
		if s.s.places[0].asking {
			s.feed(evProbed{gen: s.gen(), probe: probe{failed: true}})
		}
	}
	if stalled := s.now - from; stalled > 61*time.Second {
		t.Errorf("a stalled start lived for %v", stalled)
	}
	if got := s.s.lastErr.errorCode(); got != WorkerStartTimeout {
		t.Errorf("code = %s", got)
	}
}

// TestPreloadFailureLeavesNothing (PCO-6): one worker fails, all go, nobody is
// started again, and the caller hears of it when the last one is gone.
func TestPreloadFailureLeavesNothing(t *testing.T) {
	s, _ := decide(emptyPool(), evStart{op: 7, edition: testEdition(2)}, 0)
	s, _ = decide(s, evStaged{op: 7}, 0)
	s, _ = decide(s, evSpawned{gen: s.places[0].gen}, 0)
	s, effects := decide(s, evSpawnFailed{gen: s.places[1].gen, fail: failure{class: engine.ClassPreflight, faults: []Fault{{Code: ModelMissing}}}}, 0)
	if !slices.ContainsFunc(effects, func(f effect) bool { k, ok := f.(effKill); return ok && k.gen == s.places[0].gen }) {
		t.Fatalf("the other worker is not ended: %v", effects)
	}
	if slices.ContainsFunc(effects, func(f effect) bool { _, ok := f.(effDone); return ok }) {
		t.Fatal("answered before the last process is gone")
	}
	s, effects = decide(s, evExited{gen: s.places[0].gen}, 0)
	i := slices.IndexFunc(effects, func(f effect) bool { _, ok := f.(effDone); return ok })
	if i < 0 || effects[i].(effDone).fail.errorCode() != ModelMissing {
		t.Fatalf("effects = %v, want the failure as the answer", effects)
	}
	if s.phase != failed || s.due() != never {
		t.Errorf("phase = %s, due = %v; want failed without a timer", s.phase, s.due())
	}
}

// TestBackoff: the schedule grows, is bounded, and jitter stays within a tenth.
func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 10_000).Draw(t, "n")
		j := rapid.Float64Range(-1, 1).Draw(t, "jitter")
		base := backoff(n, time.Second, time.Minute, 0)
		got := backoff(n, time.Second, time.Minute, j)
		if d := got - base; d > base/10 || d < -base/10 || base > time.Minute || base < time.Second {
			t.Fatalf("backoff(%d, jitter %g) = %v, base %v", n, j, got, base)
		}
	})
	var got []time.Duration
	for n := 1; n <= 8; n++ {
		got = append(got, backoff(n, time.Second, time.Minute, 0)/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}; !slices.Equal(got, want) {
		t.Errorf("schedule = %v, want %v", got, want)
	}
}
