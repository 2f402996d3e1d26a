package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/audit/internal/logfile"
)

// VerifyOptions say how to verify. The zero value checks everything.
type VerifyOptions struct {
	// Require is the assurance without which the report is not OK.
	Require Assurance
	// Workers is how many cores to use, 1 to 256; 0 = all.
	Workers int
}

// Verify checks the log in fsys, which may be a live one, and reads only. An
// error means that it could not look; what it saw when it looked is in the
// report. Its memory does not depend on the size of the log.
//
// Without a signed checkpoint the best assurance is [AssuranceChain].
func Verify(ctx context.Context, fsys fs.FS, o VerifyOptions) (*Report, error) {
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if !within(o.Workers, 1, 256) {
		return nil, &FieldError{Field: "Workers", Rule: "must be 0 to 256"}
	}
	began := time.Now()
	open := func(name string) (io.ReadCloser, error) { return fsys.Open(name) }
	v := &verifier{fsys: fsys, open: open, workers: o.Workers, rep: &Report{Findings: []Finding{}}}
	v.j = &judge{rep: v.rep, chain: true, hit: make(map[string]int), gone: make(map[string]bool), watch: make(map[uint64][32]byte)}
	if err := v.look(); err != nil {
		return nil, fmt.Errorf("verify log: %w", err)
	}
	for i := range v.files {
		if err := v.file(ctx, i); err != nil {
			return nil, fmt.Errorf("verify log: %w", err)
		}
	}
	v.conclude()
	if len(v.rep.Findings) == 0 {
		v.rep.Assurance = AssuranceChain
	}
	v.rep.OK = v.rep.Assurance == AssuranceChain && v.rep.Assurance >= o.Require
	v.rep.Took = time.Since(began)
	return v.rep, nil
}

// verifier is one run of Verify.
type verifier struct {
	fsys    fs.FS
	open    opener
	workers int
	rep     *Report
	j       *judge
	man     *manifest
	files   []logfile.File
	sidecar map[string]bool // files that have one
	absent  []string        // files that others seal and that are not there
	later   []Finding       // whole-file findings, told if no line of the file explains them
}

// look reads the manifest first, then which files are closed, then the files:
// in this order a log that is being written cannot look damaged.
func (v *verifier) look() error {
	b, err := v.open.small(manifestName, 0, maxManifest)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return fmt.Errorf("read manifest: %w", err)
	}
	if !missing {
		if v.man, err = parseManifest(b); err != nil {
			v.j.add(Broken, Finding{File: manifestName}, "a manifest", "other bytes")
		}
	}
	entries, err := fs.ReadDir(v.fsys, ".")
	if err != nil {
		return err
	}
	v.sidecar = make(map[string]bool)
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), logfile.Sidecar); ok {
			v.sidecar[name] = true
		}
	}
	if v.files, err = logfile.ReadDir(v.fsys); err != nil {
		return err
	}
	v.rep.Files = len(v.files)
	if missing {
		if len(v.files) == 0 {
			return fmt.Errorf("no log here: %w", fs.ErrNotExist)
		}
		v.j.add(Missing, Finding{File: manifestName}, "a manifest, without which a cut end cannot be seen", "none")
	}
	if v.man != nil {
		v.expect()
	}
	return nil
}

// expect takes over what the manifest says about lines.
func (v *verifier) expect() {
	v.rep.Origin = v.man.Origin
	v.j.seq = v.man.MinIndex
	for i, m := range v.man.Files {
		v.j.watch[m.LastSeq] = m.LastHash
		if i == 0 && m.FirstSeq > 0 {
			v.j.prev = m.FirstPrev
		}
	}
}

func (v *verifier) has(name string) bool {
	return slices.ContainsFunc(v.files, func(f logfile.File) bool { return f.String() == name })
}

// file judges one file.
func (v *verifier) file(ctx context.Context, i int) error {
	f := v.files[i]
	next, err := v.next(i)
	if err != nil {
		return err
	}
	limit := int64(math.MaxInt64)
	if next.rotated != nil && next.reason == rotateError {
		limit = int64(next.rotated.PrevBytes)
	}
	name, sum, end := f.String(), sha256.New(), int64(0)
	live := i == len(v.files)-1 && !v.sidecar[name]
	v.j.file = name
	err = v.open.lines(f, func(src io.Reader) error {
		src = io.TeeReader(io.LimitReader(src, limit), sum)
		return eachFact(ctx, src, v.workers, func(l *fact) {
			end = l.Off + l.Size
			if live && l.bad == noLF {
				v.rep.LiveTail = true
				return
			}
			if l.Number == 1 {
				v.before(l)
			}
			v.j.take(l)
		})
	})
	if err != nil && f.Gzip && logfile.Damaged(err) {
		v.j.add(Broken, v.j.behind(v.j.seq), "a gzip stream", "other bytes")
		err = nil
	}
	if err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	v.rep.Bytes += end
	v.whole(name, hex.EncodeToString(sum.Sum(nil)), end, next.rotated)
	return nil
}

// next is what the file after file i begins with, as far as it speaks of file i.
func (v *verifier) next(i int) (first fact, err error) {
	if i == len(v.files)-1 {
		return fact{}, nil
	}
	first, err = v.open.first(v.files[i+1])
	if err != nil && !logfile.Damaged(err) {
		return fact{}, err
	}
	if first.rotated == nil || first.rotated.PrevFile != v.files[i].String() {
		return fact{}, nil
	}
	return first, nil
}

// before looks, at the first line of a file, whether the file that it seals is
// there.
func (v *verifier) before(first *fact) {
	v.j.absent = ""
	if first.rotated != nil && !v.has(first.rotated.PrevFile) {
		v.j.absent = first.rotated.PrevFile
		v.absent = append(v.absent, first.rotated.PrevFile)
	}
}

// whole compares a file as a whole with what sealed it. A difference that a
// finding within the file explains is no finding of its own.
func (v *verifier) whole(name, digest string, size int64, seal *rotated) {
	suspect := func(file string, off int64, want, got string) {
		v.later = append(v.later, Finding{Kind: Broken, File: file, Offset: off, Seq: v.j.seq, Want: want, Got: got})
	}
	switch {
	case seal == nil:
	case size > int64(seal.PrevBytes):
		suspect(name, int64(seal.PrevBytes), fmt.Sprintf("%d bytes", seal.PrevBytes), fmt.Sprintf("%d bytes", size))
	case digest != seal.PrevSHA256:
		suspect(name, 0, "sha256 "+seal.PrevSHA256, "sha256 "+digest)
	}
	if !v.sidecar[name] {
		if known := v.man.known(name); known != nil && known.SHA256 != "" {
			v.j.add(Missing, Finding{File: name + logfile.Sidecar, Seq: known.FirstSeq}, "the sidecar of a closed file", "none")
		}
		return
	}
	text, err := v.open.small(name+logfile.Sidecar, 0, 256)
	if err != nil || string(text) != sidecarText(digest, name) {
		suspect(name+logfile.Sidecar, 0, "sha256 "+digest, "another text")
	}
}

// conclude tells what only the end shows.
func (v *verifier) conclude() {
	j := v.j
	j.decide(nil)
	if j.run.open {
		v.rep.UncleanRuns++
	}
	for _, f := range v.later {
		if j.hit[strings.TrimSuffix(f.File, logfile.Sidecar)] == 0 {
			j.damage++
			v.rep.add(f)
		}
	}
	v.absentFiles()
	head := v.man.head()
	if head != nil && v.has(head.Name) && j.seq+j.holes <= head.LastSeq {
		at := j.behind(j.seq + j.holes)
		if j.last.File != head.Name {
			at = Finding{File: head.Name, Line: 1, Seq: at.Seq}
		}
		j.add(Truncated, at, fmt.Sprintf("seq %d to %d", at.Seq, head.LastSeq), "the end of the log")
	}
}

// absentFiles reports the files that others speak of.
func (v *verifier) absentFiles() {
	j := v.j
	gone := func(name string, seq uint64, want string) {
		if !v.has(name) && !j.gone[name] {
			j.gone[name] = true
			j.add(Missing, Finding{File: name, Seq: seq}, want, "none")
		}
	}
	if v.man != nil {
		for _, m := range v.man.Files {
			gone(m.Name, m.FirstSeq, fmt.Sprintf("the file with seq %d to %d", m.FirstSeq, m.LastSeq))
		}
	}
	for _, name := range v.absent {
		gone(name, 0, "the file that the next one seals")
	}
	if n := len(v.files); n > 0 && v.sidecar[v.files[n-1].String()] && len(j.gone) == 0 {
		last := v.files[n-1]
		j.add(Missing, Finding{File: last.String(), Seq: j.seq}, "a file after this closed one", "none")
	}
}
