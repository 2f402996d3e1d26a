//go:build !linux

package proc

import (
	"net/netip"
	"time"
)

// Supported returns ErrUnsupported.
func Supported() error { return ErrUnsupported }

// Cgroup does not exist here.
type Cgroup struct{}

// NewCgroup answers ErrUnsupported.
func NewCgroup(string, string) (*Cgroup, error) { return nil, ErrUnsupported }

// FindCgroup finds none.
func FindCgroup(string, string) *Cgroup { return nil }

// Discard does nothing.
func (*Cgroup) Discard() {}

// Process does not exist here.
type Process struct{}

// Start answers ErrUnsupported.
func Start(Spec) (*Process, error) { return nil, ErrUnsupported }

// Adopt answers ErrUnsupported.
func Adopt(Identity, string, *Cgroup) (*Process, error) { return nil, ErrUnsupported }

// StartTicks knows nobody.
func StartTicks(int) (uint64, bool) { return 0, false }

// Tagged is false.
func Tagged(int, string) bool { return false }

// KillInstance answers 0.
func KillInstance(string, map[string]bool, func(string) bool) int { return 0 }

// KillCgroups answers 0.
func KillCgroups(string, time.Duration, func(string) bool) int { return 0 }

// PID is 0.
func (*Process) PID() int { return 0 }

// Identity answers ErrUnsupported.
func (*Process) Identity() (Identity, error) { return Identity{}, ErrUnsupported }

// Started is zero.
func (*Process) Started() time.Time { return time.Time{} }

// Exited is never closed.
func (*Process) Exited() <-chan struct{} { return nil }

// Done is never closed.
func (*Process) Done() <-chan struct{} { return nil }

// Exit is zero.
func (*Process) Exit() Exit { return Exit{} }

// Stop has nothing to stop.
func (*Process) Stop(time.Duration) bool { return true }

// PIDs is empty.
func (*Process) PIDs() []int { return nil }

// ReadBytes is 0.
func (*Process) ReadBytes() uint64 { return 0 }

// OOMKills is 0.
func (*Process) OOMKills() uint64 { return 0 }

// Listens does not know.
func (*Process) Listens(netip.AddrPort) (owned, known, anybody bool) { return false, false, false }
