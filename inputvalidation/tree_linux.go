package inputvalidation

import (
	"os"
	"syscall"
)

// Magic numbers of statfs(2).
const (
	procMagic = 0x9fa0
	sysMagic  = 0x62656572
)

// onKernelFS reports whether dir is on procfs or sysfs, whose links and files
// are doors to other processes and devices.
func onKernelFS(dir *os.Root) (bool, error) {
	f, err := dir.Open(".")
	if err != nil {
		return false, err
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var st syscall.Statfs_t
	var statErr error
	if err := conn.Control(func(fd uintptr) { statErr = syscall.Fstatfs(int(fd), &st) }); err != nil {
		return false, err
	}
	return st.Type == procMagic || st.Type == sysMagic, statErr
}
