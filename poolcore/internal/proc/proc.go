// Package proc starts engine processes in groups of their own, watches them, ends
// them with everything that they started, and takes over those that an earlier
// owner of the same state directory left running.
//
// # Identity
//
// A pid is a number that the kernel uses again. A process that is not our unreaped
// child is signalled through a pidfd only, and only after its start time and the
// boot id were compared with what was written down when it was ours. Anything that
// differs or cannot be read means: not ours.
//
// # Groups
//
// The members of a worker are its process group, the processes that carry its tag
// in their environment, and, where a delegated cgroup v2 folder is configured,
// everybody in its cgroup. The id of a group is used only while its leader is our
// unreaped child, because no other process can have that number then.
//
// Linux only; elsewhere every function answers [ErrUnsupported].
package proc

import (
	"errors"
	"os"
	"time"
)

// Variables that mark every process of a worker, also one that left its group.
const (
	TagEnv      = "LLORCH_WORKER_ID"
	InstanceEnv = "LLORCH_INSTANCE"
)

// Unreaped is how long after SIGKILL a process counts as stuck: only the kernel
// can hold it for longer.
const Unreaped = 10 * time.Second

// Errors of this package.
var (
	ErrUnsupported = errors.New("proc: needs Linux")
	// ErrGone: no process has that pid any more.
	ErrGone = errors.New("proc: process is gone")
	// ErrDifferent: the pid belongs to another process, or nothing proves that it
	// does not.
	ErrDifferent = errors.New("proc: pid belongs to another process")
)

// Spec is a process to start.
type Spec struct {
	Path string
	Args []string // without the program's name
	Dir  string
	Env  []string // the whole environment; TagEnv is added
	Log  *os.File // gets stdout and stderr; may be closed after Start
	Tag  string   // the worker's id, different for every process ever started
	// TieStdin gives the process a pipe as stdin whose other end lives as long as
	// this program; otherwise stdin is the null device.
	TieStdin bool
	// Cgroup, if not nil, is where the process is born.
	Cgroup *Cgroup
}

// Identity tells one process from every other that ever had its pid.
type Identity struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // field 22 of /proc/PID/stat
	BootID     string `json:"boot_id"`
	ExeDev     uint64 `json:"exe_dev"`
	ExeIno     uint64 `json:"exe_ino"`
}

// Exit is how a process ended.
type Exit struct {
	Code   int    // −1 after a signal and when Known is false
	Signal string // such as "SIGKILL"; empty after an ordinary exit
	Known  bool   // false for adopted processes: their parent got the status
}
