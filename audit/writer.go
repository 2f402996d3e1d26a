package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/audit/internal/logfile"
	"github.com/llorch/llorch/audit/internal/vfs"
)

const (
	lookEvery  = 5 * time.Second // is the file still there, has the day ended
	spaceEvery = time.Second     // of activity: is there free space
	headEvery  = time.Second     // of activity: write the head into the manifest
	// headPerFile stretches headEvery, since the manifest grows by the file.
	headPerFile = 10 * time.Millisecond
	retryFirst  = 100 * time.Millisecond
	retryMax    = 2 * time.Second
)

// writer is the single owner of the files, the chain and the sequence. Only
// its goroutine touches its fields, save for abort, and result after the end.
type writer struct {
	cfg    *Config
	fsys   vfs.FS
	lock   io.Closer
	q      *queue
	health *health
	log    *slog.Logger
	own    ownTypes

	seg     *segment // nil while no file can be written
	pending []*entry // written to seg, not synced
	since   time.Time
	redo    []*entry // to be written again, in order, once there is a file

	// While seg is nil: what the next file must tell of the one before.
	sealed   *rotated
	why      string
	rot      *entry // the audit.rotated that is being tried; keeps its number
	leftover string // a file of a failed try that could not be removed
	chain    chain
	last     logfile.Name
	retryAt  time.Time
	retryIn  time.Duration
	told     bool // the waiters know that nothing can be written

	man     *manifest
	manDue  time.Time // zero: the manifest tells the newest head
	spaceAt time.Time
	lookAt  time.Time
	runID   string // id of this run
	first   uint64 // seq of its first record

	abort  atomic.Bool // Close gave up waiting
	result error       // of Close
}

func newWriter(c *Config, fsys vfs.FS, q *queue, h *health) *writer {
	return &writer{cfg: c, fsys: fsys, q: q, health: h, log: c.Logger, own: newOwnTypes()}
}

// run writes until the log is closed.
func (w *writer) run() {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		b := w.step()
		switch {
		case w.abort.Load(), b.closed && !b.more:
			w.result = w.stop()
			return
		case b.more && w.seg != nil:
			continue
		}
		timer.Reset(time.Until(w.nextDue()))
		select {
		case <-w.q.wake:
		case <-timer.C:
		}
	}
}

// step writes one batch and does whatever is due.
func (w *writer) step() batch {
	now := time.Now()
	w.checkSpace(now)
	w.ensureFile(now)
	var b batch
	if w.seg == nil { // what is queued stays there, bounded
		b = w.q.peek()
		b.more = b.more && !b.closed // nothing more can be written: stop gives up
	} else {
		b = w.q.take()
		w.write(&b)
	}
	now = time.Now()
	if w.seg != nil && w.seg.name.Day < logfile.Day(now) {
		w.rotate(rotateDay, now)
	}
	if w.seg != nil && !now.Before(w.lookAt) {
		w.lookAt = now.Add(lookEvery) // also when nothing is emitted
		w.linked()
	}
	if w.seg != nil && !w.manDue.IsZero() && !now.Before(w.manDue) {
		_ = w.saveHead() // Healthy tells
	}
	w.ensureFile(now)
	return b
}

// ensureFile tries to get a file if there is none and a try is due. Failing
// that, the door is closed, and all who wait already are told, once.
func (w *writer) ensureFile(now time.Time) {
	if w.seg == nil && !now.Before(w.retryAt) {
		w.reopen(now)
	}
	if w.seg == nil && !w.told {
		w.told = true
		w.q.setDown(ErrUnavailable)
		w.refuse()
	}
}

// write puts a batch, led by the gap records that are due, into the file, and
// syncs it if the mode or somebody wants that.
func (w *writer) write(b *batch) {
	var lines []*entry
	for _, reason := range slices.Sorted(maps.Keys(b.gaps)) {
		g := b.gaps[reason]
		e := w.record(typeGap, reason, *g)
		w.q.number(e)
		w.log.Warn("audit gap", slog.String("reason", reason), slog.Uint64("dropped", g.Dropped))
		lines = append(lines, e)
	}
	lines = append(lines, b.entries...)
	urgent := slices.ContainsFunc(lines, func(e *entry) bool { return e.class == Critical })
	w.commit(lines)
	if w.seg == nil || len(w.pending) == 0 {
		return
	}
	switch mode := w.cfg.Flush; {
	case mode == FlushImmediate, b.wanted, b.closed, mode == FlushHybrid && urgent,
		len(w.pending) >= w.cfg.BatchEvents, time.Since(w.since) >= w.cfg.BatchDelay:
		w.sync()
	}
}

// commit writes entries to the current file and to new ones as they fill up.
// What cannot be written goes to redo.
func (w *writer) commit(entries []*entry) {
	for len(entries) > 0 {
		if w.seg == nil {
			w.redo = append(w.redo, entries...)
			return
		}
		n, why := w.fit(entries)
		if n == 0 {
			w.rotate(why, entries[0].at)
			continue
		}
		if len(w.pending) == 0 {
			w.since = time.Now()
		}
		now := entries[:n]
		entries = entries[n:]
		if err := w.seg.add(now); err != nil {
			w.redo = append(w.redo, now...)
			w.failStop(rotateError, err)
			continue
		}
		w.pending = append(w.pending, now...)
	}
}

// fit returns how many entries the current file takes, and why no more.
func (w *writer) fit(entries []*entry) (n int, why string) {
	size, at := w.seg.size, w.seg.next.at
	for i, e := range entries {
		if e.at.After(at) {
			at = e.at
		}
		size += e.size
		switch {
		case logfile.Day(at) > w.seg.name.Day:
			return i, rotateDay
		case w.cfg.RotateBytes > 0 && size > w.cfg.RotateBytes && w.seg.next.seq+uint64(i) > w.seg.firstSeq+1:
			if w.seg.name.Number < logfile.MaxNumber {
				return i, rotateSize
			}
			w.health.set(healthNames, errors.New("audit: no file number is left for today, the file grows"))
		}
	}
	return len(entries), ""
}

// sync makes everything written durable and releases those who wait for it.
func (w *writer) sync() bool {
	start := time.Now()
	if err := w.seg.sync(); err != nil {
		w.failStop(rotateError, err)
		return false
	}
	if !w.linked() {
		return false
	}
	w.seg.settle()
	w.retryIn = 0
	w.health.synced(w.seg.good.seq-w.first, w.seg.good.seq, time.Since(start))
	w.q.settle(w.pending, nil)
	clear(w.pending)
	w.pending = w.pending[:0]
	if w.manDue.IsZero() {
		w.manDue = start.Add(headEvery + time.Duration(len(w.man.Files))*headPerFile)
	}
	return true
}

// nextDue is when step has something to do even if nothing is emitted.
func (w *writer) nextDue() time.Time {
	if w.seg == nil {
		return w.retryAt
	}
	due := []time.Time{w.lookAt, time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)}
	if len(w.pending) > 0 {
		due = append(due, w.since.Add(w.cfg.BatchDelay))
	}
	if !w.manDue.IsZero() {
		due = append(due, w.manDue)
	}
	return slices.MinFunc(due, time.Time.Compare)
}

// linked makes sure that the file still has its name: lines in a file that
// somebody deleted or replaced would be lost.
func (w *writer) linked() bool {
	ok, err := w.fsys.Linked(w.seg.name.String(), w.seg.f)
	switch {
	case err != nil:
		w.failStop(rotateError, err)
	case !ok:
		w.failStop(rotateReplaced, nil)
	}
	return err == nil && ok
}

// checkSpace keeps routine events out while the disk is nearly full.
func (w *writer) checkSpace(now time.Time) {
	if w.cfg.MinFree < 0 || now.Before(w.spaceAt) {
		return
	}
	w.spaceAt = now.Add(spaceEvery)
	free, err := w.fsys.Free()
	low := err == nil && free < w.cfg.MinFree
	switch {
	case err != nil:
		err = fmt.Errorf("audit: measure free space: %w", err)
	case low:
		err = errors.New("audit: free space is below MinFree, routine events are dropped")
	}
	w.q.setLow(low)
	if w.health.set(healthSpace, err) {
		w.log.Warn("audit space", slog.Bool("low", low), slog.Int64("free_bytes", free))
	}
}

// saveHead writes the manifest. Its failure harms no record.
func (w *writer) saveHead() error {
	w.manDue = time.Time{}
	if w.seg != nil && w.seg.goodSize > 0 {
		w.man.put(w.seg)
	}
	err := w.man.save(w.fsys)
	if err != nil {
		w.manDue = time.Now().Add(headEvery)
	}
	w.health.set(healthManifest, err)
	return err
}
