//go:build unix

package secrets

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFlags keep a FIFO from blocking the open.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_CLOEXEC

// judge applies the two sets of rules, see the package comment, to a file and to
// the directories above it, of which some are nil.
func judge(p place, uid int, path string, file fs.FileInfo, dirs ...fs.FileInfo) (warning string, _ error) {
	mode := file.Mode().Perm()
	own, ok := file.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return "", refusal(path, "its owner is unknown", file, -1)
	case !p.owned(own.Uid, uid):
		return "", refusal(path, fmt.Sprintf("it belongs to another user; chown %d %q", uid, path), file, int(own.Uid))
	case p.mounted && mode&0o133 != 0:
		return "", refusal(path, fmt.Sprintf("others may write to it or it may be executed (mode %04o); mount it with defaultMode: 0440", mode), file, -1)
	case !p.mounted && mode&0o077 != 0:
		return "", refusal(path, fmt.Sprintf("group or others may use it (mode %04o); chmod 600 %q", mode, path), file, -1)
	case !p.mounted && own.Nlink > 1: // 0 was replaced after it was opened, and is whole
		return "", refusal(path, "it has several hard links", file, -1)
	}
	for _, dir := range dirs {
		if dir == nil {
			continue
		}
		if own, ok := dir.Sys().(*syscall.Stat_t); !ok || !p.owned(own.Uid, uid) {
			return "", refusal(path, "its directory belongs to another user", dir, int(own.Uid))
		}
		if dir.Mode().Perm()&0o022 != 0 && dir.Mode()&fs.ModeSticky == 0 {
			return "", refusal(path, fmt.Sprintf("group or others may write to its directory (mode %04o); chmod go-w it", dir.Mode().Perm()), dir, -1)
		}
	}
	if p.mounted && mode&0o044 != 0 && (!p.credential || mode != 0o440) {
		warning = "group or others may read the file; mount it with defaultMode: 0400"
	}
	return warning, nil
}

// owned reports whether a file of that owner may hold secrets of uid.
func (p place) owned(owner uint32, uid int) bool {
	return p.anyOwner || owner == 0 || int(owner) == uid
}

// foreign reports whether a link was made by somebody who may not decide where
// the secrets of this process are.
func foreign(p place, link fs.FileInfo) bool {
	own, ok := link.Sys().(*syscall.Stat_t)
	return !ok || !p.owned(own.Uid, os.Geteuid())
}

func refusal(path, reason string, fi fs.FileInfo, owner int) *Error {
	e := fault("read", ErrPermission, reason).at(path)
	e.Mode, e.Owner = fi.Mode(), owner
	return e
}
