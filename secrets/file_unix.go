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

// judge applies the rules of private files. The warning is for systems that have
// no such rules.
func judge(dir, file fs.FileInfo, path string) (warning string, _ error) {
	uid := os.Geteuid()
	d, okDir := dir.Sys().(*syscall.Stat_t)
	f, okFile := file.Sys().(*syscall.Stat_t)
	if !okDir || !okFile {
		return "", refusal(path, "its owner is unknown", file)
	}
	owned := func(by uint32) bool { return by == 0 || int(by) == uid }
	if !owned(f.Uid) {
		e := refusal(path, fmt.Sprintf("it belongs to another user; chown %d %q", uid, path), file)
		e.Owner = int(f.Uid)
		return "", e
	}
	if file.Mode().Perm()&0o077 != 0 {
		return "", refusal(path, fmt.Sprintf("group or others may use it (mode %04o); chmod 600 %q", file.Mode().Perm(), path), file)
	}
	if f.Nlink != 1 {
		return "", refusal(path, "it has several hard links", file)
	}
	if !owned(d.Uid) {
		e := refusal(path, "its directory belongs to another user", dir)
		e.Owner = int(d.Uid)
		return "", e
	}
	if dir.Mode().Perm()&0o022 != 0 && dir.Mode()&fs.ModeSticky == 0 {
		return "", refusal(path, fmt.Sprintf("group or others may write to its directory (mode %04o); chmod go-w it", dir.Mode().Perm()), dir)
	}
	return "", nil
}

func refusal(path, reason string, fi fs.FileInfo) *Error {
	e := fault("read", ErrPermission, reason)
	e.Path, e.Mode = path, fi.Mode()
	return e
}
