package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/llorch/llorch/audit/internal/logfile"
	"github.com/llorch/llorch/audit/internal/vfs"
)

// visit follows the chain through file i. A file that the manifest knows as
// finished is taken from there; any other is read, and finished unless it is the
// last, which is made ready to go on.
func (r *recovery) visit(ctx context.Context, i int) error {
	f := r.files[i]
	known := r.man.known(f.String())
	switch {
	case i == len(r.files)-1:
		return r.resume(ctx, f, known)
	case known != nil && known.SHA256 != "":
		at, err := parseTime(known.LastAt)
		r.c = chain{seq: known.LastSeq + 1, prev: known.LastHash, at: at}
		return err
	}
	next, err := r.open.first(r.files[i+1])
	if err != nil {
		return err
	}
	seal := next.rotated
	if seal == nil || seal.PrevFile != f.String() || !f.Gzip && int64(seal.PrevBytes) > f.Size {
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
	r.man.put(seg)
	if f.Gzip { // somebody finished it already
		next.reason = rotateReplaced
	}
	if err := finishFile(r.fsys, r.man, seal, next.reason, time.Now()); err != nil {
		r.log.Warn("audit finish file", slog.String("file", f.String()), slog.Any("err", err))
	}
	return nil
}

// resume reads the last file, cuts a torn tail off and opens it for writing.
func (r *recovery) resume(ctx context.Context, f logfile.File, known *manifestFile) error {
	if f.Gzip {
		return tampered(Finding{Kind: Missing, File: f.String(), Want: "the open file", Got: "a compressed one"})
	}
	seg, bad, err := r.read(ctx, f, f.Size, known)
	if err != nil {
		return err
	}
	synced := int64(0)
	if known != nil {
		synced = known.Bytes
	}
	if bad != nil && (seg.goodSize < synced || seg.goodSize == 0) {
		return tampered(*bad)
	}
	h, err := r.fsys.Open(f.String(), true)
	if err != nil {
		return err
	}
	seg.f, r.seg = h, seg
	r.clean = r.clean && r.ended && bad == nil
	if bad != nil {
		if err := r.quarantine(f.String(), seg.goodSize, f.Size); err != nil {
			return err
		}
		if err := errors.Join(h.Truncate(seg.goodSize), h.Sync()); err != nil {
			return fmt.Errorf("cut torn tail: %w", err)
		}
	}
	return redirty(seg, synced)
}

// redirty writes bytes over themselves that are not known to be synced. If a
// sync failed before the process ended, the page cache may hold lines that the
// disk never got and that no later sync would write.
func redirty(s *segment, from int64) error {
	if from >= s.goodSize {
		return nil
	}
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

// finishFile completes a sealed file: sidecar, mode 0400, and its entry in the
// manifest, which the caller saves. Every step may be repeated. A file that was
// given up after an error may hold more than was sealed, so it gets no sidecar;
// one that was replaced is not ours to touch.
func finishFile(fsys vfs.FS, m *manifest, seal *rotated, why string, now time.Time) error {
	entry := m.known(seal.PrevFile)
	if entry != nil {
		entry.State, entry.Closed, entry.Bytes = stateClosed, formatTime(now), int64(seal.PrevBytes)
	}
	if why == rotateReplaced {
		return nil
	}
	if why != rotateError {
		text := sidecarText(seal.PrevSHA256, seal.PrevFile)
		if err := replaceFile(fsys, seal.PrevFile+logfile.Sidecar, []byte(text), 0o400); err != nil {
			return err
		}
	}
	f, err := fsys.Open(seal.PrevFile, false)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o400), f.Close()); err != nil {
		return err
	}
	if entry != nil && why != rotateError {
		entry.SHA256 = seal.PrevSHA256
	}
	return nil
}

// sidecarText is a line as sha256sum -c reads it.
func sidecarText(digest, name string) string { return digest + "  " + name + "\n" }
