package poolcore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockDir takes the directory itself, so that no lock file stays behind. The
// kernel ends the lock with the process. A directory in which others can write is
// refused: they could put records and keys of their own there.
func lockDir(root *os.Root) (func(), error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	info, err := dir.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at directory: %w", err), dir.Close())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Geteuid() && st.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return nil, errors.Join(errors.New("others can write in it"), dir.Close())
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("another host uses it"), dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}
