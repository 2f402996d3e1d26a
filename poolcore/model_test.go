package poolcore

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
	"pgregory.net/rapid"
)

// world plays the part of the machine for decide: it knows which processes exist
// and checks every effect against that.
type world struct {
	t         *rapid.T
	s         poolState
	now       time.Duration
	spawns    map[uint64]int  // gen → place, attempts without an answer
	live      map[uint64]int  // gen → place, processes
	proved    map[uint64]bool // gen answered with its own identity
	probes    map[uint64]int
	dying     map[uint64]bool
	waiting   map[uint64]bool // ops without a final answer
	undecided map[uint64]bool // starts that were neither accepted nor refused
	stopped   bool            // a stop was asked and no start since
	nextOp    uint64
}

func (w *world) feed(e event) {
	before := w.s
	frozen := append([]place(nil), before.places...)
	next, effects := decide(before, e, w.now)
	again, effectsAgain := decide(before, e, w.now)
	if !reflect.DeepEqual(next, again) || !reflect.DeepEqual(effects, effectsAgain) {
		w.t.Fatalf("G1: decide(%T) is not a function of its arguments", e)
	}
	if !slices.Equal(frozen, before.places) {
		w.t.Fatalf("PCO-1: decide(%T) changed its input", e)
	}
	w.s = next
	for _, f := range effects {
		w.apply(f)
	}
	w.check()
}

func (w *world) apply(f effect) {
	switch f := f.(type) {
	case effSpawn:
		if w.stopped {
			w.t.Fatal("a spawn after stop")
		}
		for gen, at := range w.live {
			if at == f.at {
				w.t.Fatalf("G2: place %d is started while attempt %d of it lives", at, gen)
			}
		}
		for _, at := range w.spawns {
			if at == f.at {
				w.t.Fatalf("place %d is started twice", at)
			}
		}
		w.spawns[f.gen] = f.at
	case effProbe:
		if _, ok := w.live[f.gen]; !ok {
			w.t.Fatal("a probe of a process that does not exist")
		}
		if _, ok := w.probes[f.gen]; ok {
			w.t.Fatal("two probes of one worker at once")
		}
		w.probes[f.gen] = f.at
	case effKill:
		if _, ok := w.live[f.gen]; !ok {
			w.t.Fatal("a kill of a process that does not exist")
		}
		w.dying[f.gen] = true
	case effAccept:
		if !w.undecided[f.op] && f.op != 0 {
			w.t.Fatalf("PCO-3: op %d is accepted twice or was never asked", f.op)
		}
		delete(w.undecided, f.op)
		if f.code != "" || f.done {
			delete(w.waiting, f.op)
		}
		if f.code == "" && len(w.live)+len(w.spawns) == 0 {
			w.stopped = false
		}
	case effDone:
		if !w.waiting[f.op] {
			w.t.Fatalf("PCO-3: op %d is answered twice or was never asked", f.op)
		}
		delete(w.waiting, f.op)
	}
}

func (w *world) check() {
	if len(w.undecided) > 0 {
		w.t.Fatal("a start was neither accepted nor refused at once")
	}
	for i, p := range w.s.places {
		if _, ok := w.live[p.gen]; ok != p.alive {
			w.t.Fatalf("place %d: alive = %v, process exists = %v", i, p.alive, ok)
		}
		if _, ok := w.spawns[p.gen]; ok != p.pending {
			w.t.Fatalf("place %d: pending = %v, attempt under way = %v", i, p.pending, ok)
		}
		if p.serving() && !w.proved[p.gen] {
			w.t.Fatalf("G4: place %d is ready without having shown its identity", i)
		}
		if p.serving() && !p.alive {
			w.t.Fatalf("place %d serves without a process", i)
		}
	}
	if w.s.phase == stopped && len(w.live)+len(w.spawns) > 0 {
		w.t.Fatalf("G2: stopped with %d processes", len(w.live)+len(w.spawns))
	}
	if due := w.s.due(); due != never {
		if !slices.ContainsFunc(w.s.places, func(p place) bool { return p.alive || p.dueAt != never }) {
			w.t.Fatal("a timer without an owner")
		}
	}
}

func (w *world) op() uint64 {
	w.nextOp++
	w.waiting[w.nextOp] = true
	return w.nextOp
}

func anyGen(t *rapid.T, m map[uint64]int) (uint64, int, bool) {
	if len(m) == 0 {
		return 0, 0, false
	}
	gens := make([]uint64, 0, len(m))
	for g := range m {
		gens = append(gens, g)
	}
	slices.Sort(gens)
	g := rapid.SampledFrom(gens).Draw(t, "gen")
	return g, m[g], true
}

func drawFailure(t *rapid.T) failure {
	return failure{class: rapid.SampledFrom([]string{
		engine.ClassUnknown, engine.ClassKilled, engine.ClassConfig, engine.ClassPortConflict, engine.ClassOOMVRAM,
	}).Draw(t, "class")}
}

// TestPoolModel explores decide with a machine that answers in any order
// (PCO-1…PCO-4, G1, G2, G4, TestHalfOpenAdmitsOne).
func TestPoolModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, s: poolState{phase: stopped, breaker: breaker{state: breakerClosed}}, spawns: map[uint64]int{}, live: map[uint64]int{},
			proved: map[uint64]bool{}, probes: map[uint64]int{}, dying: map[uint64]bool{}, waiting: map[uint64]bool{}, undecided: map[uint64]bool{},
		}
		replicas := rapid.IntRange(1, 3).Draw(t, "replicas")
		t.Repeat(map[string]func(*rapid.T){
			"start":   func(t *rapid.T) { w.start(t, replicas) },
			"spawned": w.spawned,
			"probed":  w.probed,
			"exit":    w.exit,
			"stuck":   w.stuck,
			"stale":   w.stale,
			"time":    w.time,
			"active":  func(t *rapid.T) { w.feed(evActive{n: rapid.IntRange(0, 9).Draw(t, "n")}) },
			"stop":    func(*rapid.T) { w.stop() },
		})
		w.end()
	})
}

func drawJitter(t *rapid.T) float64 { return rapid.Float64Range(-1, 1).Draw(t, "jitter") }

func (w *world) start(t *rapid.T, replicas int) {
	op := w.op()
	w.undecided[op] = true
	w.feed(evStart{op: op, keep: rapid.Bool().Draw(t, "keep"), same: rapid.Bool().Draw(t, "same"), rules: testRules(replicas)})
}

func (w *world) spawned(t *rapid.T) {
	gen, at, ok := anyGen(t, w.spawns)
	if !ok {
		return
	}
	delete(w.spawns, gen)
	if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
		w.feed(evSpawnFailed{at: at, gen: gen, fail: drawFailure(t), jitter: drawJitter(t)})
		return
	}
	w.live[gen] = at
	w.feed(evSpawned{at: at, gen: gen})
}

func (w *world) probed(t *rapid.T) {
	gen, at, ok := anyGen(t, w.probes)
	if !ok {
		return
	}
	delete(w.probes, gen)
	p := probe{failed: rapid.IntRange(0, 2).Draw(t, "failed") == 0, grew: rapid.Bool().Draw(t, "grew")}
	if !p.failed {
		p.ready = rapid.Bool().Draw(t, "ready")
		p.foreign = rapid.IntRange(0, 9).Draw(t, "foreign") == 0
	}
	w.proved[gen] = w.proved[gen] || p.ready && !p.foreign
	w.feed(evProbed{at: at, gen: gen, probe: p, jitter: drawJitter(t)})
}

func (w *world) exit(t *rapid.T) {
	if gen, at, ok := anyGen(t, w.live); ok {
		delete(w.live, gen)
		w.feed(evExited{at: at, gen: gen, fail: drawFailure(t), jitter: drawJitter(t)})
	}
}

func (w *world) stuck(t *rapid.T) {
	if gen, at, ok := anyGen(t, w.live); ok && w.dying[gen] {
		w.feed(evStuck{at: at, gen: gen})
	}
}

// stale feeds events of attempts that do not exist.
func (w *world) stale(t *rapid.T) {
	before := w.s
	w.feed(evExited{at: 0, gen: w.s.nextGen + 1, fail: drawFailure(t)})
	w.feed(evSpawned{at: 99, gen: 1})
	if !reflect.DeepEqual(before, w.s) {
		t.Fatal("an event of a foreign attempt changed the state")
	}
}

func (w *world) time(t *rapid.T) {
	if due := w.s.due(); due != never && rapid.Bool().Draw(t, "jump") {
		w.now = max(w.now, due)
	} else {
		w.now += time.Duration(rapid.IntRange(1, 30_000).Draw(t, "ms")) * time.Millisecond
	}
	before, spawns := w.s.breaker.state, len(w.spawns)
	w.feed(evTick{jitter: drawJitter(t)})
	started := len(w.spawns) - spawns
	if before == breakerHalfOpen && w.s.breaker.state == breakerHalfOpen && started > 0 || before == breakerOpen && w.s.breaker.state != breakerClosed && started > 1 {
		t.Fatalf("PCO-35: a breaker that was %s admits %d starts", before, started)
	}
	if due := w.s.due(); due != never && due <= w.now {
		t.Fatalf("after a tick at %v the next one is due at %v: the loop would spin", w.now, due)
	}
}

func (w *world) stop() {
	w.stopped = true
	w.feed(evStop{op: w.op()})
}

// end: whatever happened, a stop ends everything and answers everybody
// (TestWaitersAlwaysReleased).
func (w *world) end() {
	w.stop()
	for len(w.spawns)+len(w.live) > 0 {
		for gen, at := range w.spawns {
			delete(w.spawns, gen)
			w.live[gen] = at
			w.feed(evSpawned{at: at, gen: gen})
		}
		for gen, at := range w.live {
			delete(w.live, gen)
			w.feed(evExited{at: at, gen: gen})
		}
	}
	if len(w.waiting) > 0 {
		w.t.Fatalf("PCO-3: %d requests are never answered", len(w.waiting))
	}
}
