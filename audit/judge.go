package audit

import (
	"encoding/hex"
	"fmt"
	"time"
)

// judge follows the chain over all files, line by line, and reports where it
// does not hold. It goes on after a finding, so that one damage is one finding
// wherever that can be told.
type judge struct {
	rep  *Report
	file string // the one that the lines come from

	// What the next line must be.
	seq   uint64
	prev  [32]byte
	chain bool // prev is known: the line before was readable
	at    time.Time
	hurt  bool   // the line before is a finding already: its hash means nothing
	blame bool   // so is the present one
	holes uint64 // unreadable lines since the line before

	last    Finding // the last line in order
	end     int64   // offset behind it
	suspect suspect // a prev that did not match, until the line after decides
	block   block   // out-of-order lines that follow from one another
	watch   map[uint64][32]byte

	run     runCount
	gone    map[string]bool // files reported as missing
	absent  string          // first line of a file: the file before it, if that is not there
	damage  int             // findings so far
	hit     map[string]int  // the same by file
	inOrder uint64          // lines that were in their place
}

// suspect is a pair of lines whose link does not hold: either the older was
// changed, or the prev of the newer. One of the findings will be told.
type suspect struct {
	on           bool
	older, newer Finding
	hash         [32]byte // of the newer
}

type block struct {
	on   bool
	seq  uint64
	prev [32]byte
}

// add tells a finding at a place.
func (j *judge) add(k Kind, at Finding, want, got string) {
	at.Kind, at.Want, at.Got = k, want, got
	j.damage++
	j.hit[at.File]++
	j.rep.add(at)
}

// take judges one line.
func (j *judge) take(f *fact) {
	at := Finding{File: j.file, Line: f.Number, Offset: f.Off, Seq: f.seq}
	if f.bad != "" {
		j.unreadable(f, at)
		return
	}
	j.rep.Records++
	if j.inOrder == 0 {
		j.rep.FirstSeq = f.seq
	}
	switch {
	case j.holes == 0 && f.seq == j.seq:
	case j.holes == 0 && j.chain && !j.hurt && f.prev == j.prev && !(j.block.on && f.seq == j.block.seq):
		at.Seq = j.seq
		j.add(Broken, at, fmt.Sprintf("seq %d", j.seq), fmt.Sprintf("seq %d", f.seq))
		j.blame = true
		j.follow(f, at)
		return
	case f.seq < j.seq:
		j.outOfOrder(f, at)
		return
	case f.seq > j.seq+j.holes:
		j.jump(f, at)
		j.chain = false
	default: // somewhere in the place of the unreadable lines
		j.chain = false
	}
	j.link(f, at)
	j.follow(f, at)
}

// unreadable counts a line that is no record as one record that is not there.
func (j *judge) unreadable(f *fact, at Finding) {
	j.decide(nil)
	at.Seq = j.seq + j.holes
	got := "other bytes"
	if f.bad == noLF {
		got = "no LF"
	}
	j.add(Broken, at, f.bad, got)
	j.holes++
	j.chain = false
}

// jump reports the records between the expected one and this one.
func (j *judge) jump(f *fact, at Finding) {
	first := j.seq + j.holes
	at.Seq = first
	if f.Number == 1 && f.rotated != nil && j.holes == 0 { // it tells where they belong
		switch before := f.rotated.PrevFile; {
		case j.absent != "":
			at = Finding{File: j.absent, Seq: first}
			j.gone[j.absent] = true
		case before == j.last.File:
			at = j.behind(first)
		default:
			at = Finding{File: before, Line: 1, Seq: first}
		}
	}
	j.add(Missing, at, fmt.Sprintf("seq %d to %d", first, f.seq-1), fmt.Sprintf("seq %d", f.seq))
}

// behind is the place after the last line in order.
func (j *judge) behind(seq uint64) Finding {
	return Finding{File: j.last.File, Line: j.last.Line + 1, Offset: j.end, Seq: seq}
}

// outOfOrder reports a line whose seq was there before. Lines that follow from
// it are one finding with it.
func (j *judge) outOfOrder(f *fact, at Finding) {
	if !j.block.on || f.seq != j.block.seq || f.prev != j.block.prev {
		j.add(Repeated, at, fmt.Sprintf("seq %d", j.seq), fmt.Sprintf("seq %d", f.seq))
	}
	j.block = block{on: true, seq: f.seq + 1, prev: f.hash}
}

// link checks that the line follows from the one before.
func (j *judge) link(f *fact, at Finding) {
	j.decide(&f.prev)
	fits := !j.chain || j.hurt || f.prev == j.prev
	switch {
	case !fits:
		j.suspect = suspect{on: true, older: j.last, newer: at, hash: f.hash}
		want, got := hex.EncodeToString(j.prev[:]), hex.EncodeToString(f.prev[:])
		j.suspect.older.Want, j.suspect.older.Got = "hash "+got, "hash "+want
		j.suspect.newer.Want, j.suspect.newer.Got = "prev "+want, "prev "+got
		if j.inOrder == 0 { // nothing older that could have changed
			j.blameNewer(&j.blame)
		}
	case f.at.Before(j.at):
		j.add(Broken, at, "an at not before that of the line before", "an earlier one")
	}
	if want, ok := j.watch[f.seq]; ok {
		j.watched(f, at, want)
	}
}

// watched compares the line with what the manifest says about it, which also
// decides a suspicion.
func (j *judge) watched(f *fact, at Finding, want [32]byte) {
	switch {
	case j.suspect.on && f.hash == want:
		j.blameOlder()
	case j.suspect.on:
		j.blameNewer(&j.blame)
	case f.hash != want:
		j.add(Broken, at, "hash "+hex.EncodeToString(want[:]), "hash "+hex.EncodeToString(f.hash[:]))
		j.blame = true
	}
}

// decide resolves a suspicion with the prev of the next line, or without it.
func (j *judge) decide(next *[32]byte) {
	switch {
	case !j.suspect.on:
	case next != nil && *next != j.suspect.hash:
		j.blameNewer(&j.hurt)
	default:
		j.blameOlder()
	}
}

func (j *judge) blameOlder() {
	s := j.suspect.older
	j.suspect = suspect{}
	j.add(Broken, s, s.Want, s.Got)
}

// blameNewer reports the newer line, and notes that the prev of the one after
// it is no second finding.
func (j *judge) blameNewer(noted *bool) {
	s := j.suspect.newer
	j.suspect = suspect{}
	j.add(Broken, s, s.Want, s.Got)
	*noted = true
}

// follow makes the line the one that the next must follow from.
func (j *judge) follow(f *fact, at Finding) {
	j.run.count(j, f, at)
	j.hurt, j.blame = j.blame, false
	j.seq, j.prev, j.chain = at.Seq+1, f.hash, true
	if f.at.After(j.at) {
		j.at = f.at
	}
	j.holes, j.block, j.last, j.end = 0, block{}, at, f.Off+f.Size
	j.inOrder++
	j.rep.LastSeq, j.rep.Head = at.Seq, hex.EncodeToString(f.hash[:])
	if f.origin != "" {
		j.rep.Origin = f.origin
	}
}

// runCount checks, for every run that ended well, that what was emitted is what
// was recorded plus what gap records tell.
type runCount struct {
	open    bool
	whole   bool // seen from its first record
	damage  int  // findings before it
	records uint64
	dropped uint64
	seq     uint64 // of its first record
}

func (r *runCount) count(j *judge, f *fact, at Finding) {
	if f.emit == 1 { // the first record of a run
		if r.open {
			j.rep.UncleanRuns++
		}
		*r = runCount{open: true, whole: true, damage: j.damage, seq: f.seq}
	}
	if !r.open {
		*r = runCount{open: true, damage: j.damage, seq: f.seq}
	}
	r.records++
	r.dropped += f.dropped
	if f.stopped == nil {
		return
	}
	s := f.stopped
	if r.whole && r.damage == j.damage && !j.suspect.on &&
		(s.Records != r.records || s.Dropped != r.dropped || s.Emitted != r.records+r.dropped) {
		j.add(Unaccounted, at,
			fmt.Sprintf("%d records and %d dropped in the run from seq %d", s.Records, s.Dropped, r.seq),
			fmt.Sprintf("%d and %d of %d", r.records, r.dropped, s.Emitted))
	}
	*r = runCount{}
}
