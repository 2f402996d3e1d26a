package gpuinfo

import (
	"io/fs"
	"os"
	"syscall"
)

// overflowUID is how a user namespace shows owners that it does not map, the real
// root among them.
const overflowUID = 65534

func ownedByRoot(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	if st.Uid == 0 {
		return true
	}
	return st.Uid == overflowUID && os.Getuid() != overflowUID
}
