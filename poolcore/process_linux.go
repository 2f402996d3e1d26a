package poolcore

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/llorch/llorch/poolcore/engine"
)

// unreaped is how long after SIGKILL a process counts as stuck: only the kernel
// can hold it for longer.
const unreaped = 10 * time.Second

func processSupported() error { return nil }

// process is one engine in a process group of its own. Its waiter goroutine alone
// reaps; whoever signals the group holds mu and sees gone, so a reused id is never
// signalled.
type process struct {
	cmd   *exec.Cmd
	tag   string // worker id, in the environment of the whole group
	stdin *os.File
	start time.Time
	done  chan struct{} // closed when the group is gone and the leader reaped
	code  int           // valid once done is closed
	sig   string

	mu   sync.Mutex
	gone bool
}

// startProcess runs c in dir with output appended to log. env is the whole
// environment. The caller's log handle may be closed afterwards.
func startProcess(c engine.Command, dir string, env []string, log *os.File, tag string) (*process, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &process{cmd: cmd, tag: tag, done: make(chan struct{})}
	var childEnd *os.File
	if c.TieStdin {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make stdin: %w", err)
		}
		cmd.Stdin, childEnd, p.stdin = r, r, w
	}
	err := startPrivate(cmd)
	if childEnd != nil {
		err = errors.Join(err, childEnd.Close())
	}
	if err != nil {
		p.closeStdin()
		return nil, fmt.Errorf("start engine: %w", err)
	}
	p.start = time.Now()
	go p.wait()
	return p, nil
}

// startPrivate starts cmd with umask 077. The umask belongs to a thread that
// shares it with nobody and ends with its goroutine. Where a container forbids
// such a thread the umask stays as it is: the directories are private anyway.
func startPrivate(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must not be used again
		if syscall.Unshare(syscall.CLONE_FS) == nil {
			syscall.Umask(0o077)
		}
		result <- cmd.Start()
	}()
	return <-result
}

// wait sees the leader end, ends what is left of its group while the group id
// cannot have been reused, then whoever left the group, and reaps the leader.
func (p *process) wait() {
	waitNoReap(p.cmd.Process.Pid)
	p.signal(syscall.SIGKILL)
	killTagged(p.tag)
	p.mu.Lock()
	err := p.cmd.Wait()
	p.gone = true
	p.mu.Unlock()
	p.closeStdin()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		p.code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			p.sig = signalName(ws.Signal())
		}
	} else if err != nil {
		p.code = -1
	}
	close(p.done)
}

// signal reaches every process of the group while the leader is not reaped.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // ESRCH: nobody left
	}
}

// stop asks the group to go, insists after grace, and reports whether it went.
func (p *process) stop(grace time.Duration) bool {
	if grace > 0 {
		p.signal(syscall.SIGTERM)
		if closedWithin(p.done, grace) {
			return true
		}
	}
	p.signal(syscall.SIGKILL)
	return closedWithin(p.done, unreaped)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) closeStdin() {
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
}

func closedWithin(ch <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
		return true
	case <-t.C:
		return false
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

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGKILL:
		return "SIGKILL"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGHUP:
		return "SIGHUP"
	case syscall.SIGSEGV:
		return "SIGSEGV"
	case syscall.SIGBUS:
		return "SIGBUS"
	case syscall.SIGABRT:
		return "SIGABRT"
	}
	return fmt.Sprintf("signal %d", int(s))
}
