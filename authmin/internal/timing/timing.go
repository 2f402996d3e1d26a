// Package timing tests whether classes of inputs can be told apart by the time
// that a function takes. Samples are taken in random order, so that drift of the
// machine falls on all classes alike. MaxT is the thorough test, Spread the quick
// one.
package timing

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Batch is the number of calls in one sample: enough to rise above the
// resolution of the clock, few enough that an interruption spoils one sample.
const Batch = 16

// MaxT measures two classes, samples times together, in an order that seed
// decides, and returns the largest |t| of Welch's test over all samples and over
// the samples below the 90th, 75th and 50th percentile. Values above 4.5 mean a
// difference. For each sample prepare makes the calls of both classes, of which
// one is then timed: so neither the making nor the place in memory of what a
// call uses is a difference.
func MaxT(prepare func() (a, b func()), samples int, seed uint64) float64 {
	rng := rand.New(rand.NewPCG(seed, seed))
	times := [2][]float64{}
	for range samples {
		a, b := prepare()
		class := rng.IntN(2)
		times[class] = append(times[class], sample([2]func(){a, b}[class]))
	}
	both := slices.Sorted(slices.Values(slices.Concat(times[0], times[1])))
	if len(both) == 0 {
		return 0
	}
	worst := math.Abs(Welch(times[0], times[1]))
	for _, keep := range [...]float64{0.9, 0.75, 0.5} {
		limit := both[int(keep*float64(len(both)-1))]
		below := func(s []float64) []float64 {
			return slices.DeleteFunc(slices.Clone(s), func(x float64) bool { return x > limit })
		}
		worst = max(worst, math.Abs(Welch(below(times[0]), below(times[1]))))
	}
	return worst
}

// sample returns the nanoseconds that a batch of calls takes.
func sample(call func()) float64 {
	start := time.Now()
	for range Batch {
		call()
	}
	return float64(time.Since(start))
}

// Spread measures all functions, samples times each, in rounds whose order seed
// decides, and returns by how much the largest median of a function is above the
// smallest: 0.1 means 10 %. A median does not care about interruptions.
func Spread(samples int, seed uint64, calls ...func()) float64 {
	rng := rand.New(rand.NewPCG(seed, seed))
	times := make([][]float64, len(calls))
	for range samples {
		for _, class := range rng.Perm(len(calls)) {
			times[class] = append(times[class], sample(calls[class]))
		}
	}
	low, high := math.Inf(1), 0.0
	for _, s := range times {
		if len(s) == 0 {
			return 0
		}
		slices.Sort(s)
		median := s[len(s)/2]
		low, high = min(low, median), max(high, median)
	}
	return high/max(low, 1) - 1
}

// Welch returns the t statistic of two samples with unequal variances, 0 if
// one has fewer than two values or neither varies.
func Welch(a, b []float64) float64 {
	meanA, varA := moments(a)
	meanB, varB := moments(b)
	spread := varA/float64(len(a)) + varB/float64(len(b))
	if len(a) < 2 || len(b) < 2 || spread == 0 {
		return 0
	}
	return (meanA - meanB) / math.Sqrt(spread)
}

// moments returns mean and sample variance.
func moments(s []float64) (mean, variance float64) {
	for _, x := range s {
		mean += x
	}
	mean /= float64(len(s))
	for _, x := range s {
		variance += (x - mean) * (x - mean)
	}
	return mean, variance / float64(len(s)-1)
}
