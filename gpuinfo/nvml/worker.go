//go:build linux && cgo

package nvml

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// worker runs functions one after the other on a thread of its own, since a call
// into a hung driver keeps its thread for as long as it hangs.
type worker struct {
	timeout time.Duration
	work    chan job
	stop    chan struct{}
	ended   chan struct{} // closed when the goroutine is gone
	last    func()        // what the goroutine does before it ends

	mu      sync.Mutex
	running bool
	closed  bool
	began   time.Time // of the present call; zero: none
	hung    bool      // a caller has given the present call up
}

type job struct {
	run  func() error
	done chan error // capacity 1: its caller may have left
}

// stuckError says that the goroutine is busy, and whether its call hangs.
type stuckError struct {
	reason gpuinfo.Reason
	age    time.Duration
}

func (e *stuckError) Error() string {
	return fmt.Sprintf("the driver has not answered for %d ms", e.age.Milliseconds())
}

func newWorker(timeout time.Duration, last func()) *worker {
	return &worker{timeout: timeout, work: make(chan job), stop: make(chan struct{}), ended: make(chan struct{}), last: last}
}

// do runs f, waits for its end at most for the time limit, and returns its error.
// After any error f may still run, or run never: what it writes is not to be read.
func (w *worker) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.ready(); err != nil {
		return err
	}
	limit := time.NewTimer(w.timeout)
	defer limit.Stop()
	j := job{f, make(chan error, 1)}
	select {
	case w.work <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stop:
		return gpuinfo.ErrClosed
	case <-limit.C:
		return w.stuck(false)
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return w.stuck(true)
	}
}

// ready starts the goroutine if it does not run, and refuses work while a call hangs.
func (w *worker) ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return gpuinfo.ErrClosed
	case w.hung || !w.began.IsZero() && time.Since(w.began) >= w.timeout:
		w.hung = true
		return &stuckError{gpuinfo.DriverHung, time.Since(w.began)}
	case !w.running:
		w.running = true
		go w.loop()
	}
	return nil
}

// stuck is the error of a caller that waited in vain; ours: for its own function.
func (w *worker) stuck(ours bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.IsZero() || !ours && !w.hung {
		return &stuckError{gpuinfo.Timeout, w.timeout} // it came just now, or others were before us
	}
	w.hung = true
	return &stuckError{gpuinfo.DriverHung, time.Since(w.began)}
}

func (w *worker) loop() {
	runtime.LockOSThread()
	defer close(w.ended)
	for {
		select {
		case <-w.stop:
			w.last()
			return
		case j := <-w.work:
			w.mark(time.Now())
			err := j.run()
			w.mark(time.Time{})
			j.done <- err
		}
	}
}

func (w *worker) mark(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.hung = began, false
}

// close ends the goroutine, and waits for that within the time limit.
func (w *worker) close() {
	w.mu.Lock()
	if !w.closed {
		close(w.stop)
	}
	w.closed = true
	running := w.running
	w.mu.Unlock()
	if running {
		select {
		case <-w.ended:
		case <-time.After(w.timeout): // it ends when the driver lets go
		}
	}
}
