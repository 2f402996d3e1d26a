package gpuinfo

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const supported = true

// Waits of the runner. reapWait tells a slow tool from a hung driver: a process
// that is not in the kernel for ever dies from SIGKILL within milliseconds.
const (
	reapWait      = 40 * time.Millisecond
	pipeWait      = 100 * time.Millisecond // a process outside the group may hold our pipe
	maxToolStderr = 64 << 10
)

// runner starts one child at a time and never leaves one behind.
type runner struct {
	turn  chan struct{} // holds one token: whoever has it owns child
	child *child        // the last one; nil or reaped when a new one may start
}

func newRunner() *runner {
	r := &runner{turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

type child struct {
	pid    int
	since  time.Time
	reaped chan struct{}
	code   int // exit code, −1 after a signal; valid once reaped is closed

	mu   sync.Mutex
	gone bool // the leader is reaped: its group id may belong to somebody else
}

// run starts path and waits for its end, for ctx, or for too much output. When it
// returns, the process group has been killed; the reaper owns what is left.
func (r *runner) run(ctx context.Context, path string, args, env []string, maxOut int) runResult {
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return runResult{end: timedOut}
	}
	if c := r.child; c != nil {
		select {
		case <-c.reaped:
		default:
			return runResult{end: hung, age: time.Since(c.since)}
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := newCapture(maxOut)
	if err != nil {
		return runResult{end: startFailed}
	}
	defer out.close()
	errs, err := newCapture(maxToolStderr)
	if err != nil {
		return runResult{end: startFailed}
	}
	defer errs.close()
	cmd.Stdout, cmd.Stderr = out.w, errs.w
	if err := cmd.Start(); err != nil {
		return runResult{end: startFailed, errno: errnoOf(err)}
	}
	c := &child{pid: cmd.Process.Pid, since: time.Now(), reaped: make(chan struct{})}
	r.child = c
	out.start()
	errs.start()
	go c.reap(cmd)

	var end runEnd
	select {
	case <-c.reaped:
	case <-ctx.Done():
		end = timedOut
	case <-out.over:
		end = tooMuch
	case <-errs.over:
		end = tooMuch
	}
	if end != ended {
		c.killGroup()
		if !within(c.reaped, reapWait) && end == timedOut {
			return runResult{end: hung, age: time.Since(c.since)}
		}
		return runResult{end: end}
	}
	within(out.done, pipeWait)
	within(errs.done, pipeWait)
	return runResult{stdout: out.bytes(), stderr: errs.bytes(), code: c.code, end: ended}
}

// errnoOf returns the system's number for why a program was not started, or 0.
func errnoOf(err error) int {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return int(e)
	}
	return 0
}

// reap waits for the leader without reaping it, kills what is left of its group
// while the group id cannot have been reused, and then reaps.
func (c *child) reap(cmd *exec.Cmd) {
	waitNoReap(c.pid)
	c.killGroup()
	c.code = -1
	c.mu.Lock()
	err := cmd.Wait()
	c.gone = true
	c.mu.Unlock()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		c.code = exit.ExitCode()
	} else if err == nil {
		c.code = 0
	}
	close(c.reaped)
}

// killGroup kills every process of the group. Before the leader is reaped its id
// cannot be reused, afterwards nothing is signalled any more.
func (c *child) killGroup() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL) // ESRCH: nobody left
	}
}

// waitNoReap blocks until the process has exited and leaves it a zombie.
func waitNoReap(pid int) {
	const pPID = 1
	var info [128]byte // siginfo_t
	for {
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if e != syscall.EINTR {
			return
		}
	}
}

func within(ch <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
		return true
	case <-t.C:
		return false
	}
}

// capture keeps at most limit bytes of what the child writes.
type capture struct {
	r, w  *os.File
	limit int
	over  chan struct{} // closed when the child wrote more than limit
	done  chan struct{} // closed at the end of the stream
	kept  atomic.Pointer[[]byte]
}

func newCapture(limit int) (*capture, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &capture{r: r, w: w, limit: limit, over: make(chan struct{}), done: make(chan struct{})}, nil
}

// start drops our copy of the write end and reads until the end, the limit or close.
func (c *capture) start() {
	_ = c.w.Close()
	go func() {
		b, _ := io.ReadAll(io.LimitReader(c.r, int64(c.limit)+1))
		c.kept.Store(&b)
		if len(b) > c.limit {
			close(c.over)
			return
		}
		close(c.done)
	}()
}

// close ends a read that a process outside the group still keeps open.
func (c *capture) close() {
	_ = c.w.Close()
	_ = c.r.Close()
}

func (c *capture) bytes() []byte {
	if b := c.kept.Load(); b != nil {
		return *b
	}
	return nil
}
