//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sqlite

import (
	"errors"
	"fmt"
	"os"
)

// lockFile refuses: without a lock two processes could lead at once.
func lockFile(*os.File) error {
	return fmt.Errorf("lock file: %w on this system", errors.ErrUnsupported)
}
