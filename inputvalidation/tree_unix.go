//go:build unix

package inputvalidation

import (
	"io/fs"
	"os"
	"syscall"
)

// openNonblock keeps a FIFO that was put in the place of a file from blocking.
const openNonblock = syscall.O_NONBLOCK

// deviceOf returns the number of the file system that holds fi.
func deviceOf(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
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
