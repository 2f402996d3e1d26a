package poolcore

import (
	"maps"
	"sync"

	"github.com/llorch/llorch/poolcore/internal/proc"
)

// maxMembers bounds how many processes of one worker are remembered.
const maxMembers = 4096

// members are the processes that a worker was seen with: pid → start. A pid alone
// would name a stranger once the kernel gives it again.
type members struct {
	mu   sync.Mutex
	pids map[int]uint64
	gpu  bool // the driver tells what they use
}

// living returns the pids of the members that live, and remembers them.
func (m *members) living(p *proc.Process) map[int]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pids == nil {
		m.pids = map[int]uint64{}
	}
	if len(m.pids) > maxMembers {
		maps.DeleteFunc(m.pids, func(pid int, began uint64) bool { now, ok := proc.StartTicks(pid); return !ok || now != began })
	}
	out := map[int]bool{}
	for _, pid := range p.PIDs() {
		if began, ok := proc.StartTicks(pid); ok {
			m.pids[pid], out[pid] = began, true
		}
	}
	return out
}

// hadLocked reports whether the process that has, or had, that pid was a member.
func (m *members) hadLocked(pid int) bool {
	began, ok := m.pids[pid]
	now, lives := proc.StartTicks(pid)
	return ok && (!lives || now == began)
}
