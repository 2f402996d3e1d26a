package workertest

import (
	"context"
	"errors"
	"slices"
	"sync"
)

var (
	errBusy = errors.New("workertest: no slot and no place in the queue")
	errGone = errors.New("workertest: gone while waiting")
)

// slots is the bounded set of running requests, the KV memory that they share
// and the queue in front of them, first come, first served.
type slots struct {
	total, queue, blocks int
	queued               func() // called when one more waits

	mu      sync.Mutex
	running int
	used    int // blocks
	waiting []*waiter
}

// waiter is a request without a slot.
type waiter struct {
	turn   chan struct{} // closed when the slot is its own
	blocks int
}

// acquire takes a slot and so many blocks.
func (s *slots) acquire(ctx context.Context, stop <-chan struct{}, blocks int) error {
	s.mu.Lock()
	if len(s.waiting) == 0 && s.takeLocked(blocks) {
		s.mu.Unlock()
		return nil
	}
	if len(s.waiting) >= s.queue || blocks > s.blocks {
		s.mu.Unlock()
		return errBusy
	}
	w := &waiter{turn: make(chan struct{}), blocks: blocks}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	s.queued()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
	case <-stop:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.grantLocked() // the next one may be smaller
	} else { // handed over in the meantime
		s.releaseLocked(blocks)
	}
	return errGone
}

// takeLocked takes what is free; false if it is not.
func (s *slots) takeLocked(blocks int) bool {
	if s.running >= s.total || s.used+blocks > s.blocks {
		return false
	}
	s.running++
	s.used += blocks
	return true
}

// grantLocked lets in those who wait, in their order.
func (s *slots) grantLocked() {
	for len(s.waiting) > 0 && s.takeLocked(s.waiting[0].blocks) {
		close(s.waiting[0].turn)
		s.waiting = s.waiting[1:]
	}
}

func (s *slots) release(blocks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(blocks)
}

func (s *slots) releaseLocked(blocks int) {
	s.running--
	s.used -= blocks
	s.grantLocked()
}

// load returns how many run and wait.
func (s *slots) load() (running, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running, len(s.waiting)
}
