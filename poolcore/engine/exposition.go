package engine

import (
	"bytes"
	"math"
	"strconv"
)

// samples are values of a Prometheus text page, each family summed over its
// labels.
type samples map[string]float64

// readSamples reads what it understands and skips the rest. page is bounded by
// maxAnswer, and so is the result.
func readSamples(page []byte) samples {
	out := samples{}
	for line := range bytes.Lines(page) {
		end := bytes.IndexAny(line, "{ \t")
		if end <= 0 || line[0] == '#' {
			continue
		}
		rest := line[end:]
		if rest[0] == '{' { // a label's value may hold blanks and braces; numbers hold none
			rest = rest[bytes.LastIndexByte(rest, '}')+1:]
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(string(fields[0]), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			continue
		}
		out[string(line[:end])] += v
	}
	return out
}

// value returns the first family that is there.
func (s samples) value(names ...string) *float64 {
	for _, n := range names {
		if v, ok := s[n]; ok && v <= math.MaxFloat64 {
			return &v
		}
	}
	return nil
}

// count is value as a whole number of at most maxTokens.
func (s samples) count(names ...string) *int {
	v := s.value(names...)
	if v == nil || *v > maxTokens {
		return nil
	}
	n := int(*v)
	return &n
}

// share is value where it lies between 0 and 1.
func (s samples) share(names ...string) *float64 {
	if v := s.value(names...); v != nil && *v <= 1 {
		return v
	}
	return nil
}

// total adds up the families that are there; nil if none is.
func (s samples) total(names ...string) *uint64 {
	var sum uint64
	found := false
	for _, n := range names {
		if v, ok := s[n]; ok && v < 1<<53 { // exact as a float
			sum, found = sum+uint64(v), true
		}
	}
	if !found {
		return nil
	}
	return &sum
}
