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
