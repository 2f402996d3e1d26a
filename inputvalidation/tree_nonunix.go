//go:build !unix

package inputvalidation

import (
	"io/fs"
	"os"
)

// openNonblock is not needed: there are no FIFOs in the file system.
const openNonblock = 0

// deviceOf returns the same number for every file: a mounted volume shows as a
// reparse point, which counts as a link.
func deviceOf(fs.FileInfo) uint64 { return 0 }

// syncDir does nothing: directories cannot be synced here, the file system
// orders renames in its own journal.
func syncDir(*os.Root) error { return nil }
