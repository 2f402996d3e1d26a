package audit

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/llorch/llorch/audit/internal/logfile"
)

// fact is what following the chain needs to know of a line.
type fact struct {
	logfile.Line
	bad string // why it is no record; then the rest is not set, save hash

	seq, emit  uint64
	prev, hash [32]byte
	at         time.Time
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

// check reads what has a form of its own, and tells what is not as it must be.
func (h *lineHead) check() (at time.Time, prev [32]byte, bad string) {
	prev, err := parseHash(h.Prev)
	if err != nil {
		return at, prev, "a prev of 64 hex digits"
	}
	if at, err = parseTime(h.At); err != nil {
		return at, prev, "an at of 30 characters"
	}
	if h.V != formatVersion || h.Emit == 0 || h.Type == "" || h.Seq == 1<<64-1 {
		bad = "a record of format version 1"
	}
	return at, prev, bad
}

const noLF = "a line with its LF"

// newFact reads a line.
func newFact(l logfile.Line) fact {
	f := fact{Line: l}
	raw, whole := bytes.CutSuffix(l.Raw, []byte("\n"))
	switch {
	case l.Size > logfile.MaxLine:
		f.bad = "a line of at most 61440 bytes"
		return f
	case !whole:
		f.bad = noLF
		return f
	}
	f.hash = hashLine(raw)
	var h lineHead
	if err := json.Unmarshal(raw, &h); err != nil {
		f.bad = "a record in JSON"
		return f
	}
	f.seq, f.emit, f.typ, f.reason = h.Seq, h.Emit, h.Type, h.Reason
	if f.at, f.prev, f.bad = h.check(); f.bad == "" && !f.ownData(h.Data) {
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
