package gpuinfo

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const supported = true

// Waits of the runner. deadWait tells a slow tool from a hung driver: a process that
// is not in the kernel for ever dies from SIGKILL within milliseconds.
const (
	deadWait      = 40 * time.Millisecond
	pipeWait      = 100 * time.Millisecond // a process outside the group may hold our pipe
	maxToolStderr = 64 << 10
)

// runner starts one child at a time and never leaves one behind.
type runner struct {
	turn  chan struct{} // holds one token: whoever has it owns child
	child *child        // the last one; nil or dead when a new one may start
}

func newRunner() *runner {
	r := &runner{turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

type child struct {
	since  time.Time
	dead   chan struct{} // closed when the leader has exited and its group is killed
	reaped chan struct{} // closed when, after that, its output has been read

	mu   sync.Mutex
	gone bool // nothing may be signalled any more: the group id may be somebody else's
}

// run starts path and waits for its end, for ctx, or for too much output. When it
// returns, the process group has been killed; reap owns what is left.
func (r *runner) run(ctx context.Context, path string, args, env []string, maxOut int) runResult {
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return runResult{end: timedOut}
	}
	if c := r.child; c != nil && !closedIn(c.dead, 0) {
		return runResult{end: hung, age: time.Since(c.since)}
	}
	over := make(chan struct{}, 2) // room for both outputs
	out, errs := &capture{limit: maxOut, over: over}, &capture{limit: maxToolStderr, over: over}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, errs, pipeWait
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		errno, _ := errors.AsType[syscall.Errno](err)
		return runResult{end: startFailed, errno: int(errno)}
	}
	c := &child{since: time.Now(), dead: make(chan struct{}), reaped: make(chan struct{})}
	r.child = c
	go c.reap(cmd)

	end := tooMuch
	select {
	case <-over:
	case <-ctx.Done():
		end = timedOut
	case <-c.reaped:
		if len(over) == 0 {
			return runResult{stdout: out.kept.Bytes(), stderr: errs.kept.Bytes(), code: cmd.ProcessState.ExitCode()}
		}
	}
	c.killGroup(cmd.Process.Pid, false)
	if !closedIn(c.dead, deadWait) && end == timedOut {
		return runResult{end: hung, age: time.Since(c.since)}
	}
	return runResult{end: end}
}

// reap waits for the leader without reaping it, kills what is left of its group
// while the group id cannot have been reused, and then reaps and reads what is left.
func (c *child) reap(cmd *exec.Cmd) {
	waitNoReap(cmd.Process.Pid)
	c.killGroup(cmd.Process.Pid, true)
	close(c.dead)
	_ = cmd.Wait() // the state says how it ended
	close(c.reaped)
}

// killGroup kills every process of the group, unless a last call has done so.
func (c *child) killGroup(pid int, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // ESRCH: nobody left
	}
	c.gone = c.gone || last
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

// capture keeps at most limit bytes of what the child writes; one more says over.
type capture struct {
	kept  bytes.Buffer
	limit int
	over  chan<- struct{}
}

func (c *capture) Write(b []byte) (int, error) {
	if c.kept.Len()+len(b) > c.limit {
		select {
		case c.over <- struct{}{}:
		default:
		}
		return 0, errors.New("too much output")
	}
	return c.kept.Write(b)
}
