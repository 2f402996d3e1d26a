package audit

import (
	"fmt"
	"time"
)

// Assurance says how much a passed verification means.
type Assurance uint8

// The levels. AssuranceChain means that every line follows from the one before
// and that the files reach as far as the unsigned manifest says: proof against
// accident and careless edits, not against somebody who recomputes everything.
const (
	AssuranceNone Assurance = iota
	AssuranceChain
)

// String returns none or chain.
func (a Assurance) String() string {
	if a == AssuranceChain {
		return "chain"
	}
	return "none"
}

// MarshalText returns the word of String.
func (a Assurance) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Kind is the kind of a [Finding].
type Kind string

// The kinds of findings.
const (
	// Broken: a line that is no record or does not follow from the one before,
	// bytes beyond what was sealed, or a sidecar or manifest that does not match.
	Broken Kind = "broken"
	// Missing: records, or a file, are not there.
	Missing Kind = "missing"
	// Repeated: records that were there already: inserted, copied or reordered.
	Repeated Kind = "repeated"
	// Truncated: the end is missing.
	Truncated Kind = "truncated"
	// Unaccounted: a clean run emitted more, or less, than records and gaps say.
	Unaccounted Kind = "unaccounted"
)

// Finding is one thing that is wrong, and where. It holds no event content.
type Finding struct {
	Kind   Kind   `json:"kind"`
	File   string `json:"file"`
	Line   int64  `json:"line"`   // from 1; 0 if it is about the whole file
	Offset int64  `json:"offset"` // of the line in its file, in bytes before compression
	Seq    uint64 `json:"seq"`    // of the record that is or should be there
	Want   string `json:"want"`
	Got    string `json:"got"`
}

// String returns the finding in one line.
func (f Finding) String() string {
	place := f.File
	if f.Line > 0 {
		place = fmt.Sprintf("%s line %d offset %d", f.File, f.Line, f.Offset)
	}
	return fmt.Sprintf("%s: %s seq %d: want %s, got %s", f.Kind, place, f.Seq, f.Want, f.Got)
}

const maxFindings = 100 // in one Report

// Report is what [Verify] found.
type Report struct {
	OK          bool          `json:"ok"`        // no finding, and Assurance as required
	Assurance   Assurance     `json:"assurance"` // AssuranceNone with any finding
	Origin      string        `json:"origin"`
	Records     uint64        `json:"records"` // readable lines
	Bytes       int64         `json:"bytes"`   // read, before compression
	Files       int           `json:"files"`
	FirstSeq    uint64        `json:"first_seq"`
	LastSeq     uint64        `json:"last_seq"`
	Head        string        `json:"head"`         // hash of the last line in hex: keep it elsewhere to compare
	LiveTail    bool          `json:"live_tail"`    // the newest file ends in a line that is being written
	UncleanRuns int           `json:"unclean_runs"` // runs without audit.stopped, a running one included
	Findings    []Finding     `json:"findings"`     // at most 100
	More        int           `json:"more"`         // findings beyond those
	Took        time.Duration `json:"took_ns"`
}

func (r *Report) add(f Finding) {
	if len(r.Findings) >= maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}
