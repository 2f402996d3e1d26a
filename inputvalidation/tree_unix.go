//go:build unix

package inputvalidation

import (
	"io/fs"
	"os"
	"syscall"
)

// openNonblock keeps a FIFO that was put in the place of a file from blocking.
const openNonblock = syscall.O_NONBLOCK

// fileKey returns the numbers of the file system that holds fi, and of the file
// in it.
func fileKey(fi fs.FileInfo) (key [2]uint64) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		key = [...]uint64{uint64(st.Dev), uint64(st.Ino)}
	}
	return key
}

// syncDir makes renames inside dir durable.
func syncDir(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
