package deadline

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"
)

const (
	// minUnixMs is 2001-09-09; anything below it is seconds by mistake.
	minUnixMs = 1_000_000_000_000
	// maxUnixMs is the end of the year 9999, the last one RFC 3339 can write.
	maxUnixMs = 253_402_300_799_999
	// maxTimeoutMs is the largest X-Request-Timeout-Ms, ten digits.
	maxTimeoutMs = 9_999_999_999
)

// FromHeader returns the earliest deadline that h states; zero if it states
// none. arrival is when the request came in, taken with [time.Now]; it anchors
// both forms to the monotonic clock. The zero time means now. A malformed,
// empty or repeated field gives a [*FormatError].
func FromHeader(h http.Header, arrival time.Time) (Deadline, error) {
	if arrival.IsZero() {
		arrival = time.Now()
	}
	var first Deadline
	for _, f := range [...]struct {
		key, source string
		parse       func(string, time.Time) (Deadline, string)
	}{
		{"X-Deadline", SourceDeadline, parseDeadline},
		{"X-Request-Timeout-Ms", SourceTimeout, parseTimeout},
		{"Grpc-Timeout", SourceGRPC, parseGRPC},
	} {
		values := h[f.key]
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 {
			return Deadline{}, &FormatError{f.source, "given twice"}
		}
		d, fault := f.parse(values[0], arrival)
		if fault != "" {
			return Deadline{}, &FormatError{f.source, fault}
		}
		first = first.Earlier(d)
	}
	return first, nil
}

// Inject writes the deadline of ctx into h for the next hop, which gets margin
// less than what is left; a negative margin counts as 0. Stale statements are
// removed first, whatever happens. With less than 1 ms left after the margin it
// returns an [*Exceeded] of stage dispatch. Without a deadline nothing is written.
func Inject(ctx context.Context, h http.Header, margin time.Duration) error {
	delete(h, "X-Deadline")
	delete(h, "X-Request-Timeout-Ms")
	delete(h, "Grpc-Timeout")
	d, ok := From(ctx)
	if !ok {
		return nil
	}
	left := d.Remaining() - max(margin, 0)
	if left < time.Millisecond {
		return &Exceeded{Stage: StageDispatch, Budget: d.budget, At: d.at}
	}
	h["X-Deadline"] = []string{d.Wire()}
	h["X-Request-Timeout-Ms"] = []string{strconv.FormatInt(min(left.Milliseconds(), maxTimeoutMs), 10)}
	return nil
}

// parseDeadline reads X-Deadline; the second result is the fault, "" if none.
func parseDeadline(s string, arrival time.Time) (Deadline, string) {
	var wall time.Time
	if ms, ok := digits(s, 15); ok {
		switch {
		case len(s) == 10:
			return Deadline{}, "looks like seconds, not milliseconds"
		case len(s) < 13 || ms < minUnixMs:
			return Deadline{}, "too small for Unix milliseconds"
		case ms > maxUnixMs:
			return Deadline{}, "after the year 9999"
		}
		wall = time.UnixMilli(ms)
	} else {
		var fault string
		if wall, fault = parseRFC3339(s); fault != "" {
			return Deadline{}, fault
		}
	}
	d := since(arrival, wall.Sub(arrival)) // wall has no monotonic reading: Sub compares wall clocks, once
	d.wire = s
	return d, ""
}

// parseTimeout reads X-Request-Timeout-Ms.
func parseTimeout(s string, arrival time.Time) (Deadline, string) {
	ms, ok := digits(s, 10)
	if !ok {
		return Deadline{}, "not 1 to 10 digits"
	}
	return since(arrival, time.Duration(ms)*time.Millisecond), ""
}

// parseGRPC reads grpc-timeout; hours beyond int64 nanoseconds saturate.
func parseGRPC(s string, arrival time.Time) (Deadline, string) {
	if s == "" {
		return Deadline{}, "empty"
	}
	n, ok := digits(s[:len(s)-1], 8)
	if !ok {
		return Deadline{}, "not 1 to 8 digits and a unit"
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return Deadline{}, "unknown unit"
	}
	if n > math.MaxInt64/int64(unit) {
		return since(arrival, math.MaxInt64), ""
	}
	return since(arrival, time.Duration(n)*unit), ""
}

// digits reads 1 to limit ASCII digits; limit ≤ 18 keeps it inside an int64.
func digits(s string, limit int) (n int64, ok bool) {
	if s == "" || len(s) > limit {
		return 0, false
	}
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
