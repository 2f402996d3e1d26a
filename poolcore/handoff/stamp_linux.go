package handoff

import (
	"io/fs"
	"syscall"
	"time"
)

// stamp changes with every write to a file, and with every file that takes its
// place: nobody can set the time of the last change.
type stamp struct {
	dev, ino uint64
	size     int64
	ctime    syscall.Timespec
}

func stampOf(fi fs.FileInfo) (stamp, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() {
		return stamp{}, false
	}
	return stamp{uint64(st.Dev), st.Ino, st.Size, st.Ctim}, true
}

// changed is when the file was written to, renamed or given away last.
func (s stamp) changed() time.Time { return time.Unix(s.ctime.Unix()) }
