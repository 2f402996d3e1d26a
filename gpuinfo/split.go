package gpuinfo

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
)

// Split says which share of a model each unit gets, in the order of the units:
// 1 to 64 ratios, each above 0, with the sum 1 ± 0.001.
type Split []float64

// SplitError says why a split does not work.
type SplitError struct {
	Position int    // of the ratio, from 0; −1: the split as a whole
	Reason   string // count ratio sum headroom unusable unknown_free too_small
	Need     uint64 // bytes that the unit must have free, headroom included
	Free     uint64 // bytes that it has
}

// Error is one line for people.
func (e *SplitError) Error() string {
	text := "gpuinfo: tensor split"
	if e.Position >= 0 {
		text += ": part " + strconv.Itoa(e.Position+1)
	}
	return text + ": " + cmp.Or(map[string]string{
		"count":        "not as many ratios as devices, or not 1 to 64",
		"ratio":        "the ratio is not above 0",
		"sum":          "the ratios do not add up to 1",
		"headroom":     "the headroom is negative or not finite",
		"unusable":     "the device is not usable",
		"unknown_free": "the free memory of the device is unknown",
	}[e.Reason], fmt.Sprintf("needs %d bytes, %d are free", e.Need, e.Free))
}

// Check reports whether every unit has (need × its ratio + overhead) × (1 +
// headroom) bytes free; need and overhead are bytes, headroom is a fraction such as
// 0.1. The error is a [*SplitError] that names the first part that does not work.
func (p Split) Check(units []Unit, need, overhead uint64, headroom float64) error {
	if len(p) < 1 || len(p) > maxParts || len(p) != len(units) {
		return &SplitError{Position: -1, Reason: "count"}
	}
	if !(headroom >= 0) || math.IsInf(headroom, 1) {
		return &SplitError{Position: -1, Reason: "headroom"}
	}
	sum := 0.0
	for i, ratio := range p {
		if !(ratio > 0) || math.IsInf(ratio, 1) {
			return &SplitError{Position: i, Reason: "ratio"}
		}
		sum += ratio
	}
	if math.Abs(sum-1) > 0.001+1e-9 { // the ends count, whatever the sum was rounded to
		return &SplitError{Position: -1, Reason: "sum"}
	}
	for i, u := range units {
		e := &SplitError{Position: i, Need: bytesUp((float64(need)*p[i] + float64(overhead)) * (1 + headroom))}
		free := u.Memory().Free
		switch {
		case !u.Usable():
			e.Reason = "unusable"
		case free == nil:
			e.Reason = "unknown_free"
		case e.Need > *free:
			e.Reason, e.Free = "too_small", *free
		default:
			continue
		}
		return e
	}
	return nil
}

// bytesUp rounds up to whole bytes and stops at the largest uint64.
func bytesUp(v float64) uint64 {
	if v >= math.MaxUint64 {
		return math.MaxUint64
	}
	return uint64(math.Ceil(v))
}
