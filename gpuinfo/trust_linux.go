package gpuinfo

import (
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// overflowUID is how a user namespace shows owners that it does not map, the real
// root among them.
const overflowUID = 65534

// ownedByRoot reports whether the file belongs to root, as far as this process can
// tell.
func ownedByRoot(path string, info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	if st.Uid != overflowUID {
		return st.Uid == 0
	}
	uids, err := os.ReadFile("/proc/self/uid_map")
	const writable = 2 // W_OK of access(2)
	return err == nil && ownerMayBeRoot(os.Getuid(), string(uids), syscall.Access(path, writable) == nil)
}

// ownerMayBeRoot judges a file that shows the overflow owner: only inside a user
// namespace can that be root, and never where this process could write the file.
func ownerMayBeRoot(self int, uidMap string, writable bool) bool {
	first := strings.Fields(uidMap)
	initial := len(first) == 3 && first[0] == "0" && first[1] == "0" && first[2] == "4294967295"
	return len(first) >= 3 && !initial && !writable && self != overflowUID
}
