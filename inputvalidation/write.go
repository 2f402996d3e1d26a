package inputvalidation

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
)

// Create creates a new file for reading and writing. Anything that exists
// there, a dangling symbolic link included, is an error that matches
// fs.ErrExist. perm is 0..0777 before the process's umask, else RuleBounds. The
// directory that will hold the file must exist. A name ".tmp-<16 hex>", which
// [Tree.Files] leaves out, is RuleSyntax.
func (t *Tree) Create(p RelPath, perm fs.FileMode) (*os.File, error) {
	var f *os.File
	err := t.inNewParent(p, perm, func(dir *os.Root, base string) error {
		var err error
		f, err = dir.OpenFile(base, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		return treeError("path", err)
	})
	return f, err
}

// WriteFile replaces the content of a regular file, or creates it, durably and
// in one step: whoever reads it sees the old content or the new one, also after
// a crash, and when WriteFile returns nil the new one has reached the disk.
// After an error the old content stands, or the new one if only the last sync
// failed. It writes a file ".tmp-<16 hex>" in the same directory, which a crash
// may leave behind; such a name for p itself is RuleSyntax. perm is 0..0777 before the umask, else RuleBounds; a
// replaced file's own permissions and owner are not kept. Concurrent writers
// of one path do not mix; the last rename wins.
func (t *Tree) WriteFile(p RelPath, data []byte, perm fs.FileMode) error {
	return t.inNewParent(p, perm, func(dir *os.Root, base string) error {
		return treeError("path", replaceFile(rootDir{dir}, base, data, perm))
	})
}

// inNewParent is inParent for a file that is to be made with the permissions
// perm. It refuses a name that Files would not list.
func (t *Tree) inNewParent(p RelPath, perm fs.FileMode, do func(dir *os.Root, base string) error) error {
	switch {
	case perm&^fs.ModePerm != 0:
		return refuse("path", RuleBounds)
	case isTempName(p.Base()) && !t.closed.Load():
		return refuse("path", RuleSyntax)
	}
	return t.inParent(p, do)
}

// Remove removes a regular file. The removal is not synced: after a crash the
// file may be back.
func (t *Tree) Remove(p RelPath) error {
	return t.inParent(p, func(dir *os.Root, base string) error {
		fi, err := dir.Lstat(base)
		if err != nil {
			return treeError("path", err)
		}
		if err := checkKind(fi); err != nil {
			return err
		}
		return treeError("path", dir.Remove(base)) // removes a link itself, never its target
	})
}

// makeDir makes the directory name of dir and syncs dir, so that what is made
// durable inside stays reachable. Another process may make it first.
func makeDir(dir interface {
	Mkdir(name string, perm fs.FileMode) error
	Sync() error
}, name string,
) error {
	if isTempName(name) {
		return refuse("path", RuleSyntax)
	}
	if err := dir.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return treeError("path", err)
	}
	return treeError("path", dir.Sync())
}

// writeDir is one directory as replaceFile sees it; the tests let each step fail.
type writeDir interface {
	Lstat(name string) (fs.FileInfo, error)
	Create(name string, perm fs.FileMode) (writeHandle, error)
	Rename(from, to string) error
	Remove(name string) error
	Sync() error
}

type writeHandle interface {
	io.WriteCloser
	Sync() error
}

// rootDir is the writeDir of an open directory.
type rootDir struct{ *os.Root }

func (d rootDir) Create(name string, perm fs.FileMode) (writeHandle, error) {
	return d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
}

func (d rootDir) Sync() error { return syncDir(d.Root) }

// replaceFile writes data beside name, syncs it, renames it to name and syncs
// the directory. A rename never follows a link, so checking the old file first
// is a courtesy that no race can turn into an escape.
func replaceFile(dir writeDir, name string, data []byte, perm fs.FileMode) error {
	old, err := dir.Lstat(name)
	if err == nil {
		err = checkKind(old)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp := tempName()
	f, err := dir.Create(temp, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		_ = dir.Remove(temp) // best effort: the first error is the one to act on
		return err
	}
	return dir.Sync()
}

const tempPrefix = ".tmp-"

// tempName returns a name that no other writer uses.
func tempName() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: the runtime stops the process instead
	return tempPrefix + hex.EncodeToString(id[:])
}
