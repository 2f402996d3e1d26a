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

// spin returns a function that does n small things.
func spin(n int) func() {
	sink := 0
	return func() {
		for i := range n {
			sink += i & sink
		}
	}
}

// A function that does a thousand times more work is found out.
func TestMaxTFindsDifference(t *testing.T) {
	if got := timing.MaxT(func() (a, b func()) { return spin(10), spin(10_000) }, 400, 1); got < 10 {
		t.Errorf("MaxT of unequal functions = %v, want above 10", got)
	}
	if got := timing.MaxT(func() (a, b func()) { return spin(1), spin(1) }, 0, 1); got != 0 {
		t.Errorf("MaxT without samples = %v, want 0", got)
	}
}

func TestSpreadFindsDifference(t *testing.T) {
	if got := timing.Spread(200, 1, spin(10_000), spin(10_000), spin(20_000)); got < 0.5 {
		t.Errorf("Spread with one function that does twice as much = %v, want about 1", got)
	}
	if a, b := timing.Spread(0, 1, spin(1)), timing.Spread(10, 1); a != 0 || b > 0 {
		t.Errorf("Spread of nothing = %v, %v", a, b)
	}
}

// The seed decides the order, so that a run can be repeated.
func TestOrderIsSeeded(t *testing.T) {
	order := func(seed uint64) (out string) {
		timing.Spread(20, seed, func() { out += "a" }, func() { out += "b" }, func() { out += "c" })
		return out
	}
	if a, b := order(1), order(1); a != b || a == order(2) || len(a) != 3*20*timing.Batch {
		t.Errorf("the order is not that of the seed, or has %d calls", len(a))
	}
}
