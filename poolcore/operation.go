package poolcore

import (
	"context"
	"sync"
)

// Operation is something that takes a while, such as a preload. It is safe for
// concurrent use and goes on when nobody waits for it.
type Operation struct {
	// ID names the operation within its host; Kind is "preload".
	ID, Kind string

	done chan struct{}

	mu  sync.Mutex
	err error
}

func newOperation(id, kind string) *Operation {
	return &Operation{ID: id, Kind: kind, done: make(chan struct{})}
}

// Wait blocks until the operation ended or ctx did, and returns the operation's
// error or ctx's. A preload fails with *PreflightError, *CrashError or a Code.
func (o *Operation) Wait(ctx context.Context) error {
	select {
	case <-o.done:
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// State returns running, done or failed.
func (o *Operation) State() string {
	select {
	case <-o.done:
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err != nil {
			return "failed"
		}
		return "done"
	default:
		return "running"
	}
}

// finish ends the operation; it is called once.
func (o *Operation) finish(err error) {
	o.mu.Lock()
	o.err = err
	o.mu.Unlock()
	close(o.done)
}
