package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"time"

	"github.com/llorch/llorch/audit/internal/vfs"
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
	v := &verifier{fsys: fsys, workers: o.Workers, rep: &Report{Findings: []Finding{}}}
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
	workers int
	rep     *Report
	j       *judge
	man     *manifest
	files   []logFile
	sidecar map[string]bool // files that have one
	absent  []string        // files that others seal and that are not there
	later   []Finding       // whole-file findings, told if no line of the file explains them
}

// look reads the manifest first, then which files are closed, then the files:
// in this order a log that is being written cannot look damaged.
func (v *verifier) look() error {
	f, err := v.fsys.Open(manifestName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		b, err := io.ReadAll(io.LimitReader(f, maxManifest))
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		if v.man, err = parseManifest(b); err != nil {
			v.j.add(Broken, where{file: manifestName}, "a manifest", "other bytes")
		}
	}
	missing := f == nil
	entries, err := fs.ReadDir(v.fsys, ".")
	if err != nil {
		return err
	}
	v.sidecar = make(map[string]bool)
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), sidecarSuffix); ok {
			v.sidecar[name] = true
		}
	}
	if entries, err = fs.ReadDir(v.fsys, "."); err != nil {
		return err
	}
	var list []vfs.Entry
	for _, e := range entries {
		if e.Type().IsRegular() {
			list = append(list, vfs.Entry{Name: e.Name()})
		}
	}
	v.files = logFiles(list)
	if missing && len(v.files) == 0 {
		return fmt.Errorf("no log here: %w", fs.ErrNotExist)
	}
	v.rep.Files = len(v.files)
	if missing {
		v.j.add(Missing, where{file: manifestName}, "a manifest, without which a cut end cannot be seen", "none")
	}
	return v.expect()
}

// expect takes over what the manifest says about lines.
func (v *verifier) expect() error {
	if v.man == nil {
		return nil
	}
	v.rep.Origin = v.man.Origin
	v.j.seq = v.man.MinIndex
	for i, m := range v.man.Files {
		hash, err := parseHash(m.LastHash)
		if err != nil {
			return err
		}
		v.j.watch[m.LastSeq] = hash
		if i == 0 && m.FirstSeq > 0 {
			if v.j.prev, err = parseHash(m.FirstPrev); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verifier) has(name string) bool {
	for i := range v.files {
		if v.files[i].String() == name {
			return true
		}
	}
	return false
}

// file judges one file.
func (v *verifier) file(ctx context.Context, i int) error {
	f := &v.files[i]
	last := i == len(v.files)-1
	seal, why, err := v.sealOf(ctx, i)
	if err != nil {
		return err
	}
	limit := int64(-1)
	if seal != nil && why == rotateError {
		limit = int64(seal.PrevBytes)
	}
	src, done, err := v.open(f, limit)
	if err != nil {
		return err
	}
	name := f.String()
	closed := v.sidecar[name]
	v.j.file = name
	r := factReader{workers: v.workers, sum: sha256.New()}
	err = r.read(ctx, src, func(l fact) {
		if !l.lf && last && !closed {
			v.rep.LiveTail = true
			return
		}
		if l.line == 1 {
			v.before(&l)
		}
		v.j.take(&l)
	})
	if err != nil && f.gzip && damaged(err) {
		v.j.add(Broken, v.j.behind(v.j.seq), "a gzip stream", "other bytes")
		err = nil
	}
	if err := errors.Join(err, done()); err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	v.rep.Bytes += r.bytes
	v.whole(f, &r, seal)
	return nil
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
func (v *verifier) whole(f *logFile, r *factReader, seal *rotated) {
	name, digest := f.String(), hex.EncodeToString(r.sum.Sum(nil))
	suspect := func(file string, off int64, want, got string) {
		v.later = append(v.later, Finding{Kind: Broken, File: file, Offset: off, Seq: v.j.seq, Want: want, Got: got})
	}
	switch {
	case seal == nil:
	case r.bytes > int64(seal.PrevBytes):
		suspect(name, int64(seal.PrevBytes), fmt.Sprintf("%d bytes", seal.PrevBytes), fmt.Sprintf("%d bytes", r.bytes))
	case digest != seal.PrevSHA256:
		suspect(name, 0, "sha256 "+seal.PrevSHA256, "sha256 "+digest)
	}
	known := v.man.known(name)
	if !v.sidecar[name] {
		if known != nil && known.SHA256 != "" {
			v.j.add(Missing, where{file: name + sidecarSuffix, seq: known.FirstSeq}, "the sidecar of a closed file", "none")
		}
		return
	}
	text, err := v.readSmall(name + sidecarSuffix)
	if err != nil || text != sidecarText(digest, name) {
		suspect(name+sidecarSuffix, 0, "sha256 "+digest, "another text")
	}
}

func (v *verifier) readSmall(name string) (string, error) {
	f, err := v.fsys.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, 256))
	return string(b), errors.Join(err, f.Close())
}

// sealOf returns what the next file says about file i, if it says anything.
func (v *verifier) sealOf(ctx context.Context, i int) (*rotated, string, error) {
	if i == len(v.files)-1 {
		return nil, "", nil
	}
	src, done, err := v.open(&v.files[i+1], maxLine)
	if err != nil {
		return nil, "", err
	}
	var first fact
	r := factReader{workers: 1, sum: sha256.New()}
	err = r.read(ctx, src, func(l fact) {
		if l.line == 1 {
			first = l
		}
	})
	if err := errors.Join(err, done()); err != nil {
		return nil, "", err
	}
	if first.rotated == nil || first.rotated.PrevFile != v.files[i].String() {
		return nil, "", nil
	}
	return first.rotated, first.reason, nil
}

// open reads a file up to limit bytes; -1 is all of it.
func (v *verifier) open(f *logFile, limit int64) (io.Reader, func() error, error) {
	h, err := v.fsys.Open(f.stored())
	if err != nil {
		return nil, nil, err
	}
	var src io.Reader = h
	if f.gzip {
		if src, err = gunzip(h); damaged(err) {
			src = strings.NewReader("") // its lines are missing
		} else if err != nil {
			return nil, nil, errors.Join(err, h.Close())
		}
	}
	if limit >= 0 {
		src = io.LimitReader(src, limit)
	}
	return src, h.Close, nil
}
