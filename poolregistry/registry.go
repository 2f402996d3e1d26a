package poolregistry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A Registry knows which nodes exist. All methods are safe for concurrent use.
type Registry struct {
	start time.Time // instant 0

	view    atomic.Pointer[View]
	due     atomic.Int64                  // instant from which a reader must take the lock
	changed atomic.Pointer[chan struct{}] // closed when a newer view is there

	wake chan struct{} // tells Run that content waits to be published; capacity 1

	mu      sync.Mutex // guards what follows; nothing slow happens under it
	state   *state
	running bool
}

// New returns a Registry. It does no I/O. The error joins all faults of cfg.
func New(cfg Config) (*Registry, error) {
	cfg = cfg.filled()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	start := time.Now()
	r := &Registry{start: start, state: newState(cfg, start), wake: make(chan struct{}, 1)}
	r.changed.Store(new(make(chan struct{})))
	r.view.Store(r.state.newView())
	r.due.Store(int64(r.state.due))
	return r, nil
}

// now is the monotonic time since New.
func (r *Registry) now() time.Duration { return time.Since(r.start) }

// errRunning reports a second concurrent call of Run.
var errRunning = errors.New("poolregistry: Run is already running")

// Run is the detection timer and publisher. It blocks until ctx ends and then
// returns the cause. A second concurrent call is an error. While Run is not
// running nothing expires, and what it missed is not held against the nodes.
func (r *Registry) Run(ctx context.Context) error {
	if err := r.detect(true); err != nil {
		return err
	}
	defer func() { _ = r.detect(false) }()
	tick := time.NewTicker(r.state.cfg.Timing.tick())
	defer tick.Stop()
	var publish <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			now := r.lockOnly()
			r.state.tick(now, false)
			r.unlock()
		case <-r.wake:
			if publish == nil {
				publish = time.After(r.state.cfg.PublishEvery)
			}
		case <-publish:
			publish = nil
			r.View()
		}
	}
}

func (r *Registry) detect(on bool) error {
	now := r.lockOnly()
	defer r.unlock()
	if on && r.running {
		return errRunning
	}
	r.running = on
	r.state.urgent = true
	if !on {
		r.state.tick(now, false)
	}
	r.state.observer.Detecting = on
	r.state.tick(now, on)
	return nil
}

// lock takes the mutex and lets time act if an instant has passed at which it
// would, so that every call sees what a timer without delay would have made of
// it. It returns the instant at which the caller's decision is made.
func (r *Registry) lock() time.Duration {
	now := r.lockOnly()
	if now >= r.state.due {
		r.state.advance(now)
	}
	return now
}

func (r *Registry) lockOnly() time.Duration {
	r.mu.Lock()
	r.state.clock = time.Now()
	return r.state.clock.Sub(r.start)
}

// unlock publishes what changed, releases the mutex and writes the log.
func (r *Registry) unlock() {
	var stale *chan struct{}
	if v := r.state.takeView(r.now()); v != nil {
		r.view.Store(v)
		stale = r.changed.Swap(new(make(chan struct{})))
	}
	waiting := r.state.dirty && r.running
	r.due.Store(int64(min(r.state.due, r.state.publishDue())))
	records := r.state.takeRecords()
	r.mu.Unlock()

	if stale != nil {
		close(*stale)
	}
	if waiting {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	for _, rec := range records {
		rec.log(r.state.cfg.Logger)
	}
}
