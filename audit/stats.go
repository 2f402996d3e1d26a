package audit

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Stats are the numbers of this run. The maps belong to the caller.
type Stats struct {
	Emitted     map[string]uint64 // by event type, the log's own included
	Dropped     map[string]uint64 // by the reason of the gap record
	Invalid     uint64            // refused with a FieldError; not in Emitted
	Records     uint64            // durable lines
	NextSeq     uint64            // seq of the next durable line
	QueueEvents int
	QueueBytes  int64 // upper bound of the lines
	Syncs       uint64
	SyncTime    time.Duration // sum over all Syncs of write, sync and check
}

// Stats returns the numbers at this moment.
func (l *Log) Stats() Stats {
	if l.disabled() {
		return Stats{}
	}
	var s Stats
	l.q.stats(&s)
	l.health.stats(&s)
	return s
}

// Healthy is nil if the log can do what it promises: its file is writable and
// linked, the last sync went well, there is space. Otherwise it joins all
// reasons.
func (l *Log) Healthy() error {
	if l.disabled() {
		return nil
	}
	return l.health.err()
}

// Parts of the health, each with one error at a time.
const (
	healthWrite    = "write"    // no file can be written
	healthReplaced = "replaced" // a file was deleted or replaced; until restart
	healthSpace    = "space"    // little space, or it cannot be measured
	healthManifest = "manifest" // the manifest falls behind
	healthNames    = "names"    // no file number is left for the day
	healthClosed   = "closed"
)

// health is what the writer tells the outside world.
type health struct {
	mu       sync.Mutex
	faults   map[string]error
	records  uint64
	next     uint64
	syncs    uint64
	syncTime time.Duration
}

func newHealth() *health { return &health{faults: make(map[string]error)} }

// set replaces the error of a part and reports whether that changed its state.
func (h *health) set(part string, err error) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.faults[part] != nil
	if err == nil {
		delete(h.faults, part)
	} else {
		h.faults[part] = err
	}
	return was != (err != nil)
}

func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []error
	for _, part := range slices.Sorted(maps.Keys(h.faults)) {
		all = append(all, h.faults[part])
	}
	return errors.Join(all...)
}

func (h *health) synced(records, next uint64, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records, h.next = records, next
	h.syncs++
	h.syncTime += took
}

func (h *health) stats(s *Stats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Records, s.NextSeq, s.Syncs, s.SyncTime = h.records, h.next, h.syncs, h.syncTime
}
