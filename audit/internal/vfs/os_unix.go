//go:build linux || darwin || freebsd

package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// OS opens dir, making it with mode 0700 if it is absent, and refuses one that
// others could write to or read. All access goes through an os.Root handle.
func OS(dir string) (FS, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, wrap("open directory", err)
	}
	fi, err := root.Stat(".")
	if err == nil {
		err = safe(fi, fi.IsDir(), 0o700)
	}
	if err != nil {
		return nil, errors.Join(wrap("check directory", err), root.Close())
	}
	return &osFS{root: root}, nil
}

func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return wrap("make directory", err)
	}
	return wrap("sync parent directory", syncDir(os.Open(filepath.Dir(filepath.Clean(dir)))))
}

func syncDir(d *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// wrap says what failed, without the path: callers must not see paths.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, bare(err))
}

// bare leaves nil and io.EOF as they are.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}

// safe refuses what is not of the wanted kind, is owned by another user, or
// has mode bits outside max. Root's files are accepted by root only.
func safe(fi fs.FileInfo, kind bool, limit fs.FileMode) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !kind:
		return fmt.Errorf("%w: wrong kind of file", ErrUnsafePath)
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: owned by another user", ErrUnsafePath)
	case fi.Mode().Perm()&^limit != 0:
		return fmt.Errorf("%w: mode is open to others", ErrUnsafePath)
	case fi.Mode().IsRegular() && st.Nlink != 1:
		return fmt.Errorf("%w: has several names", ErrUnsafePath)
	}
	return nil
}

type osFS struct{ root *os.Root }

func (o *osFS) Close() error { return o.root.Close() }

func (o *osFS) Lock(name, text string) (io.Closer, error) {
	f, err := o.openChecked(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, wrap("open lock", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0)
		pid, _, _ := strings.Cut(string(holder[:n]), " ")
		return nil, errors.Join(fmt.Errorf("%w: by process %q", ErrLocked, pid), f.Close())
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(text+"\n"), 0)
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) { // the text is a courtesy
		return nil, errors.Join(wrap("write lock", err), f.Close())
	}
	return f, nil
}

// openChecked looks at the name before and at the handle after opening: a FIFO
// is never opened, and a name that was exchanged in between is refused.
func (o *osFS) openChecked(name string, flag int) (*os.File, error) {
	before, err := o.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
	case err != nil:
		return nil, bare(err)
	default:
		if err := safe(before, before.Mode().IsRegular(), 0o600); err != nil {
			return nil, err
		}
	}
	f, err := o.root.OpenFile(name, flag|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, bare(err)
	}
	after, err := f.Stat()
	if err == nil {
		err = safe(after, after.Mode().IsRegular(), 0o600)
	}
	if err == nil && before != nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%w: replaced while opening", ErrUnsafePath)
	}
	if err != nil {
		return nil, errors.Join(bare(err), f.Close())
	}
	return f, nil
}

func (o *osFS) Create(name string) (File, error) {
	f, err := o.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, wrap("create file", err)
	}
	return &osFile{f}, nil
}

func (o *osFS) Open(name string, write bool) (File, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	f, err := o.openChecked(name, flag)
	if err != nil {
		return nil, wrap("open file", err)
	}
	return &osFile{f}, nil
}

func (o *osFS) Rename(from, to string) error { return wrap("rename file", o.root.Rename(from, to)) }
func (o *osFS) Remove(name string) error     { return wrap("remove file", o.root.Remove(name)) }
func (o *osFS) SyncDir(folder string) error  { return wrap("sync folder", syncDir(o.root.Open(folder))) }

func (o *osFS) Mkdir(name string) error {
	if err := o.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return wrap("make folder", err)
	}
	fi, err := o.root.Lstat(name)
	if err != nil {
		return wrap("check folder", err)
	}
	return safe(fi, fi.IsDir(), 0o700)
}

func (o *osFS) List() ([]Entry, error) {
	entries, err := fs.ReadDir(o.root.FS(), ".")
	var list []Entry
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		fi, gone := e.Info()
		if gone != nil {
			return nil, wrap("look up file", gone)
		}
		list = append(list, Entry{Name: fi.Name(), Size: fi.Size()})
	}
	return list, wrap("list directory", err)
}

func (o *osFS) Linked(name string, f File) (bool, error) {
	named, err := o.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, wrap("look up file", err)
	}
	of, ok := f.(*osFile)
	if !ok {
		return false, errors.New("look up file: foreign handle")
	}
	open, err := of.f.Stat()
	return err == nil && os.SameFile(named, open), wrap("stat file", err)
}

func (o *osFS) Free() (int64, error) {
	d, err := o.root.Open(".")
	if err != nil {
		return 0, wrap("open directory", err)
	}
	var st syscall.Statfs_t
	err = errors.Join(syscall.Fstatfs(int(d.Fd()), &st), d.Close())
	return int64(st.Bavail) * int64(st.Bsize), wrap("stat file system", err)
}

type osFile struct{ f *os.File }

func (o *osFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.f.ReadAt(p, off)
	return n, bare(err)
}

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.f.WriteAt(p, off)
	return n, bare(err)
}

func (o *osFile) Close() error                 { return bare(o.f.Close()) }
func (o *osFile) Truncate(size int64) error    { return bare(o.f.Truncate(size)) }
func (o *osFile) Sync() error                  { return bare(o.f.Sync()) }
func (o *osFile) Chmod(mode fs.FileMode) error { return bare(o.f.Chmod(mode)) }
