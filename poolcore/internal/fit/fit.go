// Package fit knows how much memory a model needs and who has been promised what:
// an estimate before the first load, what was measured after it, a floor after a
// load that ran out of memory, and a ledger of promises per device.
//
// It does no I/O and reads no clock. Amounts are bytes; sums that do not fit stop
// at the largest uint64 instead of wrapping.
package fit

import (
	"math"
	"math/bits"
)

// Sizes that the estimate and the floor are made of.
const (
	mib = 1 << 20

	measuredSlack = 64 * mib  // on top of measured × 1.03
	minCompute    = 256 * mib // compute buffer; 1 % of the weights where that is more
	floorStep     = 256 * mib // more than was free when a load ran out of memory
)

// Shape is what an estimate needs of a model.
type Shape struct {
	Tensors                                 uint64 // bytes of all weights; 0: unknown
	Layers, KVHeads, KeyLength, ValueLength int
	Known                                   bool // the four numbers are; otherwise an upper bound stands in
}

// Load is one way to run a model.
type Load struct {
	Shape     Shape
	Ctx       int    // tokens per slot
	Slots     int    // per worker
	KVType    string // "": f16
	Devices   int    // 0: the memory of the host
	PerDevice uint64 // what the engine takes on each device whatever the model
}

// Estimate is a sum of its parts.
type Estimate struct {
	Bytes                            uint64
	Weights, Cache, Compute, Context uint64
	Upper                            bool // an upper bound, because the architecture is unknown
}

// Estimated returns what the load needs by its numbers alone. A model of unknown
// size has no estimate: Bytes is 0.
func (l Load) Estimated() Estimate {
	if l.Shape.Tensors == 0 {
		return Estimate{}
	}
	e := Estimate{Weights: l.Shape.Tensors, Compute: max(minCompute, l.Shape.Tensors/100)}
	tokens := times(count(l.Ctx), count(l.Slots))
	per, known := kvPer32(l.KVType)
	e.Upper = !known || !l.Shape.Known
	if l.Shape.Known {
		values := times(times(count(l.Shape.Layers), count(l.Shape.KVHeads)), plus(count(l.Shape.KeyLength), count(l.Shape.ValueLength)))
		e.Cache = scale(times(values, tokens), per, 32)
	} else {
		// The most that a token takes in models that share no heads: half a MiB in
		// small ones, and it grows with their size.
		e.Cache = times(max(mib/2, l.Shape.Tensors>>14), tokens)
	}
	e.Context = times(l.PerDevice, count(l.Devices))
	e.Bytes = plus(plus(e.Weights, e.Cache), plus(e.Compute, e.Context))
	return e
}

// kvPer32 is the size of 32 elements of the key-value cache. A type that nobody
// here knows counts as the largest.
func kvPer32(kind string) (uint64, bool) {
	switch kind {
	case "", "auto", "f16", "fp16", "bf16", "float16", "bfloat16":
		return 64, true
	case "q8_0":
		return 34, true
	case "fp8", "fp8_e4m3", "fp8_e5m2":
		return 32, true
	case "q5_1":
		return 24, true
	case "q5_0":
		return 22, true
	case "q4_1":
		return 20, true
	case "q4_0", "iq4_nl":
		return 18, true
	case "f32":
		return 128, true
	}
	return 128, false
}

func count(n int) uint64 { return uint64(max(n, 0)) }

func plus(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}

func times(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}

// scale is a × num ÷ den, rounded up.
func scale(a, num, den uint64) uint64 {
	high, low := bits.Mul64(a, num)
	if high >= den {
		return math.MaxUint64
	}
	q, r := bits.Div64(high, low, den)
	if r != 0 {
		q = plus(q, 1)
	}
	return q
}

func less(a, b uint64) uint64 { return a - min(a, b) }
