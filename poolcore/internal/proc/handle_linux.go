package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Numbers of system calls that package syscall does not have; they are the same on
// every architecture that has 64-bit Go.
const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
)

// handle is a pidfd: it names one process for ever, and never another one.
type handle struct {
	pid   int
	ticks uint64 // start time of the process when the handle was opened
	file  *os.File
}

// open returns a handle of the process that has that pid now.
func open(pid int) (*handle, error) {
	fd, _, e := syscall.Syscall(sysPidfdOpen, uintptr(pid), syscall.O_NONBLOCK, 0)
	if e == syscall.EINVAL { // kernels before 5.10 know no flag
		fd, _, e = syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	}
	switch e {
	case 0:
	case syscall.ESRCH:
		return nil, ErrGone
	default:
		return nil, fmt.Errorf("open process: %w", e)
	}
	syscall.CloseOnExec(int(fd))
	h := &handle{pid: pid, file: os.NewFile(fd, "pidfd")}
	s, err := readStat(pid)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	h.ticks = s.StartTicks
	return h, nil
}

func (h *handle) close() error { return h.file.Close() }

// signal reaches exactly the process of the handle; ErrGone when it was reaped.
func (h *handle) signal(s syscall.Signal) error {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return ErrGone
	}
	var e syscall.Errno
	if err := conn.Control(func(fd uintptr) {
		_, _, e = syscall.Syscall6(sysPidfdSendSignal, fd, uintptr(s), 0, 0, 0, 0)
	}); err != nil {
		return ErrGone
	}
	switch e {
	case 0:
		return nil
	case syscall.ESRCH:
		return ErrGone
	}
	return fmt.Errorf("signal process: %w", e)
}

// ended reports whether the process has exited, reaped or not.
func (h *handle) ended() bool {
	s, err := readStat(h.pid)
	return errors.Is(err, ErrGone) || err == nil && (s.StartTicks != h.ticks || s.Ended())
}

// Where a handle cannot be waited for, the process is looked at so often; where it
// can, a look now and then guards against an event that never comes.
const (
	pollEvery  = 25 * time.Millisecond
	guardEvery = 5 * time.Second
)

// wait blocks until the process has exited.
func (h *handle) wait() {
	if conn, err := h.file.SyscallConn(); err == nil {
		for h.file.SetReadDeadline(time.Now().Add(guardEvery)) == nil {
			err := conn.Read(func(uintptr) bool { return h.ended() })
			if err == nil {
				return
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
		}
	}
	for !h.ended() {
		time.Sleep(pollEvery)
	}
}

// StartTicks returns when the process that has that pid now was started; false:
// none has, or it has ended. Pid and start together name one process.
func StartTicks(pid int) (uint64, bool) {
	s, err := readStat(pid)
	return s.StartTicks, err == nil && !s.Ended()
}

// readStat reads the stat of a pid; ErrGone when there is none.
func readStat(pid int) (Stat, error) {
	b, err := readProc(pid, "stat", maxStat)
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(b)
}

// readProc reads at most limit bytes of a file of /proc/PID.
func readProc(pid int, name string, limit int) ([]byte, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/" + name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("read process: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)))
	if errors.Is(err, syscall.ESRCH) {
		return nil, ErrGone
	}
	return b, nil // or what was readable so far
}
