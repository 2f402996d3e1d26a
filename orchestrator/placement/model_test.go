package placement_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/placement"
)

func one[T any](t *rapid.T, name string, of ...T) T { return rapid.SampledFrom(of).Draw(t, name) }

// rarely is true once in so many cases.
func rarely(t *rapid.T, name string, in int) bool { return rapid.IntRange(1, in).Draw(t, name) == in }

func drawWorker(t *rapid.T, i int) *placement.Worker {
	w := &placement.Worker{
		Key:    placement.Key{Node: fmt.Sprintf("n%d", i/4), Pool: fmt.Sprintf("p%d", i/2%2), Worker: fmt.Sprintf("w%d", i)},
		Engine: one(t, "engine", "llamacpp", "vllm"), Version: one(t, "version", "1", "2"), Models: one(t, "models", []string{"a"}, []string{"b"}, []string{"a", "b"}, nil),
		OnDisk: one(t, "disk", nil, []placement.OnDisk{{Model: "a", Need: 5}, {Model: "c", Need: 50}}, []placement.OnDisk{{Model: "a", Fits: 1}, {Model: "b", Fits: -1}}),
		Digest: one(t, "digest", "", "d"), Quant: one(t, "quant", "", "q"), Workloads: one(t, "loads", nil, []string{"chat"}, []string{"embedding"}),
		Features: one(t, "features", nil, []string{"json"}, []string{"json", "tools"}), Compute: one(t, "compute", 0, 75, 89), Mask: one(t, "mask", nil, []string{"0"}, []string{"0", "1"}),
		OnDemand: rarely(t, "demand", 6), Many: rapid.Bool().Draw(t, "many"),
		CtxMax: one(t, "ctx", 0, 1024, 8192), SlotsTotal: rapid.IntRange(0, 3).Draw(t, "slots"), SlotsBusy: rapid.IntRange(0, 3).Draw(t, "busy"),
		VRAMFree: uint64(rapid.IntRange(0, 6).Draw(t, "free")), VRAMTotal: one(t, "total", uint64(0), 6, 60), VRAMUsed: one(t, "used", uint64(0), 4),
		TokensPerS: one(t, "speed", int64(0), 5000), Online: !rarely(t, "off", 4), Ready: !rarely(t, "unready", 4), Draining: rarely(t, "drains", 4),
	}
	r := one(t, "region", [2]string{"", "UNKNOWN"}, [2]string{"", ""}, [2]string{"DE", "EU"}, [2]string{"", "EU"}, [2]string{"US", "US"})
	w.Country, w.Group = r[0], r[1]
	return w
}

func drawRequest(t *rapid.T) placement.Request {
	r := placement.Request{
		Model: one(t, "model", "a", "b", "c"), Ctx: one(t, "want ctx", 1, 1024, 1025, 9000), Prompt: rapid.IntRange(0, 99).Draw(t, "prompt"), Expected: rapid.IntRange(0, 99).Draw(t, "expected"),
		Regions: one(t, "regions", nil, nil, []string{"EU"}, []string{"DE", "UNKNOWN"}, []string{"US", ""}, []string{}),
	}
	sometimes := func(name string, f func(*placement.Request)) {
		if rarely(t, name, 5) {
			f(&r)
		}
	}
	sometimes("engine", func(r *placement.Request) { r.Engine = "vllm" })
	sometimes("version", func(r *placement.Request) { r.Place.Version = "2" })
	sometimes("workload", func(r *placement.Request) { r.Workload = "chat" })
	sometimes("digest", func(r *placement.Request) { r.Digest = "d" })
	sometimes("features", func(r *placement.Request) { r.Place.Features = []string{"tools"} })
	sometimes("quant", func(r *placement.Request) { r.Place.Quant = "q" })
	sometimes("compute", func(r *placement.Request) { r.Place.MinCompute = 80 })
	sometimes("mask", func(r *placement.Request) { r.Place.Mask = []string{"1", "0"} })
	sometimes("vram", func(r *placement.Request) { r.Place.MinVRAM = 20 })
	sometimes("pin", func(r *placement.Request) { r.Place.Pool = one(t, "pool", "p0", "p1", "p9") })
	sometimes("prefer", func(r *placement.Request) {
		r.Place.Mode, r.Place.Prefer, r.Place.NoFallback = "prefer", []string{"p1"}, rapid.Bool().Draw(t, "only")
	})
	sometimes("avoid", func(r *placement.Request) { r.Place.Avoid = []string{"p1"} })
	sometimes("spread", func(r *placement.Request) { r.Session, r.Place.Spread = session, 1 })
	sometimes("affinity", func(r *placement.Request) { r.Affinity = placement.Key{Node: "n0", Pool: "p0", Worker: "w1"} })
	sometimes("tried", func(r *placement.Request) {
		r.Tried = []placement.Key{{Node: "n0", Pool: "p0", Worker: "w0"}, {Node: "n0", Pool: "p1", Worker: "w2"}}
	})
	return r
}

func drawPolicy(t *rapid.T) placement.Policy {
	return placement.Policy{
		Strategy: one(t, "strategy", "", "least-loaded", "most-vram-free", "round-robin", "predicted"), TieRule: one(t, "tie", "", "rotate"),
		Weights: one(t, "weights", placement.Weights{}, placement.Weights{Queue: 5, Decode: 2_000_000}),
	}
}

// drawView returns a view with some tasks running and some workers quarantined.
func drawView(t *rapid.T, most int) (*placement.View, []*placement.Worker) {
	list := make([]*placement.Worker, rapid.IntRange(0, most).Draw(t, "workers"))
	for i := range list {
		list[i] = drawWorker(t, i)
	}
	v := placement.NewView()
	v.Apply(list)
	for i, w := range list {
		if rarely(t, "runs", 3) {
			v.Assign(task(i), 1, w.Key, placement.Request{Model: "a", Session: session, Prompt: i, Regions: []string{"EU"}})
			if rarely(t, "ended", 2) {
				v.Release(task(i), 1)
			}
		}
		if rarely(t, "sick", 6) {
			v.Quarantine(w.Key, true)
		}
		if rarely(t, "stays", 6) {
			v.Pin(w.Key, true)
		}
	}
	return v, list
}

// judge is the contract in the dull form: whether w may take r now, and its tier.
func judge(v *placement.View, w *placement.Worker, r placement.Request) (tier int, ok bool) {
	s := v.State()
	st := s.Workers[slices.IndexFunc(s.Workers, func(x placement.WorkerState) bool { return x.Worker.Key == w.Key })]
	p := r.Place
	if r.Regions != nil {
		in := false
		for _, x := range r.Regions {
			in = in || x != "" && x != "UNKNOWN" && (x == w.Country || x == w.Group)
		}
		if !in {
			return 0, false
		}
	}
	if slices.Contains(p.Avoid, w.Pool) || p.Mode == "" && p.Pool != "" && p.Pool != w.Pool || r.Engine != "" && r.Engine != w.Engine || p.Version != "" && p.Version != w.Version ||
		r.Workload != "" && len(w.Workloads) > 0 && !slices.Contains(w.Workloads, r.Workload) || p.MinCompute > w.Compute || p.MinVRAM > w.VRAMTotal ||
		p.Mask != nil && len(w.Mask) != 2 || !w.Online || !w.Ready || w.Draining || st.Quarantined {
		return 0, false
	}
	for _, f := range p.Features {
		if !slices.Contains(w.Features, f) {
			return 0, false
		}
	}
	sessions := 0
	for _, h := range s.Held {
		if h.Session == placement.ID(r.Session) && h.Worker.Node == w.Node {
			sessions++
		}
	}
	if p.Spread > 0 && sessions >= p.Spread {
		return 0, false
	}
	onDisk := slices.IndexFunc(w.OnDisk, func(d placement.OnDisk) bool { return d.Model == r.Model })
	if slices.Contains(w.Models, r.Model) || w.OnDemand && onDisk >= 0 {
		return 0, (r.Digest == "" || r.Digest == w.Digest) && (w.CtxMax == 0 || r.Ctx <= w.CtxMax) && (p.Quant == "" || p.Quant == w.Quant) && v.Free(w.Key) > 0
	}
	if onDisk < 0 || st.Pinned {
		return 0, false
	}
	d, idle := w.OnDisk[onDisk], v.Reserved(w.Key)+st.Foreign == 0
	enough := func(free uint64) bool {
		if d.Fits > 0 {
			return true
		}
		if d.Need == 0 || w.VRAMTotal == 0 {
			return d.Fits == 0
		}
		return d.Need <= free
	}
	if w.VRAMTotal > 0 && d.Need > w.VRAMTotal {
		return 0, false
	}
	switch {
	case len(w.Models) == 0, w.Many && enough(w.VRAMFree):
		return 1, enough(w.VRAMFree)
	default:
		return 2, idle && enough(w.VRAMFree+w.VRAMUsed)
	}
}

// TestDecideModel: the choice does not depend on the order of the input; the winner
// passes every filter and is the best of all that do, by brute force; Explain says
// the same and accounts for every worker (ORC-300 to ORC-305, ORC-309).
func TestDecideModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, list := drawView(t, 8)
		r, p := drawRequest(t), drawPolicy(t)
		got, e := placement.Decide(v, r, p), placement.Explain(v, r, p)
		if again := placement.Decide(shuffledAs(t, v, list), r, p); !same(again, got) {
			t.Fatalf("Decide depends on input order: %+v, then %+v", got, again)
		}
		if removed := sum(e.Filters); removed+e.Feasible+e.Loadable != len(list) {
			t.Fatalf("the explanation accounts for %d + %d + %d of %d workers", removed, e.Feasible, e.Loadable, len(list))
		}
		for _, region := range e.RegionsConsidered {
			if r.Regions != nil && !slices.Contains(r.Regions, region) {
				t.Fatalf("considered %q, allowed %q", e.RegionsConsidered, r.Regions)
			}
		}
		if e.Fallback != got.Fallback || e.Reason != got.Reason || e.Filter != got.Filter || (got.Worker == nil) != (e.Winner == "") || e.Words == "" {
			t.Fatalf("Explain = %+v, decision %+v", e, got)
		}
		feasible := feasible(v, list, r, got.Fallback)
		if got.Worker == nil {
			if slices.ContainsFunc(feasible, func(c choice) bool { return c.tier == 0 }) {
				t.Fatalf("nothing chosen, although %+v may take it", feasible)
			}
			if got.Load == nil && len(feasible) > 0 && got.Filter != "slots" && got.Filter != "quarantine" && got.Filter != "spread" {
				t.Fatalf("no load, although %+v is possible and nobody busy has the model: %+v", feasible, got)
			}
			if got.Load != nil && !slices.ContainsFunc(feasible, func(c choice) bool { return c.w == got.Load && c.tier == got.Tier }) {
				t.Fatalf("a load on %+v is not possible", got.Load)
			}
			return
		}
		if e.Winner != got.Worker.Key.String() {
			t.Fatalf("Explain winner %s, Decide %s", e.Winner, got.Worker.Key)
		}
		if best := optimum(v, feasible, r, p, e.Scores); best != got.Worker {
			t.Fatalf("chose %s, the best is %s; scores %+v", got.Worker.Key, best.Key, e.Scores)
		}
	})
}

func sum(list []placement.Removed) (n int) {
	for _, f := range list {
		n += f.Removed
	}
	return n
}

func same(a, b placement.Decision) bool {
	key := func(w *placement.Worker) placement.Key {
		if w == nil {
			return placement.Key{}
		}
		return w.Key
	}
	return key(a.Worker) == key(b.Worker) && key(a.Load) == key(b.Load) && a.Tier == b.Tier && slices.Equal(a.Evict, b.Evict) && a.Reason == b.Reason && a.Filter == b.Filter && a.Fallback == b.Fallback
}

// shuffledAs is a view like v whose report came in another order.
func shuffledAs(t *rapid.T, v *placement.View, list []*placement.Worker) *placement.View {
	other := slices.Clone(list)
	rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed"))).Shuffle(len(other), reflect.Swapper(other))
	out, s := placement.NewView(), v.State()
	out.Apply(other)
	again := out.State()
	s.Gen = again.Gen
	for i := range s.Workers { // the workers of the shuffled report, in its order
		s.Workers[i].Worker = again.Workers[i].Worker
	}
	if err := out.LoadState(s); err != nil {
		t.Fatal(err)
	}
	return out
}

type choice struct {
	w    *placement.Worker
	tier int
}

// feasible lists who may take r, by the contract.
func feasible(v *placement.View, list []*placement.Worker, r placement.Request, fallback bool) (out []choice) {
	for _, w := range list {
		tier, ok := judge(v, w, r)
		if ok && (r.Place.Mode != "prefer" || fallback || w.Pool == r.Place.Pool || slices.Contains(r.Place.Prefer, w.Pool)) {
			out = append(out, choice{w, tier})
		}
	}
	return out
}

// optimum is the best of tier 0, by looking at each pair.
func optimum(v *placement.View, all []choice, r placement.Request, p placement.Policy, scores []placement.Score) *placement.Worker {
	s := v.State()
	state := func(w *placement.Worker) placement.WorkerState {
		return s.Workers[slices.IndexFunc(s.Workers, func(x placement.WorkerState) bool { return x.Worker.Key == w.Key })]
	}
	total := func(w *placement.Worker) int64 {
		return scores[slices.IndexFunc(scores, func(x placement.Score) bool { return x.Worker == w.Key.String() })].Total
	}
	better := func(a, b *placement.Worker) bool {
		if x, y := slices.Contains(r.Tried, a.Key), slices.Contains(r.Tried, b.Key); x != y {
			return y
		}
		if (a.Key == r.Affinity) != (b.Key == r.Affinity) {
			return a.Key == r.Affinity
		}
		switch p.Strategy {
		case "", "least-loaded":
			if v.Free(a.Key) != v.Free(b.Key) {
				return v.Free(a.Key) > v.Free(b.Key)
			}
			if a.VRAMFree != b.VRAMFree {
				return a.VRAMFree > b.VRAMFree
			}
		case "most-vram-free":
			if a.VRAMFree != b.VRAMFree {
				return a.VRAMFree > b.VRAMFree
			}
			if x, y := v.Reserved(a.Key)+state(a).Foreign, v.Reserved(b.Key)+state(b).Foreign; x != y {
				return x < y
			}
		case "predicted":
			if total(a) != total(b) {
				return total(a) < total(b)
			}
		}
		if x, y := state(a).Last, state(b).Last; p.TieRule == "rotate" && p.Strategy != "round-robin" && x != y {
			return x < y
		}
		return a.Key.Compare(b.Key) < 0 // no turn was taken yet for these requirements
	}
	var best *placement.Worker
	for _, c := range all {
		if c.tier == 0 && (best == nil || better(c.w, best)) {
			best = c.w
		}
	}
	return best
}

// TestResidencyHolds: in 100,000 random cases, with attempts that failed before,
// fallbacks, sick workers, loads and changes of the rule, nobody outside the allowed
// regions is chosen, loaded, shown or considered (G5, ORC-301, ORC-844).
func TestResidencyHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	regions := [][2]string{{"DE", "EU"}, {"FR", "EU"}, {"", "EU"}, {"US", "US"}, {"JP", "ASIA"}, {"", "UNKNOWN"}, {"", ""}}
	rules := [][]string{{"EU"}, {"DE"}, {"DE", "US"}, {"ASIA", "UNKNOWN"}, {""}, {}}
	p, chosen := placement.Policy{Strategy: "round-robin"}, 0
	for range 1000 {
		v := placement.NewView()
		var list []*placement.Worker
		for i := range 6 {
			w := plain(fmt.Sprint(i), 2)
			at := regions[rng.IntN(len(regions))]
			if w.Country, w.Group, w.Pool = at[0], at[1], fmt.Sprint("p", i%2); i == 5 {
				w.Models, w.OnDisk = nil, []placement.OnDisk{{Model: "a"}}
			}
			list = append(list, w)
		}
		v.Apply(list)
		for n := range 100 {
			r := placement.Request{Model: "a", Regions: rules[rng.IntN(len(rules))]}
			if w := list[rng.IntN(len(list))]; rng.IntN(2) == 0 {
				r.Tried, r.Affinity = []placement.Key{w.Key}, list[rng.IntN(len(list))].Key
				v.Quarantine(w.Key, rng.IntN(2) == 0)
			}
			if rng.IntN(3) == 0 {
				r.Place.Prefer = []string{"p1"}
			}
			d := placement.Decide(v, r, p)
			for _, w := range []*placement.Worker{d.Worker, d.Load} {
				if w == nil {
					continue
				}
				chosen++
				if !slices.Contains(r.Regions, w.Country) && !slices.Contains(r.Regions, w.Group) || w.Group == "UNKNOWN" || w.Group == "" {
					t.Fatalf("%s in %q %q was chosen for %q", w.Key, w.Country, w.Group, r.Regions)
				}
			}
			if d.Worker != nil && !v.Assign(task(n), 1, d.Worker.Key, r) {
				t.Fatal("no slot")
			}
			if n%10 == 0 {
				e := placement.Explain(v, r, p)
				for _, s := range e.Scores {
					if i := slices.IndexFunc(list, func(w *placement.Worker) bool { return w.Key.String() == s.Worker }); !list[i].In(r.Regions) {
						t.Fatalf("%s is shown for %q", s.Worker, r.Regions)
					}
				}
				for _, x := range e.RegionsConsidered {
					if !slices.Contains(r.Regions, x) {
						t.Fatalf("considered %q, allowed %q", e.RegionsConsidered, r.Regions)
					}
				}
			}
			if n%3 == 0 {
				v.Release(task(rng.IntN(n+1)), 1)
			}
		}
	}
	if chosen < 10_000 {
		t.Errorf("only %d of 100,000 cases chose anybody", chosen)
	}
}

// TestStateModel: a view that is loaded from its JSON state decides, reserves and
// releases like the first one from then on (ORC-124).
func TestStateModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, list := drawView(t, 6)
		v.SetScorers(map[string]placement.Scorer{"bad": func(placement.Request, *placement.Worker) int64 { panic("bug") }})
		p := drawPolicy(t)
		p.Scorers = []placement.Scored{{Name: "bad", Weight: 1}}
		placement.Decide(v, drawRequest(t), p)
		if rarely(t, "a worker goes", 2) && len(list) > 0 {
			list = list[1:]
			v.Apply(list)
		}
		b, err := json.Marshal(v.State())
		if err != nil {
			t.Fatal(err)
		}
		var s placement.State
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		o := placement.NewView()
		if err := o.LoadState(s); err != nil {
			t.Fatal(err)
		}
		o.SetScorers(map[string]placement.Scorer{"bad": func(placement.Request, *placement.Worker) int64 { panic("bug") }})
		for n := range 12 {
			r := drawRequest(t)
			a, b := placement.Decide(v, r, p), placement.Decide(o, r, p)
			if !same(a, b) {
				t.Fatalf("step %d: %+v, after loading %+v", n, a, b)
			}
			if diff := cmp.Diff(placement.Explain(v, r, p), placement.Explain(o, r, p)); diff != "" {
				t.Fatalf("step %d: %s", n, diff)
			}
			done := task(rapid.IntRange(0, n+8).Draw(t, "done"))
			if v.Release(done, 1) != o.Release(done, 1) {
				t.Fatalf("step %d: a release differs", n)
			}
			if a.Worker != nil && v.Assign(task(n), 1, a.Worker.Key, r) != o.Assign(task(n), 1, b.Worker.Key, r) {
				t.Fatalf("step %d: a reservation differs", n)
			}
			if n == 6 {
				v.Apply(list)
				o.Apply(list)
			}
			if diff := cmp.Diff(v.State(), o.State()); diff != "" {
				t.Fatalf("step %d: %s", n, diff)
			}
		}
	})
}

// TestLoadStateRefuses: a state that no view could have is refused, and the view
// stays as it was.
func TestLoadStateRefuses(t *testing.T) {
	good := func() placement.State {
		v := viewOf(plain("x", 2), plain("y", 2))
		v.Assign(task(1), 1, plain("x", 2).Key, placement.Request{Model: "a"})
		v.Assign(task(2), 1, placement.Key{Node: "gone"}, placement.Request{Model: "b"})
		return v.State()
	}
	for name, spoil := range map[string]func(s *placement.State){
		"workers": func(s *placement.State) { slices.Reverse(s.Workers) },
		"gone":    func(s *placement.State) { s.Gone = append(s.Gone, s.Gone[0]) },
		"gone[0]": func(s *placement.State) { s.Held = s.Held[:1] },
		"held":    func(s *placement.State) { s.Held = append(s.Held, s.Held[1]) },
		"held[1]": func(s *placement.State) { s.Held[1].Worker.Node = "nobody" },
		"turns":   func(s *placement.State) { slices.Reverse(s.Turns) },
	} {
		s := good()
		spoil(&s)
		v := viewOf(plain("z", 1))
		if err := v.LoadState(s); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("LoadState with wrong %s = %v", name, err)
		}
		if v.Len() != 1 {
			t.Errorf("%s: a refused state changed the view", name)
		}
	}
	if err := placement.NewView().LoadState(good()); err != nil {
		t.Errorf("LoadState of a good state: %v", err)
	}
}
