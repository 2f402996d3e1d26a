package audit

import (
	"encoding/json"
)

// fact is what following the chain needs to know of a line.
type fact struct {
	off  int64
	line int64 // from 1
	size int   // with LF
	lf   bool
	bad  string // why it is no record; then the rest is not set, save hash

	seq, emit  uint64
	prev, hash [32]byte
	at         string // 30 characters: sorts as the time does
	typ        string
	reason     string
	rotated    *rotated
	stopped    *stopped
	dropped    uint64 // of a gap record of this run
	origin     string // of audit.started
}

// lineHead is the part of a record that the chain is made of.
type lineHead struct {
	At     string          `json:"at"`
	Data   json.RawMessage `json:"data"`
	Emit   uint64          `json:"emit"`
	Prev   string          `json:"prev"`
	Reason string          `json:"reason"`
	Seq    uint64          `json:"seq"`
	Type   string          `json:"type"`
	V      int             `json:"v"`
}

// newFact reads a line given without its LF.
func newFact(raw []byte, lf bool) fact {
	f := fact{size: len(raw), lf: lf}
	if lf {
		f.size++
	}
	if !lf {
		f.bad = "a line with its LF"
		return f
	}
	if len(raw) >= maxLine {
		f.bad = "a line of at most 61440 bytes"
		return f
	}
	f.hash = hashLine(raw)
	var h lineHead
	if err := json.Unmarshal(raw, &h); err != nil {
		f.bad = "a record in JSON"
		return f
	}
	f.seq, f.emit, f.at, f.typ, f.reason = h.Seq, h.Emit, h.At, h.Type, h.Reason
	var err error
	if f.prev, err = parseHash(h.Prev); err != nil {
		f.bad = "a prev of 64 hex digits"
		return f
	}
	if _, err = parseTime(h.At); err != nil {
		f.bad = "an at of 30 characters"
		return f
	}
	if h.V != formatVersion || h.Emit == 0 || h.Type == "" || h.Seq == 1<<64-1 {
		f.bad = "a record of format version 1"
		return f
	}
	if !f.ownData(h.Data) {
		f.bad = "a well-formed " + f.typ
	}
	return f
}

// ownData reads the payload of those records of the log's own that say
// something about others.
func (f *fact) ownData(data json.RawMessage) bool {
	switch f.typ {
	case typeRotated:
		f.rotated = new(rotated)
		return json.Unmarshal(data, f.rotated) == nil
	case typeStopped:
		f.stopped = new(stopped)
		return json.Unmarshal(data, f.stopped) == nil
	case typeStarted:
		var s started
		err := json.Unmarshal(data, &s)
		f.origin = s.Origin
		return err == nil
	case typeGap:
		var g gap
		err := json.Unmarshal(data, &g)
		if f.reason != gapTornTail {
			f.dropped = g.Dropped
		}
		return err == nil
	}
	return true
}
