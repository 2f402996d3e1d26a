//go:build !linux && !darwin && !freebsd

package vfs

import (
	"errors"
	"fmt"
)

// OS is not available here: directory sync, locks and ownership are not what
// the log promises.
func OS(string) (FS, error) {
	return nil, fmt.Errorf("open directory: %w", errors.ErrUnsupported)
}
