package fit_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/poolcore/internal/fit"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// TestEstimate (PCO-14): the parts by hand for an 8B model with grouped heads.
func TestEstimate(t *testing.T) {
	shape := fit.Shape{Tensors: 16 * gib, Layers: 32, KVHeads: 8, KeyLength: 128, ValueLength: 128, Known: true}
	e := fit.Load{Shape: shape, Ctx: 8192, Slots: 4, Devices: 2, PerDevice: 450 * mib}.Estimated()
	want := fit.Estimate{Weights: 16 * gib, Cache: 32 * 8 * 256 * 2 * 8192 * 4, Compute: 256 * mib, Context: 900 * mib}
	want.Bytes = want.Weights + want.Cache + want.Compute + want.Context
	if e != want {
		t.Errorf("Estimated = %+v, want %+v", e, want)
	}
	q8 := fit.Load{Shape: shape, Ctx: 8192, Slots: 4, KVType: "q8_0"}.Estimated()
	if q8.Cache != want.Cache*34/64 || q8.Upper {
		t.Errorf("q8_0: %+v", q8)
	}
	if odd := (fit.Load{Shape: shape, Ctx: 1, Slots: 1, KVType: "q99"}).Estimated(); !odd.Upper || odd.Cache != 32*8*256*4 {
		t.Errorf("an unknown type is the largest, and marked: %+v", odd)
	}
	shape.Known = false
	if upper := (fit.Load{Shape: shape, Ctx: 8192, Slots: 4}).Estimated(); !upper.Upper || upper.Cache <= want.Cache {
		t.Errorf("an unknown architecture is an upper bound, and marked: %+v", upper)
	}
	if none := (fit.Load{Ctx: 8192, Slots: 4}).Estimated(); none != (fit.Estimate{}) {
		t.Errorf("nothing known: %+v", none)
	}
}

// TestEstimateNeverWraps: every sum is the exact one or the largest number.
func TestEstimateNeverWraps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-3, math.MaxInt)
		l := fit.Load{
			Shape: fit.Shape{Tensors: rapid.Uint64Min(1).Draw(t, "w"), Layers: n.Draw(t, "l"), KVHeads: n.Draw(t, "h"), KeyLength: n.Draw(t, "k"), ValueLength: n.Draw(t, "v"), Known: true},
			Ctx:   n.Draw(t, "ctx"), Slots: n.Draw(t, "slots"), Devices: n.Draw(t, "d"), PerDevice: rapid.Uint64().Draw(t, "per"),
		}
		e := l.Estimated()
		exact := new(big.Int)
		for _, p := range []uint64{e.Weights, e.Cache, e.Compute, e.Context} {
			exact.Add(exact, new(big.Int).SetUint64(p))
		}
		if exact.IsUint64() && e.Bytes != exact.Uint64() || !exact.IsUint64() && e.Bytes != math.MaxUint64 {
			t.Fatalf("%+v: the parts make %v", e, exact)
		}
		cache := big.NewInt(2)
		for _, f := range []int{l.Shape.Layers, l.Shape.KVHeads, l.Ctx, l.Slots} {
			cache.Mul(cache, big.NewInt(int64(max(f, 0))))
		}
		width := new(big.Int).Add(big.NewInt(int64(max(l.Shape.KeyLength, 0))), big.NewInt(int64(max(l.Shape.ValueLength, 0))))
		if cache.Mul(cache, width); cache.IsUint64() && e.Cache > cache.Uint64() {
			// Saturation inside the product may only raise it.
			if e.Cache < math.MaxUint64/16 {
				t.Fatalf("cache %d, want %v", e.Cache, cache)
			}
		}
	})
}
