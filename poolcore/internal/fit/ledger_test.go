package fit_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/poolcore/internal/fit"
)

// TestLedger (PCO-17): the smaller of what is free and not promised, and of what is
// there and not promised.
func TestLedger(t *testing.T) {
	l := fit.NewLedger(300)
	d := fit.Device{ID: "GPU-1", Total: 10000, Free: 9000}
	want := func(n uint64) []fit.Want { return []fit.Want{{Device: d, Bytes: n}} }
	if short := l.Reserve("a", want(4000)); short != nil {
		t.Fatal(short)
	}
	if got := l.Available(d, nil); got != 5000 {
		t.Errorf("Available with an unrealised promise = %d", got)
	}
	short := l.Reserve("b", want(5001))
	if len(short) != 1 || short[0] != (fit.Shortage{Device: "GPU-1", Need: 5001, Free: 5000}) {
		t.Errorf("Reserve = %+v", short)
	}
	l.Measure("a", map[string]uint64{"GPU-1": 3500})
	d.Free = 5500
	if got := l.Available(d, nil); got != 5000 {
		t.Errorf("Available once it is used = %d", got)
	}
	if got := l.Available(d, func(w string) bool { return w == "a" }); got != 9000 {
		t.Errorf("Available without the worker in place = %d", got)
	}
	l.Measure("a", map[string]uint64{"GPU-1": 6000}) // more than promised counts too
	if got := l.Promised()["GPU-1"]; got != 6000 {
		t.Errorf("Reserved = %d", got)
	}
	l.Release("a")
	l.Release("a")
	if got := l.Workers(); len(got) != 0 || l.Promised()["GPU-1"] != 0 {
		t.Errorf("left: %v", got)
	}
	d.Free = d.Total
	if got := l.Available(d, nil); got != 9700 {
		t.Errorf("the system's part is left alone: %d", got)
	}
}

// TestConcurrentSafeLedger (PCO-17): of many at once, no two get memory
// that only one can have.
func TestConcurrentSafeLedger(t *testing.T) {
	l := fit.NewLedger(0)
	d := []fit.Want{{Device: fit.Device{ID: "a", Total: 100, Free: 100}, Bytes: 60}, {Device: fit.Device{ID: "b", Total: 100, Free: 100}, Bytes: 60}}
	for range 100 {
		var won atomic.Int64
		var wg sync.WaitGroup
		for _, w := range []string{"x", "y", "z"} {
			wg.Go(func() {
				if l.Reserve(w, d) == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d winners", won.Load())
		}
		for _, w := range []string{"x", "y", "z"} {
			l.Release(w)
		}
	}
}

// TestLedgerModel: promises never exceed what a device has, whatever the order;
// when all are released everything is there again.
func TestLedgerModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const total, system = 1000, 50
		l := fit.NewLedger(system)
		used := map[string]uint64{} // by worker, the truth
		device := func() fit.Device {
			free := uint64(total)
			for _, u := range used {
				free -= min(free, u)
			}
			return fit.Device{ID: "d", Total: total, Free: free}
		}
		promised := map[string]uint64{}
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		for range 40 {
			w := name.Draw(t, "worker")
			switch rapid.IntRange(0, 2).Draw(t, "do") {
			case 0:
				n := rapid.Uint64Range(1, 700).Draw(t, "n")
				if _, has := promised[w]; !has && l.Reserve(w, []fit.Want{{Device: device(), Bytes: n}}) == nil {
					promised[w] = n
				}
			case 1:
				if n, has := promised[w]; has { // it loads a part of what it was promised
					used[w] = rapid.Uint64Range(0, n).Draw(t, "used")
					l.Measure(w, map[string]uint64{"d": used[w]})
				}
			case 2:
				l.Release(w)
				delete(promised, w)
				delete(used, w)
			}
			sum := uint64(system)
			for _, n := range promised {
				sum += n
			}
			if sum > total || sum-system != l.Promised()["d"] {
				t.Fatalf("%d promised of %d, the ledger says %d", sum, total, l.Promised()["d"])
			}
			if l.Available(device(), nil) > total-sum {
				t.Fatalf("%d available beside %d promised", l.Available(device(), nil), sum)
			}
		}
		for w := range promised {
			l.Release(w)
		}
		if len(l.Workers()) != 0 || l.Available(fit.Device{ID: "d", Total: total, Free: total}, nil) != total-system {
			t.Fatal("something is left")
		}
	})
}

func TestRealise(t *testing.T) {
	l := fit.NewLedger(0)
	d := fit.Device{ID: "d", Total: 100, Free: 100}
	l.Keep("a", []fit.Want{{Device: d, Bytes: 60}})
	d.Free = 40
	if got := l.Available(d, nil); got != 0 {
		t.Errorf("before: %d", got)
	}
	l.Realise("a")
	if got := l.Available(d, nil); got != 40 {
		t.Errorf("after: %d", got)
	}
	l.Keep("huge", []fit.Want{{Device: d, Bytes: math.MaxUint64}})
	if got := l.Available(d, nil); got != 0 {
		t.Errorf("beside a huge promise: %d", got)
	}
}
