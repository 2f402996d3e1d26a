package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Bounds of one group commit.
const (
	batchMaxEvents = 1024
	batchMaxBytes  = 1 << 20
)

// queue stands between the callers of Emit and the writer. It numbers what is
// emitted, so that emit order, queue order and record order are one.
type queue struct {
	maxEvents int   // for routine events; critical ones have a tenth more
	maxBytes  int64 // likewise
	refuse    bool
	maxWait   time.Duration
	wake      chan struct{} // one token: the writer has something to look at

	mu      sync.Mutex
	entries []*entry
	bytes   int64
	wanted  int // entries that are not yet durable and that somebody waits for
	open    int // entries taken in and not yet durable
	last    *entry
	emit    uint64
	gaps    gaps
	waiting map[*entry]struct{} // critical events that wait for room
	room    chan struct{}       // closed and replaced when waiters should look again
	closed  bool
	down    error // the writer cannot write
	low     bool  // free space is below MinFree

	emitted map[string]uint64 // by type
	dropped map[string]uint64 // by reason
	invalid uint64
}

func newQueue(c *Config) *queue {
	return &queue{
		maxEvents: c.QueueEvents, maxBytes: c.QueueBytes, refuse: c.RefuseWhenFull, maxWait: c.MaxWait,
		wake: make(chan struct{}, 1), room: make(chan struct{}),
		gaps: make(gaps), waiting: make(map[*entry]struct{}),
		emitted: make(map[string]uint64), dropped: make(map[string]uint64),
	}
}

// put takes e in, or counts it as dropped and says why. It waits only for a
// critical event without room, at most maxWait.
func (q *queue) put(ctx context.Context, e *entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var timeout <-chan time.Time
	over := e.class == Routine || q.refuse
	for {
		if q.closed { // if e has waited, close has counted it
			return ErrClosed
		}
		reason := q.refusesLocked(e)
		if reason == "" || over {
			delete(q.waiting, e)
			return q.decideLocked(e, reason)
		}
		if timeout == nil {
			timeout = time.After(q.maxWait)
			q.waiting[e] = struct{}{}
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-timeout:
			over = true
		case <-ctx.Done():
			over = true
		}
		q.mu.Lock()
	}
}

// refusesLocked returns why e may not enter now, as the reason of a gap; "" if
// it may.
func (q *queue) refusesLocked(e *entry) string {
	events, bytes := q.maxEvents, q.maxBytes
	if e.class == Critical {
		events, bytes = events+max(1, events/10), bytes+max(maxLine, bytes/10)
	}
	switch {
	case q.down != nil:
		return gapIOError
	case q.low && e.class == Routine:
		return gapDiskLow
	case len(q.entries) >= events || q.bytes+e.size > bytes:
		return gapQueueFull
	}
	return ""
}

// decideLocked enqueues e, or drops it for the reason.
func (q *queue) decideLocked(e *entry, reason string) error {
	q.numberLocked(e)
	if reason == "" {
		q.entries = append(q.entries, e)
		q.bytes += e.size
		q.last = e
		q.open++
		e.queued = true
		if e.wanted {
			q.wanted++
		}
		q.poke()
		return nil
	}
	if reason == gapQueueFull && e.class == Critical && q.refuse {
		reason = gapRefused
	}
	q.dropLocked(e, reason)
	switch {
	case reason == gapIOError && e.class == Critical:
		return ErrUnavailable
	case reason == gapIOError:
		return fmt.Errorf("%w: %w", ErrDropped, ErrUnavailable)
	case e.class == Critical:
		return ErrQueueFull
	default:
		return ErrDropped
	}
}

func (q *queue) numberLocked(e *entry) {
	q.emit++
	q.emitted[e.typ]++
	e.emit = q.emit
}

func (q *queue) dropLocked(e *entry, reason string) {
	q.gaps.add(reason, e.typ, e.emit, e.at)
	q.dropped[reason]++
	q.poke()
}

// poke makes the writer look; it never blocks.
func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// want marks e as waited for, so that no mode delays its sync.
func (q *queue) want(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !e.wanted && !e.settled {
		e.wanted = true
		q.wanted++
		q.poke()
	}
}

// batch is what the writer takes at once.
type batch struct {
	entries []*entry
	gaps    gaps
	wanted  bool // somebody waits for one of these, or for an unsynced one before
	more    bool // the queue holds more
	closed  bool // Close was called
}

// take removes the next batch and all gaps counted so far.
func (q *queue) take() batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(q.entries) && n < batchMaxEvents && (n == 0 || bytes+q.entries[n].size <= batchMaxBytes) {
		bytes += q.entries[n].size
		n++
	}
	b := batch{
		entries: slices.Clone(q.entries[:n]), gaps: q.gaps,
		wanted: q.wanted > 0, more: n < len(q.entries), closed: q.closed,
	}
	clear(q.entries[:n])
	if q.entries = q.entries[n:]; !b.more {
		q.entries = nil
	}
	q.bytes -= bytes
	q.gaps = make(gaps)
	if n > 0 {
		q.wakeWaitersLocked()
	}
	return b
}

// peek is take that leaves everything where it is. The entries are good until
// the next take, and only to be read.
func (q *queue) peek() batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	return batch{entries: q.entries, more: len(q.entries) > 0, closed: q.closed}
}

// settle releases those who wait for entries: they are durable, or err says why
// that is not known. The first time counts.
func (q *queue) settle(entries []*entry, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		if err == nil && e.queued {
			q.open--
		}
		if err == nil && e == q.last {
			q.last = nil
		}
		if e.settled {
			continue
		}
		if e.wanted {
			q.wanted--
		}
		if e.settled, e.err = true, err; err != nil {
			e.receipt = Receipt{}
		}
		close(e.done)
	}
}

// number gives the log's own records their place among the emitted.
func (q *queue) number(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.numberLocked(e)
}

// setDown says whether the writer can write; nil is yes.
func (q *queue) setDown(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.down = err
	if err == nil {
		q.wakeWaitersLocked()
	}
}

func (q *queue) setLow(low bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.low = low
}

func (q *queue) wakeWaitersLocked() {
	if len(q.waiting) > 0 {
		close(q.room)
		q.room = make(chan struct{})
	}
}

// close refuses everything from now on. Those who wait for room are counted
// here, so that the last gap record is complete.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	for e := range q.waiting {
		q.numberLocked(e)
		q.dropLocked(e, gapShutdown)
	}
	q.wakeWaitersLocked()
	clear(q.waiting)
	q.poke()
}

// totals returns the numbers of this run so far.
func (q *queue) totals() (emitted, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range q.dropped {
		dropped += n
	}
	return q.emit, dropped
}

func (q *queue) stats(s *Stats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Emitted, s.Dropped = maps.Clone(q.emitted), maps.Clone(q.dropped)
	s.Invalid, s.QueueEvents, s.QueueBytes = q.invalid, len(q.entries), q.bytes
}

func (q *queue) countInvalid() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.invalid++
}

// unsettled returns how many entries are not known to be durable.
func (q *queue) unsettled() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open
}

// tail returns the newest entry that is not known to be durable, or nil, and
// why the writer cannot write, if so.
func (q *queue) tail() (*entry, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last, q.down
}
