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

// slots is the bounded set of running requests and the queue in front of it,
// first come, first served.
type slots struct {
	total, queue int
	queued       func() // called when one more waits

	mu      sync.Mutex
	running int
	waiting []chan struct{} // closed when the slot is handed over
}

func (s *slots) acquire(ctx context.Context, stop <-chan struct{}) error {
	s.mu.Lock()
	if s.running < s.total {
		s.running++
		s.mu.Unlock()
		return nil
	}
	if len(s.waiting) >= s.queue {
		s.mu.Unlock()
		return errBusy
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	s.queued()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	case <-stop:
	}
	s.mu.Lock()
	i := slices.Index(s.waiting, turn)
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // handed over in the meantime
		s.release()
	}
	return errGone
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
		return
	}
	s.running--
}

// load returns how many run and wait.
func (s *slots) load() (running, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running, len(s.waiting)
}
