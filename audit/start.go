package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"
)

// start locks the directory, recovers it and makes audit.started durable.
func (w *writer) start(ctx context.Context) error {
	began := time.Now()
	var err error
	if w.runID, err = newID(began); err != nil {
		return err
	}
	text := strconv.Itoa(os.Getpid()) + " " + hostname() + " " + w.runID
	if w.lock, err = w.fsys.Lock("lock", text); err != nil {
		return err
	}
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
	if w.man == nil || w.man.Created == "" {
		m, err := newManifest(w.cfg, r.orig)
		if err != nil {
			return err
		}
		if w.man != nil {
			m.Files = w.man.Files
		}
		w.man = m
	}
	if w.cfg.Origin != "" {
		w.man.Origin = w.cfg.Origin
	}
	w.man.Service = w.cfg.Service
	if r.seg != nil {
		w.last = r.seg.name
		w.man.put(entryOf(r.seg))
	}
	return w.man.save(w.fsys)
}

// announce writes the first records of the run. The first of all has emit 1,
// also if the file was full or of an earlier day: then it is audit.rotated.
func (w *writer) announce(r *recovery) error {
	lines, err := w.opening(r)
	if err != nil {
		return err
	}
	if w.seg == nil {
		if err := w.create(lines[0].at); err != nil {
			return err
		}
	} else if n, why := w.fit(lines); n == 0 {
		w.rotate(why, lines[0].at)
	}
	for _, e := range lines {
		w.q.number(e)
	}
	w.commit(lines)
	if w.seg == nil || !w.sync() {
		return errors.Join(errors.New("audit: write the first record"), w.health.err())
	}
	w.lookAt = time.Now().Add(lookEvery)
	w.saveHead()
	return nil
}

// opening makes audit.started and, after a torn tail, the gap record.
func (w *writer) opening(r *recovery) ([]*entry, error) {
	e, err := w.own.entry(typeStarted, "", w.cfg.Service, started{
		Host: hostname(), Origin: w.man.Origin, PID: uint32(os.Getpid()), PrevClean: r.clean,
		Run: w.runID, Torn: r.torn, Version: w.cfg.Version,
	})
	if err != nil {
		return nil, err
	}
	lines := []*entry{e}
	if r.lost > 0 {
		at := r.c.at
		if at.IsZero() {
			at = e.at
		}
		e, err := w.own.entry(typeGap, gapTornTail, w.cfg.Service, gap{
			ByType: map[string]uint64{gapOther: r.lost}, Dropped: r.lost,
			EmitFirst: r.emit + 1, EmitLast: r.emit + r.lost, FirstAt: at, LastAt: at,
		})
		if err != nil {
			return nil, err
		}
		lines = append(lines, e)
	}
	return lines, nil
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
	now := time.Now()
	if w.seg == nil {
		w.reopen(now)
	}
	if w.seg == nil {
		return ErrUnavailable
	}
	if len(w.pending) > 0 && !w.sync() {
		return ErrUnavailable
	}
	records := func() uint64 { return w.seg.next.seq - w.first + 1 }
	probe, err := w.stopped(records())
	if err != nil {
		return err
	}
	if n, why := w.fit([]*entry{probe}); n == 0 {
		w.rotate(why, probe.at)
		if w.seg == nil {
			return ErrUnavailable
		}
	}
	w.q.number(probe)
	e, err := w.stopped(records())
	if err != nil {
		return err
	}
	e.emit = probe.emit
	w.commit([]*entry{e})
	if w.seg == nil || !w.sync() {
		return ErrUnavailable
	}
	w.saveHead()
	return w.health.manifestErr()
}

func (w *writer) stopped(records uint64) (*entry, error) {
	emitted, dropped := w.q.totals()
	return w.own.entry(typeStopped, "close", w.cfg.Service, stopped{
		Dropped: dropped, Emitted: emitted, Records: records, Run: w.runID,
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
