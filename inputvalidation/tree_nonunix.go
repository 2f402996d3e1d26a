//go:build !unix

package inputvalidation

import (
	"io/fs"
	"os"
)

// openNonblock is not needed: there are no FIFOs in the file system.
const openNonblock = 0

// fileKey returns the same first number for every file, because a mounted
// volume shows as a reparse point, which counts as a link; the second is one
// that few files share.
func fileKey(fi fs.FileInfo) [2]uint64 { return [...]uint64{0, uint64(fi.ModTime().UnixNano())} }

// syncDir does nothing: directories cannot be synced here, the file system
// orders renames in its own journal.
func syncDir(*os.Root) error { return nil }
