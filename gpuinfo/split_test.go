package gpuinfo_test

import (
	"errors"
	"math"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

func freeUnits(free ...uint64) (units []gpuinfo.Unit) {
	for i, f := range free {
		s := machine(i + 1)
		u := s.Units()[i]
		u.Device.Memory.Free = &f
		units = append(units, u)
	}
	return units
}

// TestSplitCheck proves GPU-32 case by case.
func TestSplitCheck(t *testing.T) {
	noFree, broken := freeUnits(100)[0], freeUnits(100)[0]
	noFree.Device.Memory.Free = nil
	broken.Device.Health.State = gpuinfo.Broken
	many, ratios := freeUnits(make([]uint64, 65)...), make(gpuinfo.Split, 65)
	for i := range ratios {
		ratios[i] = 1.0 / 65
	}
	part := mixedMachine().Units()[2] // a slice whose free memory is unknown
	for name, tt := range map[string]struct {
		split          gpuinfo.Split
		units          []gpuinfo.Unit
		need, overhead uint64
		headroom       float64
		want           gpuinfo.SplitError
	}{
		"fits exactly":             {gpuinfo.Split{0.25, 0.75}, freeUnits(110, 310), 400, 10, 0, gpuinfo.SplitError{}},
		"overhead counts":          {gpuinfo.Split{0.25, 0.75}, freeUnits(109, 310), 400, 10, 0, gpuinfo.SplitError{Position: 0, Reason: "too_small", Need: 110, Free: 109}},
		"headroom counts":          {gpuinfo.Split{0.5, 0.5}, freeUnits(1000, 299), 400, 0, 0.5, gpuinfo.SplitError{Position: 1, Reason: "too_small", Need: 300, Free: 299}},
		"no ratio":                 {nil, nil, 1, 0, 0, gpuinfo.SplitError{Position: -1, Reason: "count"}},
		"fewer units":              {gpuinfo.Split{0.5, 0.5}, freeUnits(9), 1, 0, 0, gpuinfo.SplitError{Position: -1, Reason: "count"}},
		"65 parts":                 {ratios, many, 0, 0, 0, gpuinfo.SplitError{Position: -1, Reason: "count"}},
		"64 parts":                 {ratios[:64], many[:64], 0, 0, 0, gpuinfo.SplitError{Position: -1, Reason: "sum"}}, // 64/65
		"a zero":                   {gpuinfo.Split{1, 0}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{Position: 1, Reason: "ratio"}},
		"negative":                 {gpuinfo.Split{-0.5, 1.5}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{Position: 0, Reason: "ratio"}},
		"not a number":             {gpuinfo.Split{1, math.NaN()}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{Position: 1, Reason: "ratio"}},
		"infinite":                 {gpuinfo.Split{math.Inf(1), 1}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{Position: 0, Reason: "ratio"}},
		"sum 0.999":                {gpuinfo.Split{0.5, 0.499}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{}},
		"sum 1.001":                {gpuinfo.Split{0.5, 0.501}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{}},
		"sum 0.9989":               {gpuinfo.Split{0.5, 0.4989}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{Position: -1, Reason: "sum"}},
		"sum 1.0011":               {gpuinfo.Split{0.5, 0.5011}, freeUnits(9, 9), 1, 0, 0, gpuinfo.SplitError{Position: -1, Reason: "sum"}},
		"negative headroom":        {gpuinfo.Split{1}, freeUnits(9), 1, 0, -0.1, gpuinfo.SplitError{Position: -1, Reason: "headroom"}},
		"headroom not a number":    {gpuinfo.Split{1}, freeUnits(9), 1, 0, math.NaN(), gpuinfo.SplitError{Position: -1, Reason: "headroom"}},
		"infinite headroom":        {gpuinfo.Split{1}, freeUnits(9), 1, 0, math.Inf(1), gpuinfo.SplitError{Position: -1, Reason: "headroom"}},
		"unknown free memory":      {gpuinfo.Split{1}, []gpuinfo.Unit{noFree}, 1, 0, 0, gpuinfo.SplitError{Reason: "unknown_free", Need: 1}},
		"unknown free of a slice":  {gpuinfo.Split{1}, []gpuinfo.Unit{part}, 1, 0, 0, gpuinfo.SplitError{Reason: "unknown_free", Need: 1}},
		"a broken device":          {gpuinfo.Split{1}, []gpuinfo.Unit{broken}, 1, 0, 0, gpuinfo.SplitError{Reason: "unusable", Need: 1}},
		"more than any number":     {gpuinfo.Split{1}, freeUnits(9), math.MaxUint64, math.MaxUint64, 1e300, gpuinfo.SplitError{Reason: "too_small", Need: math.MaxUint64, Free: 9}},
		"nothing needed, no space": {gpuinfo.Split{1}, freeUnits(0), 0, 0, 1, gpuinfo.SplitError{}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.split.Check(tt.units, tt.need, tt.overhead, tt.headroom)
			if tt.want == (gpuinfo.SplitError{}) {
				if err != nil {
					t.Errorf("Check = %v", err)
				}
				return
			}
			got, ok := errors.AsType[*gpuinfo.SplitError](err)
			if !ok || *got != tt.want || got.Error() == "" {
				t.Errorf("Check = %+v, want %+v", err, tt.want)
			}
		})
	}
}

// TestSplitModel (GPU-32): a split passes if and only if each part fits by itself.
func TestSplitModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "parts")
		weights := rapid.SliceOfN(rapid.IntRange(1, 9), n, n).Draw(t, "weights")
		free := rapid.SliceOfN(rapid.Uint64Range(0, 1<<20), n, n).Draw(t, "free")
		need, overhead := rapid.Uint64Range(0, 1<<21).Draw(t, "need"), rapid.Uint64Range(0, 1<<10).Draw(t, "overhead")
		headroom := rapid.Float64Range(0, 1).Draw(t, "headroom")
		sum := 0
		for _, w := range weights {
			sum += w
		}
		split, bad := make(gpuinfo.Split, n), -1
		for i, w := range weights {
			split[i] = float64(w) / float64(sum)
			if float64(free[i]) < (float64(need)*split[i]+float64(overhead))*(1+headroom) && bad < 0 {
				bad = i
			}
		}
		err := split.Check(freeUnits(free...), need, overhead, headroom)
		e, _ := errors.AsType[*gpuinfo.SplitError](err)
		if (bad < 0) != (err == nil) || bad >= 0 && (e.Position != bad || e.Free != free[bad] || e.Need <= e.Free) {
			t.Fatalf("Check = %v, want part %d", err, bad)
		}
	})
}
