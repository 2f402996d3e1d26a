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
	run  func()
	done chan struct{}
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

// do runs f and waits for its end, at most for the time limit. When it returns an
// error f may still run, or run never; what f writes is then not to be read.
func (w *worker) do(ctx context.Context, f func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.ready(); err != nil {
		return err
	}
	limit := time.NewTimer(w.timeout)
	defer limit.Stop()
	j := job{f, make(chan struct{})}
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
	case <-j.done:
		return nil
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
			j.run()
			w.mark(time.Time{})
			close(j.done)
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
	first, running := !w.closed, w.running
	w.closed = true
	w.mu.Unlock()
	if first {
		close(w.stop)
	}
	if !running {
		return
	}
	limit := time.NewTimer(w.timeout)
	defer limit.Stop()
	select {
	case <-w.ended:
	case <-limit.C: // it ends when the driver lets go
	}
}
