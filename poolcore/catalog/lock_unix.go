//go:build unix && !aix && !solaris

package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// lockFileIn takes the lock of a catalogue. The kernel ends it with the process,
// so that a crash leaves nothing to clean up.
func lockFileIn(root *os.Root) (func() error, error) {
	if fi, err := root.Lstat(lockFile); err == nil && !fi.Mode().IsRegular() {
		return nil, refuse(InvalidParams, "the lock is no regular file")
	}
	f, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = because(ErrLocked, err, "another process has the catalogue open")
		} else {
			err = fmt.Errorf("lock catalogue: %w", err)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// inodeOf returns the number by which the file system knows a file.
func inodeOf(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
