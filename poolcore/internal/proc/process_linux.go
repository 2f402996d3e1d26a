package proc

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Process is one engine in a process group of its own, our child or an adopted
// one. Its watcher goroutine alone reaps; whoever signals a child's group holds mu
// and sees gone, so a reused id is never signalled.
type Process struct {
	pid    int
	ticks  uint64 // start time of the leader: nobody older belongs to it
	tag    string
	cmd    *exec.Cmd // nil: adopted
	leader *handle   // adopted
	cgroup *Cgroup   // nil: none
	stdin  *os.File
	start  time.Time
	exited chan struct{} // closed when the leader has exited
	done   chan struct{} // closed when everybody is gone and the leader reaped
	exit   Exit          // valid once done is closed

	mu   sync.Mutex
	gone bool
}

// Start starts s. The process is watched from then on; [Process.Done] tells when
// everybody who belongs to it is gone.
func Start(s Spec) (*Process, error) {
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, s.Log, s.Log
	cmd.Env = append(append([]string{}, s.Env...), TagEnv+"="+s.Tag)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &Process{cmd: cmd, tag: s.Tag, cgroup: s.Cgroup, exited: make(chan struct{}), done: make(chan struct{})}
	if s.Cgroup != nil {
		dir, err := s.Cgroup.open()
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	var childEnd *os.File
	if s.TieStdin {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make stdin: %w", err)
		}
		cmd.Stdin, childEnd, p.stdin = r, r, w
	}
	err := startPrivate(cmd)
	if childEnd != nil {
		_ = childEnd.Close() // the child has its own
	}
	if err != nil {
		p.closeStdin()
		return nil, fmt.Errorf("start process: %w", err)
	}
	p.pid, p.start = cmd.Process.Pid, time.Now()
	if st, err := readStat(p.pid); err == nil { // else 0: everybody is looked at
		p.ticks = st.StartTicks
	}
	go p.watchChild()
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

// watchChild sees the leader end, ends what is left of its group while the group
// id cannot have been reused, then whoever left the group, and reaps the leader.
func (p *Process) watchChild() {
	if !waitNoReap(p.pid) { // somebody else reaps our children: the id may be another's
		p.mu.Lock()
		p.gone = true
		p.mu.Unlock()
	}
	close(p.exited)
	p.signal(syscall.SIGKILL)
	p.endSurvivors()
	p.mu.Lock()
	err := p.cmd.Wait()
	p.gone = true
	p.mu.Unlock()
	p.closeStdin()
	p.exit = Exit{Known: true}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		p.exit.Code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			p.exit.Signal = signalName(ws.Signal())
		}
	} else if err != nil {
		p.exit.Code = -1
	}
	close(p.done)
}

// endSurvivors kills whoever belongs to the worker and still runs, by its cgroup
// or, where there is none, by group and tag, and waits until they are gone.
func (p *Process) endSurvivors() {
	if p.cgroup != nil {
		p.cgroup.killAndWait(forEver)
		return
	}
	killMatching(forEver, func(s Stat) bool {
		return s.StartTicks >= p.ticks && (p.cmd != nil && s.Group == p.pid || carries(s.PID, TagEnv, p.tag))
	})
}

// Stop asks the group to go, insists after grace, and reports whether everybody is
// gone; false: somebody survives SIGKILL for [Unreaped]. A process that is gone
// already is a success. It may be called again and by several callers.
func (p *Process) Stop(grace time.Duration) bool {
	if grace > 0 {
		p.signal(syscall.SIGTERM)
		if closedWithin(p.done, grace) {
			return true
		}
	}
	p.signal(syscall.SIGKILL)
	if p.cgroup != nil {
		p.cgroup.kill()
	}
	return closedWithin(p.done, Unreaped)
}

// signal reaches the group: a child's by its id while the leader is not reaped, an
// adopted one's member by member.
func (p *Process) signal(s syscall.Signal) {
	if p.cmd == nil {
		p.signalAdopted(s)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = syscall.Kill(-p.pid, s) // ESRCH: nobody left
	}
}

// PID is the leader's.
func (p *Process) PID() int { return p.pid }

// Started is when the process was started, or adopted.
func (p *Process) Started() time.Time { return p.start }

// Exited is closed when the leader has exited; the others are ended after that.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Done is closed when the leader is reaped and everybody who belonged to it is
// gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the leader ended; it is valid once Done is closed.
func (p *Process) Exit() Exit { return p.exit }

// Identity reads who the leader is now; a program that replaced itself has another
// ExeIno than at its start. ErrGone: it has ended.
func (p *Process) Identity() (Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock() // not reaped meanwhile
	if p.gone {
		return Identity{}, ErrGone
	}
	return identify(p.pid)
}

func (p *Process) closeStdin() {
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

// waitNoReap blocks until the process has exited and leaves it a zombie; false: it
// is no child of ours any more. Linux takes no buffer for the details to mean that
// nobody wants them.
func waitNoReap(pid int) bool {
	const pPID = 1
	for {
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), 0, syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if e != syscall.EINTR {
			return e == 0
		}
	}
}

func signalName(s syscall.Signal) string {
	names := map[syscall.Signal]string{
		syscall.SIGKILL: "SIGKILL", syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT", syscall.SIGHUP: "SIGHUP",
		syscall.SIGSEGV: "SIGSEGV", syscall.SIGBUS: "SIGBUS", syscall.SIGABRT: "SIGABRT",
	}
	return cmp.Or(names[s], "signal "+strconv.Itoa(int(s)))
}
