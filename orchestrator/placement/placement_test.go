package placement_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/placement"
)

func task(n int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
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

// TestBinding: what load does not change tells apart what can never be served, and
// of a pin also what it waits for (ORC-247).
func TestBinding(t *testing.T) {
	at := func(node, pool string, edit func(*placement.Worker)) *placement.Worker {
		w := &placement.Worker{Key: placement.Key{Node: node, Pool: pool, Worker: "w"}, Models: []string{"a"}, CtxMax: 100, Country: "DE", Group: "EU", Online: true, Ready: true}
		edit(w)
		return w
	}
	off := func(w *placement.Worker) { w.Online, w.Ready = false, false }
	v := viewOf(
		at("n", "p", off), at("n", "starting", func(w *placement.Worker) { w.Ready = false }), at("n", "draining", func(w *placement.Worker) { w.Draining = true }),
		at("us", "far", func(w *placement.Worker) { w.Country, w.Group, w.Models = "US", "US", []string{"far"} }),
		at("off", "q", off),
		at("n", "small", func(w *placement.Worker) { w.VRAMTotal, w.OnDisk = 10, []placement.OnDisk{{Model: "big", Need: 11}} }),
	)
	eu := []string{"EU"}
	for _, c := range []struct {
		r    placement.Request
		want string
	}{
		{placement.Request{Model: "a"}, ""}, // load and readiness do not count
		{placement.Request{Model: "b"}, "model"},
		{placement.Request{Model: "a", Ctx: 101}, "ctx"},
		{placement.Request{Model: "big"}, "vram"},
		{placement.Request{Model: "far", Regions: eu}, "region"}, // the model is only elsewhere
		{placement.Request{Model: "nowhere", Regions: eu}, "model"},
		{placement.Request{Model: "a", Regions: []string{"FR"}}, "region"},
		{placement.Request{Model: "a", Place: placement.Constraints{Node: "m"}}, "node"},
		{placement.Request{Model: "a", Place: placement.Constraints{Pool: "unknown"}}, "pin"},
		{placement.Request{Model: "a", Place: placement.Constraints{Node: "off", Pool: "p"}}, "pin"},
		{placement.Request{Model: "far", Regions: eu, Place: placement.Constraints{Pool: "far"}}, "region"},
		{placement.Request{Model: "b", Place: placement.Constraints{Pool: "p"}}, "model"},
		{placement.Request{Model: "a", Place: placement.Constraints{Node: "off"}}, "online"},
		{placement.Request{Model: "a", Place: placement.Constraints{Pool: "starting"}}, "ready"},
		{placement.Request{Model: "a", Place: placement.Constraints{Pool: "draining"}}, "draining"},
		{placement.Request{Model: "a", Place: placement.Constraints{Pool: "small"}}, ""}, // busy is no reason
		{placement.Request{Model: "a", Place: placement.Constraints{Mode: "prefer", Prefer: []string{"unknown"}}}, ""},
		{placement.Request{Model: "a", Place: placement.Constraints{Mode: "prefer", Prefer: []string{"unknown"}, NoFallback: true}}, "pin"},
		{placement.Request{Model: "a", Place: placement.Constraints{Mode: "prefer", Prefer: []string{"p"}, NoFallback: true}}, ""},
	} {
		if got := placement.Binding(v, c.r); got != c.want {
			t.Errorf("Binding(%+v) = %q, want %q", c.r, got, c.want)
		}
	}
	if got := placement.Binding(placement.NewView(), placement.Request{Model: "a"}); got != "empty" {
		t.Errorf("Binding without workers = %q, want empty", got)
	}
}

// TestNotesNeverLie: requirements whose numbers are equal by chance are still told
// apart, and a new report ends every note (ORC-300, G5).
func TestNotesNeverLie(t *testing.T) {
	w := plain("x", 1)
	w.Country, w.Group = "US", "US"
	v := viewOf(w)
	free, eu := placement.Request{Model: "a"}, placement.Request{Model: "a", Regions: []string{"EU"}}
	v.Collide(eu, free)
	if d := placement.Decide(v, eu, placement.Policy{}); d.Worker != nil || d.Filter != "region" {
		t.Errorf("Decide = %+v by the note of another request", d)
	}
	moved := *w
	moved.Country, moved.Group = "DE", "EU"
	v.Apply([]*placement.Worker{&moved})
	if d := placement.Decide(v, eu, placement.Policy{}); d.Worker == nil {
		t.Errorf("Decide = %+v by a note of the report before", d)
	}
}

// TestApplyOdd: nothing in a list of workers breaks the view: no worker, two with one
// key, sizes below zero.
func TestApplyOdd(t *testing.T) {
	old, young, odd := plain("x", 1), plain("x", 7), plain("y", -3)
	old.Epoch, young.Epoch, odd.SlotsBusy = 1, 2, -9
	for _, list := range [][]*placement.Worker{{nil, old, young, odd}, {odd, young, nil, old}} {
		v := viewOf(list...)
		if total, free := v.Slots(); v.Len() != 2 || total != 7 || free != 7 {
			t.Errorf("%d workers with %d slots, %d free, want 2 with the 7 of the newer one", v.Len(), total, free)
		}
		if d := placement.Decide(v, placement.Request{Model: "a"}, placement.Policy{}); d.Worker != young {
			t.Errorf("Decide = %+v", d)
		}
	}
}

// TestGoneKeepsSlots: a reservation on a worker that is no longer reported stands
// until it is released, and counts again if the worker comes back (ORC-400).
func TestGoneKeepsSlots(t *testing.T) {
	x := plain("x", 2)
	v := viewOf(x)
	v.Reserve(task(1), 1, x.Key)
	v.Quarantine(x.Key, true)
	v.Apply(nil)
	if v.Reserved(x.Key) != 1 || v.Reserved(placement.Key{}) != 1 || v.Active("n-x")["p"] != 1 || v.Len() != 0 {
		t.Errorf("after it went: %d reserved, active %v", v.Reserved(x.Key), v.Active("n-x"))
	}
	v.Apply([]*placement.Worker{x})
	if v.Free(x.Key) != 1 {
		t.Errorf("back again: %d free, want 1", v.Free(x.Key))
	}
	if d := placement.Decide(v, placement.Request{Model: "a"}, placement.Policy{}); d.Worker == nil {
		t.Errorf("its quarantine outlived it: %+v", d)
	}
	v.Apply(nil)
	if !v.Release(task(1), 1) || v.Release(task(1), 1) || v.Reserved(x.Key) != 0 || len(v.State().Gone) != 0 {
		t.Errorf("release of a slot on a gone worker: %d left, %+v", v.Reserved(x.Key), v.State().Gone)
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

func ExampleExplain() {
	v := placement.NewView()
	v.Apply([]*placement.Worker{
		{Key: placement.Key{Node: "berlin", Pool: "p", Worker: "r0"}, Country: "DE", Group: "EU", Models: []string{"llama"}, SlotsTotal: 2, SlotsBusy: 2, Online: true, Ready: true},
		{Key: placement.Key{Node: "austin", Pool: "p", Worker: "r0"}, Country: "US", Group: "US", Models: []string{"llama"}, SlotsTotal: 2, Online: true, Ready: true},
	})
	why := placement.Explain(v, placement.Request{Model: "llama", Regions: []string{"EU"}}, placement.Policy{})
	fmt.Println(why.Words)
	for _, c := range why.Without {
		fmt.Println(c.Filter, "–", c.Words)
	}
	// Output:
	// Every slot of the workers that serve the model is taken; the task starts when one is free.
	// region – austin/p/r0 fits if its region is allowed
	// slots – 1 more free slot on berlin/p/r0 fits
}
