package orchestrator

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// stream is the append-only event log of one task; readers are cursors on it
// (ORC-501). Ids are gapless from 1, the last event is the terminal one. A full
// log drops the oldest events that every reader has passed; if a reader still
// needs them the writer waits, so that the worker is not read.
type stream struct {
	limitBytes, limitEvents int
	recovered               bool      // a reader may know ids from before a restart
	onEmpty                 func()    // the last reader left before the end; called without the lock
	onReaders               func(int) // a reader came (+1) or left (−1)
	lag                     int       // events that a reader may be behind and still get metrics
	onStuck                 func()    // every reader has been behind a full log for stuckAfter; called without the lock

	mu      sync.Mutex
	events  []Event // ids first, first+1, …
	first   uint64  // id of events[0]; 1 + number of events dropped
	bytes   int
	ended   bool // the terminal event is in, or the log was abandoned
	left    bool // abandoned: the task goes on elsewhere or never began
	muted   bool // no token may follow (an acknowledged cancel)
	readers map[*cursor]struct{}
	told    time.Time     // when the last metrics event was taken
	changed chan struct{} // closed and replaced whenever something above changed; nil when nobody waits
}

func newStream(c Streams) *stream {
	return &stream{lag: c.Lag, limitBytes: c.Bytes, limitEvents: c.Events, first: 1, readers: make(map[*cursor]struct{})}
}

// cursor is one reader's place.
type cursor struct {
	s    *stream
	next uint64 // id of the next event to deliver
}

// eventOverhead is what an event costs in memory beside its data.
const eventOverhead = 64

// append adds an event; it waits while the log is full of events that a reader
// has not passed. After mute only terminal events are taken; after the end
// nothing is. It reports whether the event is in the log.
func (s *stream) append(ctx context.Context, typ string, data []byte) (bool, error) {
	terminal := typ == EventEnd || typ == EventError
	var stuck *time.Timer
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.ended || s.muted && !terminal {
			return false, nil
		}
		s.makeRoomLocked(len(data))
		if terminal || s.fitsLocked(len(data)) {
			break
		}
		wait := s.waitLocked()
		s.mu.Unlock()
		if stuck == nil && s.onStuck != nil {
			stuck = time.AfterFunc(stuckAfter, s.onStuck)
			defer stuck.Stop()
		}
		select {
		case <-wait:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return false, context.Cause(ctx)
		}
	}
	s.events = append(s.events, Event{ID: s.first + uint64(len(s.events)), Type: typ, Data: data})
	s.bytes += len(data) + eventOverhead
	s.ended = terminal
	s.wakeLocked()
	return true, nil
}

func (s *stream) fitsLocked(n int) bool {
	return len(s.events) == 0 || s.bytes+n+eventOverhead <= s.limitBytes && len(s.events) < s.limitEvents
}

// makeRoomLocked drops the oldest events that every reader has passed.
func (s *stream) makeRoomLocked(n int) {
	if s.fitsLocked(n) {
		return
	}
	passed := s.first + uint64(len(s.events))
	for c := range s.readers {
		passed = min(passed, c.next)
	}
	drop := 0
	for s.first+uint64(drop) < passed && drop < len(s.events) && (s.bytes+n+eventOverhead > s.limitBytes || len(s.events)-drop >= s.limitEvents) {
		s.bytes -= len(s.events[drop].Data) + eventOverhead
		drop++
	}
	if drop > 0 {
		clear(s.events[:drop])
		s.events = s.events[drop:]
		s.first += uint64(drop)
	}
}

// Bounds of what readers may do to a log (ORC-501, 504).
const (
	metricsEvery = time.Second
	stuckAfter   = 30 * time.Second
)

// offer adds a metrics event if there is room for what nobody has to know: at most
// one a second, none while a reader lags or the log is half full. It reports
// whether the event was left out.
func (s *stream) offer(data []byte, now time.Time) (dropped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.muted || len(s.readers) == 0 {
		return false
	}
	last := s.first + uint64(len(s.events))
	for c := range s.readers {
		dropped = dropped || last > c.next+uint64(s.lag)
	}
	if dropped || now.Sub(s.told) < metricsEvery || 2*s.bytes > s.limitBytes || 2*len(s.events) > s.limitEvents {
		return true
	}
	s.told = now
	s.events = append(s.events, Event{ID: last, Type: EventMetrics, Data: data})
	s.bytes += len(data) + eventOverhead
	s.wakeLocked()
	return false
}

// mute ends the tokens: what was appended stays, only a terminal event follows.
func (s *stream) mute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = true
	s.wakeLocked()
}

// abandon ends the log without a terminal event; readers are told to come back.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.left = true, s.left || !s.ended
	s.wakeLocked()
}

// last returns the id of the newest event, 0 if there is none.
func (s *stream) last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first + uint64(len(s.events)) - 1
}

// snapshot returns the events still held, and whether the first ones are gone.
func (s *stream) snapshot() (events []Event, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Event(nil), s.events...), s.first > 1
}

// size returns the bytes held.
func (s *stream) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// subscribe opens a reader after an id.
func (s *stream) subscribe(after uint64) (*cursor, error) {
	s.mu.Lock()
	last := s.first + uint64(len(s.events)) - 1
	if after > last && !s.recovered {
		s.mu.Unlock()
		return nil, taskapi.InvalidField("after", "beyond the last event")
	}
	if after+1 < s.first {
		s.mu.Unlock()
		return nil, taskapi.NewError(taskapi.ResumeWindowLost)
	}
	c := &cursor{s: s, next: after + 1}
	s.readers[c] = struct{}{}
	s.mu.Unlock()
	if s.onReaders != nil {
		s.onReaders(+1)
	}
	return c, nil
}

// read returns the next event; io.EOF after the terminal one, SHUTTING_DOWN at
// the end of a log without one.
func (c *cursor) read(ctx context.Context) (Event, error) {
	s := c.s
	for {
		s.mu.Lock()
		if i := c.next - s.first; c.next >= s.first && i < uint64(len(s.events)) {
			e := s.events[i]
			c.next++
			s.wakeLocked() // the writer may wait for room
			s.mu.Unlock()
			return e, nil
		}
		if s.ended {
			err := io.EOF
			if s.left {
				err = taskapi.NewError(taskapi.ShuttingDown)
			}
			s.mu.Unlock()
			return Event{}, err
		}
		wait := s.waitLocked()
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// close ends the reader. It may be called twice.
func (c *cursor) close() {
	s := c.s
	s.mu.Lock()
	_, open := s.readers[c]
	delete(s.readers, c)
	alone := open && len(s.readers) == 0 && !s.ended
	s.wakeLocked()
	s.mu.Unlock()
	if open && s.onReaders != nil {
		s.onReaders(-1)
	}
	if alone && s.onEmpty != nil {
		s.onEmpty()
	}
}

// unread reports whether nobody reads the log now.
func (s *stream) unread() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.readers) == 0
}

func (s *stream) waitLocked() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

func (s *stream) wakeLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// muteUnlessDone mutes the log of a task that did not complete.
func (s *stream) muteUnlessDone(code string) {
	if code != "" {
		s.mute()
	}
}
