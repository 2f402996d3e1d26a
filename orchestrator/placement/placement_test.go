package placement_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/placement"
)

func task(n int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func drawWorker(t *rapid.T, i int) *placement.Worker {
	return &placement.Worker{
		Key:    placement.Key{Node: fmt.Sprintf("n%d", i/4), Pool: fmt.Sprintf("p%d", i/2%2), Worker: fmt.Sprintf("w%d", i)},
		Engine: rapid.SampledFrom([]string{"llamacpp", "vllm"}).Draw(t, "engine"),
		Models: rapid.SampledFrom([][]string{{"a"}, {"b"}, {"a", "b"}}).Draw(t, "models"),
		CtxMax: rapid.SampledFrom([]int{0, 1024, 8192}).Draw(t, "ctx"), SlotsTotal: rapid.IntRange(0, 3).Draw(t, "slots"),
		SlotsBusy: rapid.IntRange(0, 3).Draw(t, "busy"), VRAMFree: uint64(rapid.IntRange(0, 2).Draw(t, "vram")),
		Online: rapid.IntRange(0, 3).Draw(t, "on") > 0, Ready: rapid.IntRange(0, 3).Draw(t, "ready") > 0, Draining: rapid.IntRange(0, 3).Draw(t, "dr") == 0,
	}
}

func drawRequest(t *rapid.T) placement.Request {
	r := placement.Request{
		Model:  rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "model"),
		Engine: rapid.SampledFrom([]string{"", "vllm"}).Draw(t, "want engine"),
		Ctx:    rapid.SampledFrom([]int{1, 1024, 1025, 9000}).Draw(t, "want ctx"),
	}
	if rapid.Bool().Draw(t, "pinned") {
		r.Place.Pool = rapid.SampledFrom([]string{"p0", "p1", "p9"}).Draw(t, "pin")
	}
	if rapid.Bool().Draw(t, "avoiding") {
		r.Place.Avoid = []string{"p1"}
	}
	return r
}

// TestDecideModel: the choice does not depend on the order of the input, is
// feasible, is what Explain says, and nothing feasible is overlooked (ORC-300, 301, 303, 309).
func TestDecideModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "workers")
		workers := make([]*placement.Worker, n)
		for i := range workers {
			workers[i] = drawWorker(t, i)
		}
		r := drawRequest(t)
		if n > 0 && rapid.Bool().Draw(t, "retry") {
			r.Tried = []placement.Key{workers[rapid.IntRange(0, n-1).Draw(t, "tried")].Key}
		}
		v := placement.NewView()
		v.Apply(workers)
		got := placement.Decide(v, r, placement.Policy{})

		shuffled := slices.Clone(workers)
		rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed"))).Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		v2 := placement.NewView()
		v2.Apply(shuffled)
		if again := placement.Decide(v2, r, placement.Policy{}); !reflect.DeepEqual(again, got) {
			t.Fatalf("Decide depends on input order: %v, then %v", got, again)
		}
		e := placement.Explain(v, r, placement.Policy{})
		removed := 0
		for _, f := range e.Filters {
			removed += f.Removed
		}
		if removed+e.Feasible != n {
			t.Fatalf("explanation accounts for %d of %d workers", removed+e.Feasible, n)
		}
		if got.Worker == nil {
			if e.Winner != "" || e.Feasible != 0 || e.Reason != got.Reason || e.Words == "" {
				t.Fatalf("Explain = %+v, decision %v", e, got)
			}
			return
		}
		w := got.Worker
		if e.Winner != w.Key.String() {
			t.Fatalf("Explain winner %s, Decide %s", e.Winner, w.Key)
		}
		ok := w.Online && w.Ready && !w.Draining && slices.Contains(w.Models, r.Model) && (w.CtxMax == 0 || w.CtxMax >= r.Ctx) &&
			(r.Engine == "" || r.Engine == w.Engine) && (r.Place.Pool == "" || r.Place.Pool == w.Pool) && !slices.Contains(r.Place.Avoid, w.Pool) &&
			w.SlotsTotal > w.SlotsBusy
		if !ok {
			t.Fatalf("chose an infeasible worker: %+v for %+v", w, r)
		}
	})
}

// TestSlotModel: reservations are counted exactly, released once, and never
// exceed what a worker has (ORC-400, TestPermitReleasedOnce in small).
func TestSlotModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &placement.Worker{Key: placement.Key{Node: "n", Pool: "p", Worker: "w"}, Models: []string{"a"}, SlotsTotal: 4, Online: true, Ready: true}
		v := placement.NewView()
		v.Apply([]*placement.Worker{w})
		held := map[int]bool{}
		any := rapid.IntRange(0, 9)
		t.Repeat(map[string]func(*rapid.T){
			"place": func(t *rapid.T) {
				n := any.Draw(t, "task")
				d := placement.Decide(v, placement.Request{Model: "a"}, placement.Policy{})
				if (d.Worker != nil) != (len(held) < w.SlotsTotal) {
					t.Fatalf("Decide = %v with %d of %d held", d, len(held), w.SlotsTotal)
				}
				if d.Worker != nil && v.Reserve(task(n), 1, d.Worker.Key) == held[n] {
					t.Fatalf("Reserve of %d disagrees with the model", n)
				}
				if d.Worker != nil {
					held[n] = true
				}
			},
			"release": func(t *rapid.T) {
				n := any.Draw(t, "task")
				if v.Release(task(n), 1) != held[n] {
					t.Fatalf("Release of %d disagrees with the model", n)
				}
				delete(held, n)
			},
			"report": func(t *rapid.T) { // the engine reports what it saw at any time since the last report
				seen := *w
				seen.SlotsBusy = rapid.IntRange(0, len(held)).Draw(t, "busy")
				v.Apply([]*placement.Worker{&seen})
			},
			"": func(t *rapid.T) {
				if got := v.Reserved(w.Key); got != len(held) || got < 0 {
					t.Fatalf("reserved %d, want %d", got, len(held))
				}
				if total, free := v.Slots(); total != w.SlotsTotal || free != w.SlotsTotal-len(held) {
					t.Fatalf("Slots = %d, %d with %d of %d held", total, free, len(held), w.SlotsTotal)
				}
			},
		})
	})
}

// TestForeignLoadCounts: slots that others took are not ours to give.
func TestForeignLoadCounts(t *testing.T) {
	w := &placement.Worker{Key: placement.Key{Worker: "w"}, Models: []string{"a"}, SlotsTotal: 4, SlotsBusy: 3, Online: true, Ready: true}
	v := placement.NewView()
	v.Apply([]*placement.Worker{w})
	if got := v.Free(w.Key); got != 1 {
		t.Errorf("Free = %d, want 1: three slots are somebody else's", got)
	}
	v.Reserve(task(1), 1, w.Key)
	v.Release(task(1), 1)
	if got := v.Free(w.Key); got != 1 {
		t.Errorf("Free = %d, want 1: giving our own slot back says nothing of others", got)
	}
	v.Apply([]*placement.Worker{w})
	if got := v.Free(w.Key); got != 2 {
		t.Errorf("Free = %d, want 2: one of the three may have been ours", got)
	}
}

// TestColdBurstSpreads: simultaneous arrivals spread over equal workers (ORC-400).
func TestColdBurstSpreads(t *testing.T) {
	v := placement.NewView()
	var workers []*placement.Worker
	for i := range 4 {
		workers = append(workers, &placement.Worker{Key: placement.Key{Worker: fmt.Sprint(i)}, Models: []string{"a"}, SlotsTotal: 10, Online: true, Ready: true})
	}
	v.Apply(workers)
	for i := range 20 {
		d := placement.Decide(v, placement.Request{Model: "a"}, placement.Policy{})
		v.Reserve(task(i), 1, d.Worker.Key)
	}
	for _, w := range workers {
		if got := v.Reserved(w.Key); got != 5 {
			t.Errorf("worker %s holds %d of 20, want 5", w.Worker, got)
		}
	}
}

func TestBinding(t *testing.T) {
	w := &placement.Worker{Key: placement.Key{Node: "n", Pool: "p", Worker: "w"}, Models: []string{"a"}, CtxMax: 100, SlotsTotal: 0}
	v := placement.NewView()
	v.Apply([]*placement.Worker{w})
	for _, c := range []struct {
		r    placement.Request
		want string
	}{
		{placement.Request{Model: "a"}, ""}, // load and readiness do not count
		{placement.Request{Model: "b"}, "model"},
		{placement.Request{Model: "a", Ctx: 101}, "ctx"},
		{placement.Request{Model: "a", Place: placement.Constraints{Node: "m"}}, "node"},
	} {
		if got := placement.Binding(v, c.r); got != c.want {
			t.Errorf("Binding(%+v) = %q, want %q", c.r, got, c.want)
		}
	}
	if got := placement.Binding(placement.NewView(), placement.Request{Model: "a"}); got != "empty" {
		t.Errorf("Binding without workers = %q, want empty", got)
	}
}

func ExampleDecide() {
	v := placement.NewView()
	v.Apply([]*placement.Worker{
		{Key: placement.Key{Node: "a", Pool: "p", Worker: "r0"}, Models: []string{"llama"}, SlotsTotal: 2, Online: true, Ready: true},
		{Key: placement.Key{Node: "b", Pool: "p", Worker: "r0"}, Models: []string{"llama"}, SlotsTotal: 4, Online: true, Ready: true},
	})
	fmt.Println(placement.Decide(v, placement.Request{Model: "llama"}, placement.Policy{}).Worker.Key)
	why, _ := json.Marshal(placement.Explain(v, placement.Request{Model: "qwen"}, placement.Policy{}).Filters)
	fmt.Println(string(why))
	// Output:
	// b/p/r0
	// [{"name":"model","removed":2,"example":"a/p/r0"}]
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		v := placement.NewView()
		workers := make([]*placement.Worker, n)
		for i := range workers {
			workers[i] = &placement.Worker{
				Key: placement.Key{Node: fmt.Sprintf("node-%05d", i), Pool: "p", Worker: "r0"}, Engine: "vllm",
				Models: []string{"llama", "qwen"}, SlotsTotal: 8, SlotsBusy: i % 8, CtxMax: 8192, Online: i%10 > 0, Ready: true,
			}
		}
		v.Apply(workers)
		r := placement.Request{Model: "qwen", Ctx: 4096}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if placement.Decide(v, r, placement.Policy{}).Worker == nil {
					b.Fatal("no worker")
				}
			}
		})
		b.Run(fmt.Sprint(n, "/explained"), func(b *testing.B) {
			for b.Loop() {
				placement.Explain(v, r, placement.Policy{})
			}
		})
	}
}
