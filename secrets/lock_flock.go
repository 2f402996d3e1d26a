//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package secrets

import (
	"os"
	"syscall"
)

// lock waits for the exclusive lock on dir, which ends when dir is closed or the
// process dies.
func lock(dir *os.File) error {
	for {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}
