//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/llorch/llorch/orchestrator/store"
)

// lockFile takes f for this process until f is closed; ErrInUse if another has
// it. The kernel gives it back when the process dies.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return store.ErrInUse
	}
	if err != nil {
		return fmt.Errorf("lock file: %w", err)
	}
	return nil
}
