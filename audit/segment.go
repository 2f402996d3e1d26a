package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/llorch/llorch/audit/internal/logfile"
	"github.com/llorch/llorch/audit/internal/vfs"
)

// chain is the state between two lines.
type chain struct {
	seq  uint64   // of the next line
	prev [32]byte // hash of the last line
	at   time.Time
}

// segment is the open file. The writer owns it. What is beyond goodSize is
// written but not known to be on the disk.
type segment struct {
	name      logfile.Name
	f         vfs.File
	firstSeq  uint64
	firstPrev [32]byte
	firstAt   time.Time

	next     chain // after the last written line
	size     int64
	good     chain // after the last synced line
	goodSize int64
	sum      hash.Hash // over the synced bytes
	dirty    []byte    // the bytes from goodSize to size, for sum
}

func newSegment(name logfile.Name, f vfs.File, c chain) *segment {
	return &segment{name: name, f: f, firstSeq: c.seq, firstPrev: c.prev, next: c, good: c, sum: sha256.New()}
}

// add encodes entries after what is written, and writes them with one write. On
// an error nothing of them counts as written.
func (s *segment) add(entries []*entry) error {
	from := len(s.dirty)
	c := s.next
	for _, e := range entries {
		if e.at.After(c.at) {
			c.at = e.at
		}
		if c.seq == s.firstSeq {
			s.firstAt = c.at
		}
		start := len(s.dirty)
		s.dirty = e.appendLine(s.dirty, place(c))
		hash := sha256.Sum256(s.dirty[start:])
		if !e.settled {
			e.receipt = Receipt{Seq: c.seq, ID: e.id, At: c.at, Hash: hash}
		}
		c.seq, c.prev = c.seq+1, hash
	}
	if err := s.write(s.dirty[from:]); err != nil {
		s.dirty = s.dirty[:from]
		return err
	}
	s.next = c
	s.size = s.goodSize + int64(len(s.dirty))
	return nil
}

// write puts b at the end. A failed attempt is cut off and tried once more,
// since a full disk may have found room.
func (s *segment) write(b []byte) error {
	_, err := s.f.WriteAt(b, s.size)
	if err == nil {
		return nil
	}
	if cut := s.f.Truncate(s.size); cut != nil {
		return fmt.Errorf("write lines: %w", errors.Join(err, cut))
	}
	if _, err = s.f.WriteAt(b, s.size); err != nil {
		return fmt.Errorf("write lines: %w", errors.Join(err, s.f.Truncate(s.size)))
	}
	return nil
}

// sync makes what is written durable. After an error the file must not be used
// again: a later sync could succeed over pages that were lost.
func (s *segment) sync() error {
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("sync lines: %w", err)
	}
	return nil
}

// settle makes what is synced the state to come back to.
func (s *segment) settle() {
	s.sum.Write(s.dirty)
	if cap(s.dirty) > 2*batchMaxBytes {
		s.dirty = nil
	}
	s.dirty = s.dirty[:0]
	s.good, s.goodSize = s.next, s.size
}

// digest is the SHA-256 of the synced bytes.
func (s *segment) digest() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// seal describes the segment for the record that begins the next file.
func (s *segment) seal() rotated {
	return rotated{
		PrevBytes: uint64(s.goodSize), PrevFile: s.name.String(), PrevFirstSeq: s.firstSeq,
		PrevRecords: s.good.seq - s.firstSeq, PrevSHA256: s.digest(), What: rotatedFile,
	}
}
