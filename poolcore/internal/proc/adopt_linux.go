package proc

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Adopt takes over the process that id describes: a child of an owner that died.
// ErrGone: there is no such process any more. ErrDifferent: the pid belongs to
// somebody else, or something of it cannot be read; nothing was signalled, and
// nothing may be. tag and cg are what the process was started with.
func Adopt(id Identity, tag string, cg *Cgroup) (*Process, error) {
	if id.PID <= 1 {
		return nil, ErrDifferent
	}
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDifferent, err)
	}
	if boot != id.BootID {
		return nil, ErrGone // nothing outlives a start of the machine
	}
	h, err := open(id.PID)
	if err != nil {
		return nil, differentUnlessGone(err)
	}
	// The handle was opened before the look: when the start time is the recorded
	// one, the process existed at the opening and the handle is its own.
	if err := prove(h, id); err != nil {
		return nil, errors.Join(err, h.close())
	}
	p := &Process{
		pid: id.PID, ticks: id.StartTicks, tag: tag, leader: h, cgroup: cg, start: time.Now(), exited: make(chan struct{}), done: make(chan struct{}),
	}
	go p.watchAdopted()
	return p, nil
}

func prove(h *handle, id Identity) error {
	now, err := identify(h.pid)
	if err != nil {
		return differentUnlessGone(err)
	}
	if h.ended() {
		return ErrGone
	}
	if !now.matches(id) {
		return ErrDifferent
	}
	return nil
}

func differentUnlessGone(err error) error {
	if errors.Is(err, ErrGone) {
		return ErrGone
	}
	return fmt.Errorf("%w: %w", ErrDifferent, err)
}

func (p *Process) watchAdopted() {
	p.leader.wait()
	close(p.exited)
	p.endSurvivors()
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.exit = Exit{Code: -1}
	_ = p.leader.close()
	close(p.done)
}

// signalAdopted reaches the leader and the members of its group, each through a
// handle. A member counts only if the leader still lives after the member's group
// was read: until then the group's id was the leader's.
func (p *Process) signalAdopted(s syscall.Signal) {
	for _, pid := range pids() {
		if st, err := readStat(pid); err != nil || st.Group != p.pid || pid == p.pid {
			continue
		}
		h, err := open(pid)
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil && st.Group == p.pid && st.StartTicks == h.ticks && !p.leader.ended() {
			_ = h.signal(s) // it may be gone by now
		}
		_ = h.close()
	}
	_ = p.leader.signal(s) // ErrGone: the watcher sees it too
}
