package poolcore

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type rapidChooser struct{ t *rapid.T }

func (c rapidChooser) choose(what string, n int) int { return rapid.IntRange(0, n-1).Draw(c.t, what) }

type seeded struct{ r *rand.Rand }

func (c seeded) choose(_ string, n int) int { return c.r.IntN(n) }

// nightly reports whether long tests are wanted.
func nightly() bool { return os.Getenv("LLORCH_NIGHTLY") != "" }

// walk goes n random steps and then to the end; it returns the broken invariant.
func walk(w *world, n int) (v violation) {
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if v, ok = r.(violation); !ok {
				panic(r)
			}
		}
	}()
	steps := w.steps()
	for range n {
		steps[w.choose("step", len(steps))]()
	}
	w.cooperate()
	w.end()
	return ""
}

// seededWalk is walk number seed, of a temper that depends on it.
func seededWalk(seed uint64, do step) (*world, violation) {
	w := newWorld(seeded{rand.New(rand.NewPCG(seed, 1))})
	w.decide, w.bound, w.harsh, w.deaf, w.calm = do, seed%5 == 0, seed%7 == 3, seed%6 == 4, seed%6 == 1
	return w, walk(w, 10+int(seed%150))
}

// TestPoolModel explores decide with a machine and callers that do anything in any
// order (PCO-1, PCO-2, PCO-3, PCO-35, PCO-39, PCO-41, PCO-44, PCO-45, PCO-46, PCO-47,
// PCO-48, G1, G2, G4, G5, G6;
// TestWaitersAlwaysReleased, TestSlotLeakIsZero).
func TestPoolModel(t *testing.T) {
	for _, bound := range []bool{false, true} {
		t.Run(fmt.Sprintf("bound %v", bound), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(rapidChooser{t})
				w.bound = bound
				if v := walk(w, rapid.IntRange(1, 100).Draw(t, "steps")); v != "" {
					t.Fatal(v)
				}
			})
		})
	}
}

// TestTransitionTables: the walks make no transition outside the tables (which
// [world.moved] checks), and every row of them is reached.
func TestTransitionTables(t *testing.T) {
	walks := uint64(1500)
	if nightly() {
		walks = 60_000
	}
	workers, pools := map[[3]string]int{}, map[[2]string]int{}
	for seed := range walks {
		w, v := seededWalk(seed, decide)
		if v != "" {
			t.Fatalf("walk %d: %s", seed, v)
		}
		for k := range w.workers {
			workers[k]++
		}
		for k := range w.pools {
			pools[k]++
		}
	}
	var missed []string
	for _, row := range workerTransitions() {
		for _, from := range row.from {
			if workers[[3]string{from, row.event, row.to[0]}] == 0 {
				missed = append(missed, from+" → "+row.to[0]+" by "+row.event)
			}
		}
	}
	for _, row := range poolTransitions() {
		for _, to := range row.to {
			if pools[[2]string{row.from[0], to}] == 0 {
				missed = append(missed, row.from[0]+" → "+to)
			}
		}
	}
	if allowed := 16; nightly() && len(missed) > 0 || len(missed) > allowed { // the rarest rows need the long run
		t.Errorf("no walk goes %s", strings.Join(missed, ", "))
	}
}

// TestTablesAreDocumented: docs/state-machines.md says what the package comment says,
// which the walks are held to.
func TestTablesAreDocumented(t *testing.T) {
	comment, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/state-machines.md")
	if os.IsNotExist(err) {
		t.Skip("outside the repository there is no docs/state-machines.md")
	}
	if err != nil {
		t.Fatal(err)
	}
	got := [][]string{pageTable(string(page), "Worker"), pageTable(string(page), "Pool")}
	if want := commentTables(string(comment)); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("state-machines.md says\n%q\ndoc.go\n%q", got, want)
	}
}

// TestAllShortSequences: every sequence of up to five of twelve representative
// events keeps every invariant (three outside of nightly runs).
func TestAllShortSequences(t *testing.T) {
	longest := 3
	if nightly() {
		longest = 5
	}
	var events []func(*world)
	for _, name := range slices.Sorted(maps.Keys(representative())) {
		events = append(events, representative()[name])
	}
	sequences := 0
	for length := 1; length <= longest; length++ {
		total := 1
		for range length {
			total *= len(events)
		}
		for code := range total {
			w := newWorld(seeded{rand.New(rand.NewPCG(uint64(code), 2))})
			if v := play(w, events, code, length); v != "" {
				t.Fatalf("sequence %d of %d events: %s", code, length, v)
			}
			sequences++
		}
	}
	t.Logf("%d sequences", sequences)
}

func play(w *world, events []func(*world), code, length int) (v violation) {
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if v, ok = r.(violation); !ok {
				panic(r)
			}
		}
	}()
	for range length {
		events[code%len(events)](w)
		code /= len(events)
	}
	w.cooperate()
	w.end()
	return ""
}

// representative are twelve events that stand for all.
func representative() map[string]func(*world) {
	ask := func(make func(op op) event, accepts bool) func(*world) {
		return func(w *world) { w.ask(make, accepts) }
	}
	start := func(keep bool, replicas int) func(*world) {
		return func(w *world) {
			e := evStart{keep: keep, edition: w.edition(replicas)}
			w.ask(func(op op) event { e.op = op; return e }, true)
		}
	}
	return map[string]func(*world){
		"keep":    start(true, 1),
		"preload": start(false, 2),
		"settle":  func(w *world) { w.settleAll(); w.tick() },
		"crash": func(w *world) {
			if gen, ok := pick(w, "gen", w.live); ok {
				w.gone(gen, failure{class: "killed"})
			}
		},
		"due": func(w *world) {
			if due := w.s.due(); due != never {
				w.now = max(w.now, due)
			}
			w.tick()
		},
		"stop":     ask(func(op op) event { return evStop{op: op} }, false),
		"drain":    ask(func(op op) event { return evDrain{op: op, within: 1 << 40} }, false),
		"undrain":  ask(func(op op) event { return evUndrain{op: op} }, false),
		"reload":   func(w *world) { w.reload() },
		"acquire":  func(w *world) { w.acquire() },
		"sick":     func(w *world) { w.feed(evDevice{sick: !w.s.sick}) },
		"refusals": func(w *world) { w.staged(); w.spawned(); w.probed(); w.journaled() },
	}
}
