package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// start locks the directory, recovers it and makes audit.started durable.
func (w *writer) start(ctx context.Context) error {
	began := time.Now()
	w.runID = newID(began)
	lock, err := w.fsys.Lock("lock", fmt.Sprintf("%d %s %s", os.Getpid(), hostname(), w.runID))
	if err != nil {
		return err
	}
	w.lock = lock
	r, err := recoverLog(ctx, w.fsys, w.log)
	if err != nil {
		return fmt.Errorf("recover log: %w", err)
	}
	if err := w.adopt(r); err != nil {
		return err
	}
	if err := w.announce(r); err != nil {
		return err
	}
	w.log.Info("audit opened", slog.Uint64("records", w.seg.good.seq), slog.Uint64("torn_bytes", r.torn.Bytes),
		slog.Duration("took", time.Since(began)))
	return nil
}

// adopt takes over what recovery found, and writes the manifest before any
// line: from then on a directory with lines and without one has lost it.
func (w *writer) adopt(r *recovery) error {
	w.seg, w.chain, w.first, w.man = r.seg, r.c, r.c.seq, r.man
	w.man.Created = cmp.Or(w.man.Created, formatTime(time.Now()))
	w.man.Service = w.cfg.Service
	w.man.Origin = cmp.Or(w.cfg.Origin, w.man.Origin, r.orig)
	if w.man.Origin == "" {
		w.man.Origin = hostname() + "/" + w.cfg.Service + "/" + w.runID[len(w.runID)-8:]
	}
	if r.seg != nil {
		w.last = r.seg.name
		w.man.put(r.seg)
	}
	return w.man.save(w.fsys)
}

// announce writes the first records of the run: audit.started and, after a torn
// tail, the gap record. The first of all has emit 1, also if the file was full
// or of an earlier day: then it is audit.rotated.
func (w *writer) announce(r *recovery) error {
	first := w.record(typeStarted, "", started{
		Host: hostname(), Origin: w.man.Origin, PID: uint32(os.Getpid()), PrevClean: r.clean,
		Run: w.runID, Torn: r.torn, Version: w.cfg.Version,
	})
	if w.seg == nil {
		if err := w.create(first.at); err != nil {
			return err
		}
	}
	w.tell(first)
	if r.lost > 0 {
		at := r.c.at
		if at.IsZero() {
			at = first.at
		}
		w.tell(w.record(typeGap, gapTornTail, gap{
			ByType: map[string]uint64{gapOther: r.lost}, Dropped: r.lost,
			EmitFirst: r.emit + 1, EmitLast: r.emit + r.lost, FirstAt: at, LastAt: at,
		}))
	}
	if w.seg == nil || !w.sync() {
		return errors.Join(errors.New("audit: write the first record"), w.health.err())
	}
	w.lookAt = time.Now().Add(lookEvery)
	_ = w.saveHead() // Healthy tells
	return nil
}

// tell writes a record of the log's own. A new file comes before it is
// numbered, since audit.rotated then stands before it.
func (w *writer) tell(e *entry) {
	if w.makeRoom(e) {
		w.q.number(e)
		w.commit([]*entry{e})
	}
}

// makeRoom rotates if e does not fit, and reports whether there is a file.
func (w *writer) makeRoom(e *entry) bool {
	if w.seg != nil {
		if n, why := w.fit([]*entry{e}); n == 0 {
			w.rotate(why, e.at)
		}
	}
	return w.seg != nil
}

// stop ends the run with audit.stopped and gives the directory back. After an
// abort, or if nothing can be written, it says how many events are lost.
func (w *writer) stop() error {
	var err error
	if !w.abort.Load() {
		err = w.farewell()
	}
	n := w.q.unsettled()
	w.redo = append(w.pending, w.redo...)
	w.refuse()
	switch {
	case w.abort.Load():
		err = fmt.Errorf("close log: %w: %s", ErrUnavailable, lost(n))
	case err != nil:
		err = fmt.Errorf("close log: %w: %s", err, lost(n))
	}
	w.health.set(healthClosed, ErrClosed)
	return errors.Join(err, w.release())
}

// farewell writes what is left and audit.stopped.
func (w *writer) farewell() error {
	if w.seg == nil {
		w.reopen(time.Now())
	}
	if w.seg == nil || len(w.pending) > 0 && !w.sync() {
		return ErrUnavailable
	}
	probe := w.stopped()
	if !w.makeRoom(probe) {
		return ErrUnavailable
	}
	last := w.stopped() // counts audit.rotated too
	last.at = probe.at
	w.tell(last)
	if w.seg == nil || !w.sync() {
		return ErrUnavailable
	}
	return w.saveHead()
}

// stopped makes audit.stopped, which counts itself.
func (w *writer) stopped() *entry {
	emitted, dropped := w.q.totals()
	return w.record(typeStopped, "close", stopped{
		Dropped: dropped, Emitted: emitted + 1, Records: w.seg.next.seq - w.first + 1, Run: w.runID,
	})
}

// release gives the directory back.
func (w *writer) release() error {
	var errs []error
	if w.seg != nil {
		errs = append(errs, w.seg.f.Close())
		w.seg = nil
	}
	if w.lock != nil {
		errs = append(errs, w.lock.Close())
		w.lock = nil
	}
	return errors.Join(append(errs, w.fsys.Close())...)
}
