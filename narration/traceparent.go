package narration

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
)

const (
	flagSampled = 1
	flagRandom  = 2 // the trace id was made at random
)

// TraceParent is the W3C trace context of one span. The zero value means none.
type TraceParent struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   byte
}

// NewTraceParent begins a trace.
func NewTraceParent(sampled bool) TraceParent {
	t := TraceParent{Flags: flagRandom}
	if sampled {
		t.Flags |= flagSampled
	}
	for t.TraceID == ([16]byte{}) {
		rand.Read(t.TraceID[:]) // never fails: it ends the program instead
	}
	return t.Child()
}

// ParseTraceParent reads a traceparent header: version 00 has exactly 55
// characters, later versions may go on after a "-". The error names the rule.
func ParseTraceParent(s string) (t TraceParent, err error) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return t, errors.New("parse traceparent: not version-traceid-spanid-flags")
	}
	var version, flags [1]byte
	if !lowerHex(version[:], s[:2]) || !lowerHex(t.TraceID[:], s[3:35]) || !lowerHex(t.SpanID[:], s[36:52]) || !lowerHex(flags[:], s[53:55]) {
		return TraceParent{}, errors.New("parse traceparent: not lower-case hex")
	}
	switch {
	case version[0] == 0xff:
		err = errors.New("parse traceparent: version ff is not valid")
	case version[0] == 0 && len(s) != 55:
		err = errors.New("parse traceparent: version 00 has exactly 55 characters")
	case len(s) > 55 && s[55] != '-':
		err = errors.New("parse traceparent: no - after the flags")
	case t.TraceID == [16]byte{}:
		err = errors.New("parse traceparent: the trace id is zero")
	case t.SpanID == [8]byte{}:
		err = errors.New("parse traceparent: the span id is zero")
	}
	if err != nil {
		return TraceParent{}, err
	}
	t.Flags = flags[0]
	return t, nil
}

// lowerHex decodes s, which has exactly twice the length of dst.
func lowerHex(dst []byte, s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	n, err := hex.Decode(dst, []byte(s))
	return err == nil && n == len(dst)
}

// IsZero reports whether there is no trace.
func (t TraceParent) IsZero() bool { return t == TraceParent{} }

// Child returns the context of a new span in the same trace.
func (t TraceParent) Child() TraceParent {
	for parent := t.SpanID; t.SpanID == parent || t.SpanID == ([8]byte{}); {
		rand.Read(t.SpanID[:])
	}
	t.Flags &= flagSampled | flagRandom
	return t
}

// String returns the header in version 00.
func (t TraceParent) String() string {
	var b [55]byte
	copy(b[:], "00-")
	hex.Encode(b[3:], t.TraceID[:])
	b[35] = '-'
	hex.Encode(b[36:], t.SpanID[:])
	b[52] = '-'
	hex.Encode(b[53:], []byte{t.Flags})
	return string(b[:])
}
