package timing_test

import (
	"math"
	"testing"

	"github.com/llorch/llorch/authmin/internal/timing"
)

// The worked example: means 3 and 6, variances 2.5 and 10, five values each.
func TestWelch(t *testing.T) {
	a, b := []float64{1, 2, 3, 4, 5}, []float64{2, 4, 6, 8, 10}
	if got, want := timing.Welch(a, b), -3/math.Sqrt(2.5); math.Abs(got-want) > 1e-12 {
		t.Errorf("Welch = %v, want %v", got, want)
	}
	for _, s := range [][]float64{nil, {1}, {3, 3, 3}} {
		if got := timing.Welch(s, s); got != 0 {
			t.Errorf("Welch(%v, itself) = %v, want 0", s, got)
		}
	}
}

// A function that does a thousand times more work is found out.
func TestMaxTFindsDifference(t *testing.T) {
	sink := 0
	spin := func(n int) func() {
		return func() {
			for i := range n {
				sink += i & sink
			}
		}
	}
	if got := timing.MaxT(spin(10), spin(10_000), 400, 1); got < 10 {
		t.Errorf("MaxT of unequal functions = %v, want above 10", got)
	}
	if timing.MaxT(spin(1), spin(1), 0, 1) != 0 || sink != 0 {
		t.Error("MaxT without samples is not 0")
	}
}
