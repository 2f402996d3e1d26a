package placement_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llorch/llorch/orchestrator/placement"
)

// plain is a ready worker of model "a".
func plain(name string, slots int) *placement.Worker {
	return &placement.Worker{Key: placement.Key{Node: "n-" + name, Pool: "p", Worker: name}, Models: []string{"a"}, SlotsTotal: slots, Online: true, Ready: true}
}

func viewOf(list ...*placement.Worker) *placement.View {
	v := placement.NewView()
	v.Apply(list)
	return v
}

// chosen is the name of the worker that is chosen, and by what.
func chosen(v *placement.View, r placement.Request, p placement.Policy) string {
	d, e := placement.Decide(v, r, p), placement.Explain(v, r, p)
	if d.Worker == nil {
		return d.Reason
	}
	if e.Winner != d.Worker.Key.String() {
		return "Explain differs: " + e.Winner
	}
	return fmt.Sprintf("%s by %s %d", d.Worker.Key.Worker, e.Margin.By, e.Margin.Amount)
}

// TestStrategies: each orders by its own measure, then by the next, then by the tie
// rule and by key; the margin says which of them decided (ORC-303).
func TestStrategies(t *testing.T) {
	a := placement.Request{Model: "a", Prompt: 1000, Expected: 100}
	edit := func(w *placement.Worker, f func(*placement.Worker)) *placement.Worker { f(w); return w }
	vram := func(n uint64) func(*placement.Worker) {
		return func(w *placement.Worker) { w.VRAMFree, w.VRAMTotal = n, 100 }
	}
	speed := func(n int64) func(*placement.Worker) { return func(w *placement.Worker) { w.TokensPerS = n } }
	for name, c := range map[string]struct {
		list []*placement.Worker
		p    placement.Policy
		want string
	}{
		"least-loaded": {[]*placement.Worker{plain("x", 2), plain("y", 5)}, placement.Policy{}, "y by slots_free 3"},
		"least-loaded, then memory": {
			[]*placement.Worker{edit(plain("x", 2), vram(7)), edit(plain("y", 2), vram(9))},
			placement.Policy{Strategy: "least-loaded"},
			"y by vram_free_bytes 2",
		},
		"least-loaded, then key": {[]*placement.Worker{plain("y", 2), plain("x", 2)}, placement.Policy{}, "x by name 0"},
		"most-vram-free": {
			[]*placement.Worker{edit(plain("x", 9), vram(7)), edit(plain("y", 2), vram(9))},
			placement.Policy{Strategy: "most-vram-free"},
			"y by vram_free_bytes 2",
		},
		"most-vram-free, then active": {
			[]*placement.Worker{edit(plain("x", 9), func(w *placement.Worker) { w.SlotsBusy = 1 }), plain("y", 2)},
			placement.Policy{Strategy: "most-vram-free"},
			"y by active 1",
		},
		"predicted": {
			[]*placement.Worker{edit(plain("x", 9), speed(10_000)), edit(plain("y", 2), speed(20_000))},
			placement.Policy{Strategy: "predicted"},
			"y by predicted_ns 5000000000",
		},
		"predicted, decode does not count": {
			[]*placement.Worker{edit(plain("x", 9), speed(10_000)), edit(plain("y", 2), speed(20_000))},
			placement.Policy{Strategy: "predicted", Weights: placement.Weights{Prefill: 1}},
			"x by name 0",
		},
		"the only one": {[]*placement.Worker{plain("x", 1)}, placement.Policy{}, "x by only 0"},
	} {
		if got := chosen(viewOf(c.list...), a, c.p); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestRoundRobin: each set of requirements has its own turn, in the order of the
// keys, also over workers that are full or gone meanwhile (ORC-303).
func TestRoundRobin(t *testing.T) {
	p := placement.Policy{Strategy: "round-robin"}
	list := []*placement.Worker{plain("x", 9), plain("y", 9), plain("z", 9)}
	v, n := viewOf(list...), 0
	next := func(r placement.Request) string {
		d := placement.Decide(v, r, p)
		v.Assign(task(n), 1, d.Worker.Key, r)
		n++
		return d.Worker.Key.Worker
	}
	a, big := placement.Request{Model: "a"}, placement.Request{Model: "a", Ctx: 10}
	var got []string
	for range 4 {
		got = append(got, next(a))
	}
	got = append(got, next(big), next(a), next(big)) // the other set begins anew
	if want := strings.Fields("x y z x x y y"); !slices.Equal(got, want) {
		t.Errorf("turns = %q, want %q", got, want)
	}
	v.Apply(slices.Delete(slices.Clone(list), 1, 2)) // y, the last one, is gone
	if got := next(a); got != "z" {
		t.Errorf("after a worker went: %q, want z", got)
	}
}

// TestTurnsByWindow: prompts of different lengths that fit the same workers share one
// turn and one note; what keeps a worker out is the exact length (ORC-303).
func TestTurnsByWindow(t *testing.T) {
	p := placement.Policy{Strategy: "round-robin"}
	list := []*placement.Worker{plain("x", 99), plain("y", 99), plain("z", 99)}
	for i, w := range list {
		w.CtxMax = 1000 * (i/2 + 1) // 1000, 1000, 2000
	}
	v, got := viewOf(list...), []string{}
	for i := range 6 {
		r := placement.Request{Model: "a", Ctx: 100 + i}
		w := placement.Decide(v, r, p).Worker
		v.Assign(task(i), 1, w.Key, r)
		got = append(got, w.Key.Worker)
	}
	if want := strings.Fields("x y z x y z"); !slices.Equal(got, want) || v.Memos() != 1 {
		t.Errorf("turns = %q with %d notes, want %q with one", got, v.Memos(), want)
	}
	for tokens, want := range map[int]int{1000: 3, 1001: 1, 2000: 1, 2001: 0} {
		if e := placement.Explain(v, placement.Request{Model: "a", Ctx: tokens}, p); e.Feasible != want {
			t.Errorf("%d tokens: %d workers are feasible, want %d", tokens, e.Feasible, want)
		}
	}
}

// TestTurnsBounded: the turn of what is not used any more is forgotten.
func TestTurnsBounded(t *testing.T) {
	v := viewOf(plain("x", 9))
	for i := range 3000 {
		v.Assign(task(i), 1, placement.Key{Node: "n-x", Pool: "p", Worker: "x"}, placement.Request{Model: "a", Engine: fmt.Sprint(i)})
		placement.Decide(v, placement.Request{Model: "a", Engine: fmt.Sprint(10_000 + i)}, placement.Policy{})
	}
	for i := range 6000 {
		placement.Decide(v, placement.Request{Model: "a", Engine: fmt.Sprint(i)}, placement.Policy{})
	}
	if n, memos := len(v.State().Turns), v.Memos(); n != 1024 || memos > 4096 {
		t.Errorf("%d turns and %d notes, want 1,024 and at most 4,096", n, memos)
	}
}

// TestTiesRotate: with the tie rule rotate equal workers get equal shares, however
// the tasks end (sglang#32983; ORC-303).
func TestTiesRotate(t *testing.T) {
	share := func(rule string) (out []int) {
		v := viewOf(plain("w", 4), plain("x", 4), plain("y", 4), plain("z", 4))
		count := map[string]int{}
		for i := range 1000 { // each task ends before the next one comes: all are equal every time
			d := placement.Decide(v, placement.Request{Model: "a"}, placement.Policy{TieRule: rule})
			v.Reserve(task(i), 1, d.Worker.Key)
			v.Release(task(i), 1)
			count[d.Worker.Key.Worker]++
		}
		return []int{count["w"], count["x"], count["y"], count["z"]}
	}
	for i, n := range share("rotate") {
		if n < 200 || n > 300 {
			t.Errorf("worker %d took %d of 1,000, want 25 %% ± 5", i, n)
		}
	}
	if got := share(""); !slices.Equal(got, []int{1000, 0, 0, 0}) {
		t.Errorf("without the rule the first by key takes them: %v", got)
	}
	v := viewOf(plain("x", 4), plain("y", 4))
	v.Reserve(task(1), 1, placement.Key{Node: "n-x", Pool: "p", Worker: "x"})
	v.Release(task(1), 1)
	if got := chosen(v, placement.Request{Model: "a"}, placement.Policy{TieRule: "rotate"}); got != "y by rest 1" {
		t.Errorf("after x worked: %q, want y by rest 1", got)
	}
}

// TestColdBurstSpreads: tasks that arrive at once on workers of which nothing is known
// yet spread, since each takes its slot before the next one is placed; also at uneven
// sizes, and with every strategy that looks at load (sglang#14532, 15473, 27547;
// ORC-400).
func TestColdBurstSpreads(t *testing.T) {
	for _, p := range []placement.Policy{{}, {TieRule: "rotate"}, {Strategy: "round-robin"}, {Strategy: "predicted"}, {Strategy: "most-vram-free"}} {
		v := viewOf(plain("w", 30), plain("x", 30), plain("y", 30), plain("z", 30))
		for i := range 102 {
			r := placement.Request{Model: "a", Prompt: 100, Expected: 50}
			v.Assign(task(i), 1, placement.Decide(v, r, p).Worker.Key, r)
		}
		low, high := 102, 0
		for w := range v.Workers() {
			low, high = min(low, v.Reserved(w.Key)), max(high, v.Reserved(w.Key))
		}
		if 10*high > 12*low {
			t.Errorf("%+v: most %d, fewest %d, want at most 1.2 times", p, high, low)
		}
	}
}

// TestModes: what pin, prefer, auto and avoid leave over (ORC-302).
func TestModes(t *testing.T) {
	in := func(pool string, busy int) *placement.Worker {
		return &placement.Worker{Key: placement.Key{Node: "n", Pool: pool, Worker: pool}, Models: []string{"a"}, SlotsTotal: 2, SlotsBusy: busy, Online: true, Ready: true}
	}
	v := viewOf(in("full", 2), in("half", 1), in("idle", 0))
	for _, c := range []struct {
		place    placement.Constraints
		want     string
		fallback bool
	}{
		{placement.Constraints{}, "idle by slots_free 1", false},
		{placement.Constraints{Mode: "auto", Pool: "half"}, "idle by slots_free 1", false},
		{placement.Constraints{Pool: "half"}, "half by only 0", false},
		{placement.Constraints{Mode: "pin", Pool: "full"}, "pinned_pool_infeasible", false},
		{placement.Constraints{Mode: "pin"}, "idle by slots_free 1", false},
		{placement.Constraints{Mode: "prefer", Prefer: []string{"half", "full"}}, "half by only 0", false},
		{placement.Constraints{Prefer: []string{"half"}}, "half by only 0", false},
		{placement.Constraints{Mode: "prefer", Pool: "half"}, "half by only 0", false},
		{placement.Constraints{Mode: "prefer", Prefer: []string{"full"}}, "idle by slots_free 1", true},
		{placement.Constraints{Mode: "prefer", Prefer: []string{"full"}, NoFallback: true}, "no_preferred_feasible", false},
		{placement.Constraints{Mode: "prefer", Prefer: []string{"full"}, Avoid: []string{"idle"}}, "half by only 0", true},
		{placement.Constraints{Avoid: []string{"idle"}}, "half by only 0", false},
		{placement.Constraints{Pool: "idle", Avoid: []string{"idle"}}, "pinned_pool_infeasible", false},
	} {
		r := placement.Request{Model: "a", Place: c.place}
		d, e := placement.Decide(v, r, placement.Policy{}), placement.Explain(v, r, placement.Policy{})
		if got := chosen(v, r, placement.Policy{}); got != c.want || d.Fallback != c.fallback || e.Fallback != c.fallback {
			t.Errorf("%+v: %q, fallback %v, want %q, %v", c.place, got, d.Fallback, c.want, c.fallback)
		}
	}
	if e := placement.Explain(v, placement.Request{Model: "a", Place: placement.Constraints{Pool: "full"}}, placement.Policy{}); !e.Pinned || e.Reason != "pinned_pool_infeasible" || e.Filter != "slots" {
		t.Errorf("a pin to a full pool: %+v", e)
	}
}

// TestTiers: a loaded model beats one on disk, which beats one that others must go
// for; only an idle worker loses its model, what rested longest first; and nothing is
// loaded while a worker that has the model is merely busy (ORC-303, ORC-340, ORC-341).
func TestTiers(t *testing.T) {
	holds := func(name string, loaded ...string) *placement.Worker {
		w := plain(name, 2)
		w.Models, w.VRAMTotal, w.VRAMFree, w.VRAMUsed = loaded, 100, 10, 60
		w.OnDisk = []placement.OnDisk{{Model: "a", Need: 70}}
		return w
	}
	a := placement.Request{Model: "a", Ctx: 9, Digest: "sha256:aa"}
	outcome := func(v *placement.View) string {
		d, e := placement.Decide(v, a, placement.Policy{}), placement.Explain(v, a, placement.Policy{})
		switch {
		case d.Worker != nil:
			return "run " + d.Worker.Key.Worker
		case d.Load != nil:
			if e.Load == nil || e.Load.Worker != d.Load.Key.String() || e.Load.Tier != d.Tier || e.Reason != "model_loading" || e.Scores[0].Worker != e.Load.Worker {
				return fmt.Sprintf("Explain differs: %+v", e)
			}
			return fmt.Sprintf("load %s tier %d evict %v", d.Load.Key.Worker, d.Tier, d.Evict)
		}
		return d.Filter
	}
	loaded, empty, other, many := holds("loaded", "a"), holds("empty"), holds("other", "b"), holds("many", "b", "c")
	loaded.Digest, empty.VRAMFree, many.Many, many.VRAMFree = "sha256:aa", 70, true, 69
	v := viewOf(loaded, empty, other, many)
	if got := outcome(v); got != "run loaded" {
		t.Errorf("a worker has the model: %s", got)
	}
	if e := placement.Explain(v, a, placement.Policy{}); e.Feasible != 1 || e.Loadable != 3 || e.Margin.By != "tier" || e.Scores[1].Tier != 1 || e.Scores[1].Terms.Load != 0 {
		t.Errorf("feasible %d, loadable %d, margin %+v, scores %+v", e.Feasible, e.Loadable, e.Margin, e.Scores)
	}
	v.Reserve(task(1), 1, loaded.Key)
	v.Reserve(task(2), 1, loaded.Key)
	if got := outcome(v); got != "slots" {
		t.Errorf("it is busy: %s, want to wait for a slot", got)
	}
	v = viewOf(empty, other, many)
	if got := outcome(v); got != "load empty tier 1 evict []" {
		t.Errorf("an empty worker has room: %s", got)
	}
	v.Pin(empty.Key, true)
	if got := outcome(v); got != "load many tier 2 evict [b c]" {
		t.Errorf("one must make room, none was used before: %s", got)
	}
	v.Reserve(task(3), 1, many.Key)
	if got := outcome(v); got != "load other tier 2 evict [b]" {
		t.Errorf("one of them works: %s", got)
	}
	v.Release(task(3), 1)
	if got := outcome(v); got != "load other tier 2 evict [b]" {
		t.Errorf("it has worked last: %s, want the one that rested longer", got)
	}
	v.Reserve(task(4), 1, other.Key)
	v.Reserve(task(5), 1, many.Key)
	if got := outcome(v); got != "memory" {
		t.Errorf("both work, the third is pinned: %s", got)
	}
	v.Pin(empty.Key, false)
	empty = holds("empty")
	empty.VRAMFree = 69
	v.Apply([]*placement.Worker{empty})
	if got := outcome(v); got != "memory" {
		t.Errorf("a byte is missing: %s", got)
	}
	e := placement.Explain(v, a, placement.Policy{})
	if len(e.Without) != 1 || e.Without[0].Missing != 1 || e.Without[0].Words != "1 MiB more free memory on n-empty/p/empty fits" {
		t.Errorf("counterfactual = %+v", e.Without)
	}
	said := holds("said")
	said.VRAMFree, said.OnDisk = 0, []placement.OnDisk{{Model: "a", Need: 70, Fits: 1}}
	if got := outcome(viewOf(said)); got != "load said tier 1 evict []" {
		t.Errorf("the node says it fits: %s", got)
	}
	full := holds("full", "b")
	full.Many, full.VRAMFree, full.SlotsBusy = true, 70, 2
	if got := outcome(viewOf(full)); got != "load full tier 1 evict []" {
		t.Errorf("its slots are taken for now by another model: %s", got)
	}
	never := holds("never")
	never.OnDisk[0].Need = 101
	if got := outcome(viewOf(never)); got != "vram" {
		t.Errorf("more than the devices have: %s", got)
	}
	first := a
	first.Tried = []placement.Key{said.Key}
	if d := placement.Decide(viewOf(said, other), first, placement.Policy{}); d.Load == nil || d.Load.Key != other.Key {
		t.Errorf("a load failed on one worker: %+v, want the other one", d)
	}
}

// TestAffinity: the worker of the session's last turn goes first in the best tier,
// but not when it failed this task, is full, or would have to load (ORC-305).
func TestAffinity(t *testing.T) {
	x, y := plain("x", 2), plain("y", 9)
	v := viewOf(x, y)
	r := placement.Request{Model: "a", Affinity: x.Key}
	if got := chosen(v, r, placement.Policy{}); got != "x by affinity 1" {
		t.Errorf("with affinity: %q", got)
	}
	if e := placement.Explain(v, r, placement.Policy{Strategy: "most-vram-free"}); !e.Warm || e.Winner != x.Key.String() {
		t.Errorf("before any strategy: %+v", e)
	}
	r.Tried = []placement.Key{x.Key}
	if got := chosen(v, r, placement.Policy{}); got != "y by tried 1" {
		t.Errorf("after it failed: %q", got)
	}
	r.Tried = nil
	v.Reserve(task(1), 1, x.Key)
	v.Reserve(task(2), 1, x.Key)
	if e := placement.Explain(v, r, placement.Policy{}); e.Winner != y.Key.String() || e.Warm {
		t.Errorf("it is full: winner %s, warm %v", e.Winner, e.Warm)
	}
	cold := plain("cold", 9)
	cold.Models, cold.OnDisk = []string{"b"}, []placement.OnDisk{{Model: "a"}}
	r.Affinity = cold.Key
	if got := chosen(viewOf(cold, y), r, placement.Policy{}); !strings.HasPrefix(got, "y by tier") {
		t.Errorf("its model is gone: %q", got)
	}
}

// TestSpread: a session has at most so many tasks on one node, also on another
// worker of it; other sessions do not count (ORC-301).
func TestSpread(t *testing.T) {
	at := func(node, worker string) *placement.Worker {
		w := plain(worker, 9)
		w.Node = node
		return w
	}
	v := viewOf(at("n1", "x"), at("n1", "y"), at("n2", "z"))
	r := placement.Request{Model: "a", Session: session, Place: placement.Constraints{Mode: "auto", Spread: 1}}
	v.Assign(task(1), 1, placement.Key{Node: "n1", Pool: "p", Worker: "x"}, r)
	if got := chosen(v, r, placement.Policy{}); got != "z by only 0" {
		t.Errorf("the second task of a session: %q", got)
	}
	other := r
	other.Session = [16]byte{9}
	if got := chosen(v, other, placement.Policy{}); got != "y by name 0" {
		t.Errorf("another session: %q", got)
	}
	v.Assign(task(2), 1, placement.Key{Node: "n2", Pool: "p", Worker: "z"}, r)
	if got := chosen(v, r, placement.Policy{}); got != "spread" {
		t.Errorf("the third: %q", got)
	}
	v.Release(task(1), 1)
	if got := chosen(v, r, placement.Policy{}); !strings.HasPrefix(got, "x by") {
		t.Errorf("after the first ended: %q", got)
	}
	if v.Release(task(2), 1); v.Sessions() != 0 {
		t.Errorf("%d counts of a session without tasks", v.Sessions())
	}
}

// TestTerms: what each strategy shows, by hand (ORC-304).
func TestTerms(t *testing.T) {
	w := plain("x", 4)
	w.OnDemand, w.OnDisk, w.SlotsBusy, w.VRAMTotal = true, []placement.OnDisk{{Model: "a", Need: 3 << 20}}, 1, 1
	v := viewOf(w)
	v.SetRates(func(string, *placement.Worker) placement.Rates {
		return placement.Rates{PrefillNS: 2, DecodeNS: 10, OverheadNS: 5, LoadNSPerMiB: 7}
	})
	v.SetScorers(map[string]placement.Scorer{"tax": func(placement.Request, *placement.Worker) int64 { return 40 }})
	r := placement.Request{Model: "a", Prompt: 100, Expected: 30}
	v.Assign(task(1), 1, w.Key, r)
	p := placement.Policy{Scorers: []placement.Scored{{Name: "tax", Weight: 500_000}}}
	want := placement.Score{
		Worker: "n-x/p/x", SlotsFree: 2, Total: 400 + 205 + 300 + 21 + 20,
		Terms: placement.Terms{ // ours 130 tokens, others' one task 30, on 4 slots
			Queue: 160 * 10 / 4, Prefill: 205, Decode: 300, Load: 21, Custom: []placement.Term{{Name: "tax", Value: 40}},
		},
	}
	for _, s := range []string{"", "most-vram-free", "round-robin", "predicted"} {
		p.Strategy = s
		if diff := cmp.Diff([]placement.Score{want}, placement.Explain(v, r, p).Scores); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
	}
	huge := placement.Request{Model: "a", Prompt: 1 << 62, Expected: 1 << 62}
	p.Weights = placement.Weights{Queue: 1e9, Prefill: 1e9, Decode: 1e9, Load: 1e9}
	if e := placement.Explain(v, huge, p); e.Scores[0].Total != 1<<63-1 {
		t.Errorf("a sum that is too large = %d, want the largest number", e.Scores[0].Total)
	}
}

// TestMissingSignalVisible: what a worker does not say is assumed, said so, and never
// decided by chance (aibrix#1185; ORC-252, ORC-309).
func TestMissingSignalVisible(t *testing.T) {
	v := viewOf(plain("y", 1), plain("x", 1))
	p := placement.Policy{Strategy: "predicted", Scorers: []placement.Scored{{Name: "nobody"}}}
	for range 10 {
		if got := chosen(v, placement.Request{Model: "a", Expected: 5}, p); got != "x by name 0" {
			t.Fatalf("with nothing known: %q, want the first by key", got)
		}
	}
	e := placement.Explain(v, placement.Request{Model: "a", Expected: 5}, p)
	if want := strings.Split("first_token,scorer nobody,tokens_per_s,vram_free", ","); !slices.Equal(e.Missing, want) || len(e.Scores[0].Missing) != 4 {
		t.Errorf("signals_missing = %q, of the first %q, want %q", e.Missing, e.Scores[0].Missing, want)
	}
	w := able("n", "chat")
	if e := placement.Explain(viewOf(w), wanted(), placement.Policy{}); len(e.Missing) != 0 {
		t.Errorf("a worker that says all: signals_missing = %q", e.Missing)
	}
}

// TestScorerPanics: a custom scorer decides by its weight; one that panics is removed,
// not the decision, and that is said (ORC-311).
func TestScorerPanics(t *testing.T) {
	v := viewOf(plain("x", 1), plain("y", 1))
	calls := 0
	v.SetScorers(map[string]placement.Scorer{
		"far": func(_ placement.Request, w *placement.Worker) int64 {
			if w.Key.Worker == "x" {
				return 1000
			}
			return -5
		},
		"bad": func(_ placement.Request, w *placement.Worker) int64 {
			if calls++; w.Key.Worker == "y" {
				panic("bug")
			}
			return 1_000_000 // of x, which would make y the winner of a half-scored round
		},
	})
	r := placement.Request{Model: "a"}
	alone := placement.Policy{Strategy: "predicted", Scorers: []placement.Scored{{Name: "bad", Weight: 1e6}}}
	if e := placement.Explain(v, r, alone); !slices.Equal(e.Removed, []string{"bad"}) || e.Winner != "n-x/p/x" || v.Broken() != nil {
		t.Errorf("Explain: winner %s, removed %q, of the view %q; want x by name, and the view as it was", e.Winner, e.Removed, v.Broken())
	}
	calls = 0
	p := placement.Policy{Strategy: "predicted", Scorers: []placement.Scored{{Name: "bad", Weight: 1e6}, {Name: "far", Weight: 1e6}}}
	if got := chosen(v, r, p); got != "y by predicted_ns 1000" {
		t.Errorf("by a scorer: %q", got)
	}
	if e := placement.Explain(v, r, p); calls != 2 || !slices.Equal(e.Removed, []string{"bad"}) || !slices.Contains(e.Missing, "scorer bad") {
		t.Errorf("%d calls of a panicking scorer; removed %q, missing %q", calls, e.Removed, e.Missing)
	}
	if !slices.Equal(v.Broken(), []string{"bad"}) {
		t.Errorf("Broken = %q", v.Broken())
	}
}
