package audit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// visit follows the chain through file i. A file that the manifest knows as
// finished is taken from there; any other is read, and finished unless it is the
// last, which is made ready to go on.
func (r *recovery) visit(ctx context.Context, i int, old *manifest) error {
	f := &r.files[i]
	known, last := old.known(f.String()), i == len(r.files)-1
	if !last && known != nil && known.SHA256 != "" {
		return r.trust(known)
	}
	if r.man == nil {
		r.man = &manifest{V: formatVersion, Files: []manifestFile{}}
	}
	if last {
		return r.resume(ctx, f, known)
	}
	next, err := r.firstLine(&r.files[i+1])
	if err != nil {
		return err
	}
	seal := next.rotated
	if seal == nil || seal.PrevFile != f.String() || !f.gzip && int64(seal.PrevBytes) > f.size {
		return tampered(Finding{
			Kind: Broken, File: r.files[i+1].String(), Line: 1, Seq: next.seq,
			Want: "audit.rotated that seals " + f.String(), Got: "another record",
		})
	}
	seg, bad, err := r.read(ctx, f, int64(seal.PrevBytes), nil)
	if err != nil {
		return err
	}
	if bad == nil && (seg.goodSize != int64(seal.PrevBytes) || seg.digest() != seal.PrevSHA256) {
		bad = &Finding{Kind: Broken, File: f.String(), Seq: seg.firstSeq, Want: "the sealed bytes", Got: "others"}
	}
	if bad != nil {
		return tampered(*bad)
	}
	r.man.put(entryOf(seg))
	if f.gzip { // somebody finished it already
		next.reason = rotateReplaced
	}
	if err := finishFile(r.fsys, r.man, seal, next.reason, time.Now()); err != nil {
		r.log.Warn("audit finish file", slog.String("file", f.String()), slog.Any("err", err))
	}
	return nil
}

// trust takes the chain from the entry of a closed file.
func (r *recovery) trust(m *manifestFile) error {
	hash, err := parseHash(m.LastHash)
	if err != nil {
		return err
	}
	at, err := parseTime(m.LastAt)
	if err != nil {
		return err
	}
	r.c = chain{seq: m.LastSeq + 1, prev: hash, at: at}
	r.man.Files = append(r.man.Files, *m)
	return nil
}

// resume reads the last file, cuts a torn tail off and opens it for writing.
func (r *recovery) resume(ctx context.Context, f *logFile, known *manifestFile) error {
	if f.gzip {
		return tampered(Finding{Kind: Missing, File: f.String(), Want: "the open file", Got: "a compressed one"})
	}
	seg, bad, err := r.read(ctx, f, f.size, known)
	if err != nil {
		return err
	}
	if bad != nil && (known != nil && seg.goodSize < known.Bytes || seg.goodSize == 0) {
		return tampered(*bad)
	}
	h, err := r.fsys.Open(f.String(), true)
	if err != nil {
		return err
	}
	seg.f, r.seg = h, seg
	r.clean = r.clean && r.ended
	if bad != nil {
		r.clean = false
		if err := r.quarantine(f.String(), seg.goodSize, f.size); err != nil {
			return err
		}
		if err := errors.Join(h.Truncate(seg.goodSize), h.Sync()); err != nil {
			return fmt.Errorf("cut torn tail: %w", err)
		}
	}
	synced := int64(0)
	if known != nil {
		synced = known.Bytes
	}
	if synced < seg.goodSize {
		return redirty(seg, synced)
	}
	return nil
}

// redirty writes bytes over themselves that are not known to be synced. If a
// sync failed before the process ended, the page cache may hold lines that the
// disk never got and that no later sync would write.
func redirty(s *segment, from int64) error {
	b := make([]byte, 1<<20)
	for off := from; off < s.goodSize; {
		p := b[:min(int64(len(b)), s.goodSize-off)]
		n, err := s.f.ReadAt(p, off)
		if n < len(p) {
			return fmt.Errorf("read newest lines: %w", err)
		}
		if _, err := s.f.WriteAt(p, off); err != nil {
			return fmt.Errorf("write newest lines again: %w", err)
		}
		off += int64(n)
	}
	return s.sync()
}

// read follows the chain through a file up to limit, and stops at the first
// line that does not fit. head, if given, is what was known to be synced.
func (r *recovery) read(ctx context.Context, f *logFile, limit int64, head *manifestFile) (*segment, *Finding, error) {
	seg := newSegment(f.fileName, nil, r.c)
	at := ""
	if !r.c.at.IsZero() {
		at = formatTime(r.c.at)
	}
	var bad *Finding
	var end fact
	err := r.eachLine(ctx, f, limit, func(l fact, raw []byte) bool {
		if want := l.misfit(r.c, at); want != "" {
			bad = &Finding{Kind: Broken, File: f.String(), Line: l.line, Offset: l.off, Seq: r.c.seq, Want: want, Got: "another"}
			return false
		}
		if l.line == 1 {
			seg.firstAt, _ = parseTime(l.at) // newFact has checked it
		}
		r.c.seq, r.c.prev, at, end = l.seq+1, l.hash, l.at, l
		seg.sum.Write(raw)
		seg.goodSize += int64(len(raw))
		if l.origin != "" {
			r.orig = l.origin
		}
		if head != nil && seg.goodSize == head.Bytes && hex.EncodeToString(l.hash[:]) != head.LastHash {
			bad = &Finding{Kind: Broken, File: f.String(), Line: l.line, Offset: l.off, Seq: l.seq, Want: "hash " + head.LastHash, Got: "another"}
			seg.goodSize = l.off
			return false
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	if end.typ != "" {
		r.emit = end.emit
		r.c.at, err = parseTime(end.at)
		r.ended = end.typ == typeStopped
	}
	seg.size, seg.next, seg.good = seg.goodSize, r.c, r.c
	return seg, bad, err
}

// misfit returns what a line would have to be to follow c, or "".
func (f *fact) misfit(c chain, at string) string {
	switch {
	case f.bad != "":
		return f.bad
	case f.seq != c.seq:
		return fmt.Sprintf("seq %d", c.seq)
	case f.prev != c.prev:
		return "prev " + hex.EncodeToString(c.prev[:])
	case f.at < at:
		return "an at not before that of the line before"
	}
	return ""
}
