package poolcore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockDir takes the directory itself, so that no lock file stays behind. The
// kernel ends the lock with the process.
func lockDir(root *os.Root) (func(), error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("another host uses it"), dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}
