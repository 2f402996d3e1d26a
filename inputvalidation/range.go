package inputvalidation

// Number is any integer or floating-point type, named types such as
// time.Duration included.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// Range returns v if min <= v < max. A NaN is RuleNaN before anything is
// compared; a NaN bound or min >= max is RuleBounds; any other v is RuleRange.
// An infinity is out of range unless a bound is infinite; -0 equals 0.
func Range[T Number](field string, v, min, max T) (T, error) {
	switch {
	case v != v:
		return 0, refuse(field, RuleNaN)
	case !(min < max): // also true for a NaN bound
		return 0, refuse(field, RuleBounds)
	case v < min || v >= max:
		return 0, refuse(field, RuleRange)
	}
	return v, nil
}
