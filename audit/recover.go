package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strings"

	"github.com/llorch/llorch/audit/internal/logfile"
	"github.com/llorch/llorch/audit/internal/vfs"
)

const quarantineDir = "quarantine"

// recovery is what the files of a directory tell when it is opened.
type recovery struct {
	fsys  vfs.FS
	open  opener
	log   *slog.Logger
	man   *manifest // as found, and then with what the files tell
	files []logfile.File

	c     chain    // after the last good line
	emit  uint64   // of the last good line
	seg   *segment // the last file, open for writing; nil if there is none
	ended bool     // the last good line is audit.stopped
	clean bool     // the previous run ended well, or there was none
	torn  torn
	lost  uint64 // lines in the torn tail
	orig  string // the origin that the newest audit.started names
}

// recoverLog reads the directory and repairs what a crash may have left. What
// no crash can leave is a [*TamperError], and nothing is changed.
func recoverLog(ctx context.Context, fsys vfs.FS, log *slog.Logger) (*recovery, error) {
	r := &recovery{fsys: fsys, open: openerOf(fsys), log: log, clean: true}
	list, err := fsys.List()
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if f, ok := logfile.Parse(e.Name, e.Size); ok {
			r.files = append(r.files, f)
		}
	}
	r.files = logfile.Sort(r.files)
	if r.man, err = loadManifest(r.open); err != nil {
		return nil, err
	}
	if r.man.Created == "" && len(r.files) > 0 {
		log.Warn("audit manifest is missing or malformed and will be rebuilt")
	}
	if err := r.checkNames(); err != nil {
		return nil, err
	}
	if err := r.dropUnborn(); err != nil {
		return nil, err
	}
	for i := range r.files {
		if err := r.visit(ctx, i); err != nil {
			return nil, err
		}
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name, tempPrefix) {
			if err := removeFile(fsys, e.Name); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// openerOf reads files of the directory that the log owns.
func openerOf(fsys vfs.FS) opener {
	return func(name string) (io.ReadCloser, error) {
		f, err := fsys.Open(name, false)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(f, 0, math.MaxInt64), f}, nil
	}
}

// tampered makes the error for one finding.
func tampered(f Finding) error {
	return &TamperError{Report: &Report{Findings: []Finding{f}}}
}

// checkNames compares the manifest with the listing: a file that it knows must
// be there, and no shorter than it says.
func (r *recovery) checkNames() error {
	for _, m := range r.man.Files {
		i := slices.IndexFunc(r.files, func(f logfile.File) bool { return f.String() == m.Name })
		if i < 0 {
			return tampered(Finding{Kind: Missing, File: m.Name, Seq: m.FirstSeq, Want: "the file", Got: "none"})
		}
		if f := r.files[i]; !f.Gzip && f.Size < m.Bytes {
			return tampered(Finding{
				Kind: Truncated, File: m.Name, Offset: f.Size, Seq: m.LastSeq,
				Want: fmt.Sprintf("%d bytes", m.Bytes), Got: fmt.Sprintf("%d bytes", f.Size),
			})
		}
	}
	return nil
}

// dropUnborn removes a newest file whose first line never became whole: a
// crash between its creation and its first sync. Its bytes go to quarantine.
func (r *recovery) dropUnborn() error {
	for len(r.files) > 0 {
		f := r.files[len(r.files)-1]
		if f.Gzip || r.man.known(f.String()) != nil {
			return nil
		}
		first, err := r.open.first(f)
		if err != nil || first.bad == "" {
			return err
		}
		if err := r.quarantine(f.String(), 0, f.Size); err != nil {
			return err
		}
		if err := errors.Join(r.fsys.Remove(f.String()), r.fsys.SyncDir(".")); err != nil {
			return err
		}
		r.clean = false
		r.files = r.files[:len(r.files)-1]
	}
	return nil
}

// read follows the chain through a file up to limit, and stops at the first
// line that does not fit. head, if given, is what was known to be synced.
func (r *recovery) read(ctx context.Context, f logfile.File, limit int64, head *manifestFile) (*segment, *Finding, error) {
	seg := newSegment(f.Name, nil, r.c)
	var bad *Finding
	err := r.open.lines(f, func(src io.Reader) error {
		for l, err := range logfile.Lines(io.LimitReader(src, limit)) {
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			line := newFact(l)
			want := line.misfit(r.c)
			if head != nil && want == "" && l.Off+l.Size == head.Bytes && line.hash != head.LastHash {
				want = "hash " + hex.EncodeToString(head.LastHash[:])
			}
			if want != "" {
				bad = &Finding{Kind: Broken, File: f.String(), Line: l.Number, Offset: l.Off, Seq: r.c.seq, Want: want, Got: "another"}
				return nil
			}
			r.follow(seg, &line)
		}
		return nil
	})
	seg.size, seg.next, seg.good = seg.goodSize, r.c, r.c
	return seg, bad, err
}

// follow takes a line of a file over.
func (r *recovery) follow(seg *segment, l *fact) {
	if seg.goodSize == 0 {
		seg.firstAt = l.at
	}
	seg.sum.Write(l.Raw)
	seg.goodSize += l.Size
	r.c = chain{seq: l.seq + 1, prev: l.hash, at: l.at}
	r.emit, r.ended, r.orig = l.emit, l.typ == typeStopped, cmp.Or(l.origin, r.orig)
}

// misfit returns what a line would have to be to follow c, or "".
func (f *fact) misfit(c chain) string {
	switch {
	case f.bad != "":
		return f.bad
	case f.seq != c.seq:
		return fmt.Sprintf("seq %d", c.seq)
	case f.prev != c.prev:
		return "prev " + hex.EncodeToString(c.prev[:])
	case f.at.Before(c.at):
		return "an at not before that of the line before"
	}
	return ""
}

// quarantine keeps bytes that are about to be cut off.
func (r *recovery) quarantine(name string, off, end int64) error {
	if off == end {
		return nil
	}
	b, err := r.open.small(name, off, end-off)
	if err == nil && int64(len(b)) < end-off {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read torn tail: %w", err)
	}
	if err := errors.Join(r.fsys.Mkdir(quarantineDir), r.fsys.SyncDir(".")); err != nil {
		return err
	}
	kept := fmt.Sprintf("%s/%s.%d.torn", quarantineDir, name, off)
	if err := replaceFile(r.fsys, kept, b, 0o400); err != nil {
		return fmt.Errorf("write quarantine: %w", err)
	}
	sum := sha256.Sum256(b)
	r.torn = torn{Bytes: uint64(len(b)), File: name, Offset: uint64(off), SHA256: hex.EncodeToString(sum[:])}
	r.lost += uint64(bytes.Count(b, []byte("\n")))
	if b[len(b)-1] != '\n' {
		r.lost++
	}
	r.log.Warn("audit torn tail", slog.String("file", name), slog.Int64("offset", off), slog.Int("bytes", len(b)))
	return nil
}

// removeFile removes a file that need not be there.
func removeFile(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
