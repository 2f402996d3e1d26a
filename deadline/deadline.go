package deadline

import (
	"math"
	"strconv"
	"time"
)

// Deadline is an instant on this process's monotonic clock, together with the
// text that is forwarded for it. The zero Deadline means that there is none.
type Deadline struct {
	at     time.Time     // carries a monotonic reading; zero = no deadline
	budget time.Duration // from arrival to at, as first known in this process
	wire   string        // X-Deadline as it came in; "" = at in Unix ms
}

// At returns the deadline at t. A t without a monotonic reading is converted
// once, now. The zero time gives the zero Deadline.
func At(t time.Time) Deadline {
	if t.IsZero() {
		return Deadline{}
	}
	return After(time.Until(t))
}

// After returns the deadline d from now; d ≤ 0 is already exhausted.
func After(d time.Duration) Deadline { return since(time.Now(), d) }

// since returns the deadline d after arrival.
func since(arrival time.Time, d time.Duration) Deadline {
	return Deadline{at: arrival.Add(d), budget: d}
}

// IsZero reports whether there is no deadline.
func (d Deadline) IsZero() bool { return d.at.IsZero() }

// Remaining returns the time left, negative when the deadline has passed. Without
// a deadline it is the longest duration there is.
func (d Deadline) Remaining() time.Duration {
	if d.IsZero() {
		return math.MaxInt64
	}
	return time.Until(d.at)
}

// Expired reports whether nothing is left.
func (d Deadline) Expired() bool { return d.Remaining() <= 0 }

// Time returns the instant, with its monotonic reading; the zero time if there
// is no deadline.
func (d Deadline) Time() time.Time { return d.at }

// Wire returns the text that X-Deadline carries to the next hop: what came in,
// byte for byte, or Unix milliseconds rounded down. It is "" without a deadline.
// On a machine whose clock stands before 2001-09-09, where milliseconds could be
// mistaken for seconds, it is RFC 3339 instead.
func (d Deadline) Wire() string {
	if d.wire != "" || d.IsZero() {
		return d.wire
	}
	if ms := d.at.UnixMilli(); ms >= minUnixMs {
		return strconv.FormatInt(ms, 10)
	}
	return d.at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// Earlier returns the earlier of d and o; a zero Deadline never wins. A text that
// came in stays the one that is forwarded, even if the other side is earlier,
// because the relative field tells the next hop about the shorter budget.
func (d Deadline) Earlier(o Deadline) Deadline {
	switch {
	case d.IsZero():
		return o
	case o.IsZero():
		return d
	}
	first, other := d, o
	if o.at.Before(d.at) {
		first, other = o, d
	}
	if first.wire == "" {
		first.wire = other.wire
	}
	return first
}
