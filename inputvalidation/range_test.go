package inputvalidation_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"pgregory.net/rapid"
)

// VAL-21
func TestRangeFloats(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		v, min, max float64
		rule        inputvalidation.Rule
	}{
		{v: 0, min: 0, max: 1},
		{v: 1, min: 0, max: 1, rule: inputvalidation.RuleRange},
		{v: math.Copysign(0, -1), min: 0, max: 1},
		{v: nan, min: 0, max: 1, rule: inputvalidation.RuleNaN},
		{v: nan, min: nan, max: 0, rule: inputvalidation.RuleNaN},
		{v: 0, min: nan, max: 1, rule: inputvalidation.RuleBounds},
		{v: 0, min: 0, max: nan, rule: inputvalidation.RuleBounds},
		{v: 0, min: 1, max: 0, rule: inputvalidation.RuleBounds},
		{v: 0, min: 0, max: 0, rule: inputvalidation.RuleBounds},
		{v: inf, min: 0, max: 1, rule: inputvalidation.RuleRange},
		{v: -inf, min: 0, max: 1, rule: inputvalidation.RuleRange},
		{v: -inf, min: -inf, max: 1},
		{v: inf, min: 0, max: inf, rule: inputvalidation.RuleRange},
		{v: 1e308, min: 0, max: inf},
	} {
		got, err := inputvalidation.Range("t", c.v, c.min, c.max)
		if c.rule != "" {
			wantRule(t, "Range", err, c.rule)
		} else if err != nil || got != c.v {
			t.Errorf("Range(%v, %v, %v) = %v, %v", c.v, c.min, c.max, got, err)
		}
	}
	if d, err := inputvalidation.Range("timeout", time.Second, time.Millisecond, time.Minute); d != time.Second || err != nil {
		t.Errorf("Range of a Duration = %v, %v", d, err)
	}
}

// Range equals its mathematical definition at the edges of every integer type.
func TestRangeMatchesDefinition(t *testing.T) {
	t.Run("int8", rangeLaw[int8](math.MinInt8, math.MaxInt8))
	t.Run("int16", rangeLaw[int16](math.MinInt16, math.MaxInt16))
	t.Run("int32", rangeLaw[int32](math.MinInt32, math.MaxInt32))
	t.Run("int64", rangeLaw[int64](math.MinInt64, math.MaxInt64))
	t.Run("int", rangeLaw[int](math.MinInt, math.MaxInt))
	t.Run("uint8", rangeLaw[uint8](0, math.MaxUint8))
	t.Run("uint16", rangeLaw[uint16](0, math.MaxUint16))
	t.Run("uint32", rangeLaw[uint32](0, math.MaxUint32))
	t.Run("uint64", rangeLaw[uint64](0, math.MaxUint64))
	t.Run("uint", rangeLaw[uint](0, math.MaxUint))
}

func rangeLaw[T int8 | int16 | int32 | int64 | int | uint8 | uint16 | uint32 | uint64 | uint](low, high T) func(*testing.T) {
	toBig := func(v T) *big.Int {
		if v < 0 {
			return big.NewInt(int64(v))
		}
		return new(big.Int).SetUint64(uint64(v))
	}
	edge := rapid.SampledFrom([]T{low, low + 1, low + 2, 0, 1, 2, high / 2, high - 2, high - 1, high})
	return func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			v, lo, hi := edge.Draw(t, "v"), edge.Draw(t, "min"), edge.Draw(t, "max")
			want := toBig(lo).Cmp(toBig(v)) <= 0 && toBig(v).Cmp(toBig(hi)) < 0
			got, err := inputvalidation.Range("v", v, lo, hi)
			if (err == nil) != want || want && got != v {
				t.Fatalf("Range(%d, %d, %d) = %d, %v, want accepted %v", v, lo, hi, got, err, want)
			}
		})
	}
}
