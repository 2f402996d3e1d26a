package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/llorch/llorch/audit/internal/logfile"
)

// rotate ends the current file and begins the next. at is the time of the line
// that is to follow.
func (w *writer) rotate(why string, at time.Time) {
	if len(w.pending) > 0 && !w.sync() {
		return
	}
	old := w.seg
	w.leave(why)
	if err := old.f.Close(); err != nil { // all of it is synced
		w.log.Warn("audit close file", slog.Any("err", err))
	}
	w.begin(at)
}

// leave makes the log one without a file, remembering what the next must tell.
func (w *writer) leave(why string) {
	seal := w.seg.seal()
	w.sealed, w.why, w.rot = &seal, why, nil
	w.chain, w.last = w.seg.good, w.seg.name
	if w.seg.goodSize > 0 {
		w.man.put(w.seg)
	}
	w.seg = nil
	w.retryAt = time.Now().Add(w.retryIn) // at once, unless the files before failed too
}

// failStop gives the current file up. Its descriptor is closed and never
// written or synced again; what was not synced will be written to a new file.
func (w *writer) failStop(why string, cause error) {
	if why == rotateReplaced {
		err := errors.New("audit: a log file was deleted or replaced")
		w.health.set(healthReplaced, err)
		cause = errors.Join(err, cause)
	}
	w.log.Error("audit failed", slog.String("reason", why), slog.Any("err", cause))
	old := w.seg
	w.leave(why)
	_ = old.f.Close() // nothing is expected of it any more
	w.redo = append(w.pending, w.redo...)
	w.pending = nil
	w.health.set(healthWrite, fmt.Errorf("%w: %w", ErrUnavailable, cause))
}

// reopen tries to get a file after a failure, and to write again what was not
// synced.
func (w *writer) reopen(now time.Time) {
	if len(w.redo) > 0 {
		now = w.redo[0].at
	}
	if w.begin(now); w.seg == nil {
		return
	}
	redo := w.redo
	w.redo = nil
	w.commit(redo)
	if w.seg != nil && len(w.pending) > 0 {
		w.sync()
	}
	if w.seg == nil {
		w.giveUp(errors.New("audit: the new file failed too"))
	}
}

// begin makes the next file, with audit.rotated as its first line. On success
// the log can write.
func (w *writer) begin(at time.Time) {
	err := w.create(at)
	if err != nil {
		w.giveUp(err)
		return
	}
	if w.health.set(healthWrite, nil) {
		w.log.Info("audit recovered", slog.String("file", w.seg.name.String()))
	}
	w.told = false
	w.q.setDown(nil)
	if w.seg.name.Number < logfile.MaxNumber {
		w.health.set(healthNames, nil)
	}
	if w.sealed != nil {
		if err := finishFile(w.fsys, w.man, w.sealed, w.why, time.Now()); err != nil { // the next Open does it
			w.log.Warn("audit finish file", slog.String("file", w.sealed.PrevFile), slog.Any("err", err))
		}
		w.sealed, w.rot = nil, nil
	}
	_ = w.saveHead() // Healthy tells
	w.log.Info("audit rotated", slog.String("file", w.seg.name.String()), slog.String("reason", w.why))
}

// giveUp closes the door until the next try.
func (w *writer) giveUp(cause error) {
	err := fmt.Errorf("%w: %w", ErrUnavailable, cause)
	if w.health.set(healthWrite, err) {
		w.log.Error("audit failed", slog.Any("err", cause))
	}
	w.retryIn = min(max(2*w.retryIn, retryFirst), retryMax)
	w.retryAt = time.Now().Add(w.retryIn)
}

// refuse tells those who wait, for what is to be written again or still queued,
// that they cannot rely on it.
func (w *writer) refuse() {
	w.q.settle(slices.Concat(w.q.peek().entries, w.redo), ErrUnavailable)
}

// create makes the file and its first line durable, or leaves nothing behind.
func (w *writer) create(at time.Time) error {
	if err := w.clearLeftover(); err != nil {
		return err
	}
	if w.sealed != nil && w.rot == nil {
		w.rot = w.record(typeRotated, w.why, *w.sealed)
		w.q.number(w.rot)
	}
	if at = wall(at); w.chain.at.After(at) {
		at = w.chain.at
	}
	name, err := w.nextName(logfile.Day(at))
	if err != nil {
		return err
	}
	f, err := w.fsys.Create(name.String())
	if err != nil {
		return err
	}
	seg := newSegment(name, f, w.chain)
	err = w.fsys.SyncDir(".")
	if err == nil && w.rot != nil {
		w.rot.at = at
		if err = seg.add([]*entry{w.rot}); err == nil {
			err = seg.sync()
		}
	}
	if err != nil {
		w.leftover = name.String()
		return errors.Join(err, f.Close(), w.clearLeftover())
	}
	seg.settle()
	w.seg, w.last = seg, name
	if w.rot != nil {
		w.health.synced(seg.good.seq-w.first, seg.good.seq, 0)
	}
	return nil
}

// clearLeftover removes the file of a failed try. As long as it stands no other
// file may follow, for its lines were never acknowledged.
func (w *writer) clearLeftover() error {
	if w.leftover == "" {
		return nil
	}
	if err := errors.Join(removeFile(w.fsys, w.leftover), w.fsys.SyncDir(".")); err != nil {
		return err
	}
	w.leftover = ""
	return nil
}

// nextName is the next free name of the day, or of a later day that already
// has files: names never go back.
func (w *writer) nextName(day string) (logfile.Name, error) {
	if day > w.last.Day {
		return logfile.Name{Day: day}, nil
	}
	n := logfile.Name{Day: w.last.Day, Number: w.last.Number + 1}
	if n.Number > logfile.MaxNumber {
		return n, errors.New("audit: no file number is left for the day")
	}
	return n, nil
}
