package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/llorch/llorch/audit/internal/vfs"
)

const quarantineDir = "quarantine"

// recovery is what the files of a directory tell when it is opened.
type recovery struct {
	fsys  vfs.FS
	log   *slog.Logger
	man   *manifest // as found, nil if there is none; then as rebuilt
	files []logFile

	c     chain    // after the last good line
	emit  uint64   // of the last good line
	seg   *segment // the last file, open for writing; nil if there is none
	ended bool     // the last good line is audit.stopped
	clean bool     // the previous run ended well, or there was none
	torn  torn
	lost  uint64 // lines in the torn tail
	orig  string // the origin that the newest audit.started names
}

// logFile is a file of lines in the directory.
type logFile struct {
	fileName
	size int64
	gzip bool
}

// stored is the name that the file has on the disk.
func (f *logFile) stored() string {
	if f.gzip {
		return f.String() + gzipSuffix
	}
	return f.String()
}

// logFiles picks the files of lines from a listing, in their order.
func logFiles(list []vfs.Entry) []logFile {
	var files []logFile
	for _, e := range list {
		base, zipped := strings.CutSuffix(e.Name, gzipSuffix)
		if n, err := parseFileName(base); err == nil {
			files = append(files, logFile{fileName: n, size: e.Size, gzip: zipped})
		}
	}
	slices.SortFunc(files, func(a, b logFile) int {
		if c := a.compare(b.fileName); c != 0 || a.gzip == b.gzip {
			return c
		}
		if a.gzip { // the plain one comes first, and is the one to use
			return 1
		}
		return -1
	})
	return slices.CompactFunc(files, func(a, b logFile) bool { return a.fileName == b.fileName })
}

// recoverLog reads the directory and repairs what a crash may have left. What
// no crash can leave is a [*TamperError], and nothing is changed.
func recoverLog(ctx context.Context, fsys vfs.FS, log *slog.Logger) (*recovery, error) {
	r := &recovery{fsys: fsys, log: log, clean: true}
	list, err := fsys.List(".")
	if err != nil {
		return nil, err
	}
	r.files = logFiles(list)
	if r.man, err = loadManifest(fsys); errors.Is(err, errManifest) {
		r.man = nil
	} else if err != nil {
		return nil, err
	}
	if r.man == nil && len(r.files) > 0 {
		log.Warn("audit manifest is missing or malformed and will be rebuilt")
	}
	if err := r.checkNames(); err != nil {
		return nil, err
	}
	if err := r.dropUnborn(); err != nil {
		return nil, err
	}
	old := r.man
	if r.man != nil {
		r.man = &manifest{Created: old.Created, Origin: old.Origin, Service: old.Service, V: formatVersion, Files: []manifestFile{}}
	}
	for i := range r.files {
		if err := r.visit(ctx, i, old); err != nil {
			return nil, err
		}
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name, tempPrefix) {
			if err := fsys.Remove(e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return r, nil
}

// tampered makes the error for one finding.
func tampered(f Finding) error {
	return &TamperError{Report: &Report{Findings: []Finding{f}}}
}

// checkNames compares the manifest with the listing: a file that it knows must
// be there, and no shorter than it says.
func (r *recovery) checkNames() error {
	if r.man == nil {
		return nil
	}
	for _, m := range r.man.Files {
		i := slices.IndexFunc(r.files, func(f logFile) bool { return f.String() == m.Name })
		if i < 0 {
			return tampered(Finding{Kind: Missing, File: m.Name, Seq: m.FirstSeq, Want: "the file", Got: "none"})
		}
		if f := r.files[i]; !f.gzip && f.size < m.Bytes {
			return tampered(Finding{
				Kind: Truncated, File: m.Name, Offset: f.size, Seq: m.LastSeq,
				Want: fmt.Sprintf("%d bytes", m.Bytes), Got: fmt.Sprintf("%d bytes", f.size),
			})
		}
	}
	return nil
}

// known returns the entry that a manifest has for a file, or nil.
func (m *manifest) known(name string) *manifestFile {
	if m == nil {
		return nil
	}
	for i := range m.Files {
		if m.Files[i].Name == name {
			return &m.Files[i]
		}
	}
	return nil
}

// dropUnborn removes a newest file whose first line never became whole: a
// crash between its creation and its first sync. Its bytes go to quarantine.
func (r *recovery) dropUnborn() error {
	for len(r.files) > 0 {
		f := &r.files[len(r.files)-1]
		if f.gzip || r.man.known(f.String()) != nil {
			return nil
		}
		first, err := r.firstLine(f)
		if err != nil {
			return err
		}
		if first.bad == "" {
			return nil
		}
		if err := r.quarantine(f.String(), 0, f.size); err != nil {
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

// firstLine reads the first line of a file.
func (r *recovery) firstLine(f *logFile) (fact, error) {
	var first fact
	err := r.eachLine(context.Background(), f, f.size, func(l fact, _ []byte) bool {
		first = l
		return false
	})
	if first.size == 0 {
		first.bad = "a line"
	}
	return first, err
}

// eachLine calls do for the lines of a file, up to limit bytes of a plain one,
// until it returns false.
func (r *recovery) eachLine(ctx context.Context, lf *logFile, limit int64, do func(fact, []byte) bool) error {
	f, err := r.fsys.Open(lf.stored(), false)
	if err != nil {
		return err
	}
	var src io.Reader = io.NewSectionReader(f, 0, limit)
	if lf.gzip {
		if src, err = gunzip(io.NewSectionReader(f, 0, lf.size)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	lines := bufio.NewReaderSize(src, maxLine+1)
	var off, n int64
	for err == nil {
		var raw []byte
		raw, err = lines.ReadSlice('\n')
		if len(raw) == 0 {
			break
		}
		body, whole := bytes.CutSuffix(raw, []byte("\n"))
		l := newFact(body, whole)
		n++
		l.off, l.line = off, n
		off += int64(len(raw))
		if !do(l, raw) {
			err = nil
			break
		}
		if n%1024 == 0 && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// quarantine keeps bytes that are about to be cut off.
func (r *recovery) quarantine(name string, off, end int64) error {
	if off == end {
		return nil
	}
	f, err := r.fsys.Open(name, false)
	if err != nil {
		return err
	}
	b := make([]byte, end-off)
	n, err := f.ReadAt(b, off)
	if err = errors.Join(err, f.Close()); n != len(b) {
		return fmt.Errorf("read torn tail: %w", err)
	}
	if err := errors.Join(r.fsys.Mkdir(quarantineDir), r.fsys.SyncDir(".")); err != nil {
		return err
	}
	kept := fmt.Sprintf("%s/%s.%d.torn", quarantineDir, name, off)
	if err := keepFile(r.fsys, kept, b); err != nil {
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

// keepFile writes a file into quarantine, over the remains of an earlier try.
func keepFile(fsys vfs.FS, name string, b []byte) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = errors.Join(f.Chmod(0o400), f.Sync())
	}
	return errors.Join(err, f.Close(), fsys.SyncDir(quarantineDir))
}
