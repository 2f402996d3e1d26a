package inputvalidation

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// TreeConfig relaxes the rules of a [Tree]. The zero value is the strictest.
type TreeConfig struct {
	// FollowWithin follows symbolic links that stay inside the directory, for
	// caches that link their files. Default: every link is RuleSymlink.
	FollowWithin bool
	// CrossDevice allows directories of other file systems below the
	// directory. Default: RuleOutside. The directories named by a path are
	// checked, not those that a followed link passes through.
	CrossDevice bool
}

// Tree gives access to the files of one directory and never to anything
// outside, nor to a symbolic link (unless FollowWithin), device, FIFO, socket
// or directory as a file, even while another process renames and links inside.
// The directory is held open: renaming it later does not change what is
// served. All methods are safe for concurrent use. After Close each returns
// fs.ErrClosed; every other error is an [*Error] without any path.
type Tree struct {
	root   *os.Root
	device uint64 // of the directory itself
	cfg    TreeConfig
	closed atomic.Bool
}

// OpenTree opens an absolute, existing directory. dir comes from the operator:
// links on the way to it are followed. The file systems proc and sysfs are
// RuleOutside.
func OpenTree(dir string, cfg TreeConfig) (*Tree, error) {
	if dir == "" {
		return nil, refuse("dir", RuleEmpty)
	}
	if !filepath.IsAbs(dir) {
		return nil, refuse("dir", RuleSyntax)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		if fi, statErr := os.Stat(dir); statErr == nil && !fi.IsDir() {
			return nil, refuse("dir", RuleNotRegular)
		}
		return nil, treeError("dir", err)
	}
	t := &Tree{root: root, cfg: cfg}
	if err := t.inspect(); err != nil {
		_ = root.Close() // read only: nothing can be lost
		return nil, err
	}
	return t, nil
}

// inspect learns the device of the directory and refuses kernel file systems.
func (t *Tree) inspect() error {
	f, err := t.root.Open(".")
	if err != nil {
		return treeError("dir", err)
	}
	defer f.Close()
	kernel, err := onKernelFS(f)
	if err != nil {
		return treeError("dir", err)
	}
	if kernel {
		return refuse("dir", RuleOutside)
	}
	fi, err := f.Stat()
	if err != nil {
		return treeError("dir", err)
	}
	t.device = deviceOf(fi)
	return nil
}

// Close releases the directory. Files opened through t stay open.
func (t *Tree) Close() error {
	if t.closed.Swap(true) {
		return fs.ErrClosed
	}
	return treeError("dir", t.root.Close())
}

// Open opens a regular file for reading and returns its description as of the
// opening. Nothing else is opened even for a moment, so a FIFO cannot block it.
func (t *Tree) Open(p RelPath) (*os.File, fs.FileInfo, error) {
	if t.cfg.FollowWithin {
		if err := t.ready(p); err != nil {
			return nil, nil, err
		}
		if err := t.checkDevices(p); err != nil {
			return nil, nil, err
		}
		return openSame(t.root, p.text, t.root.Stat)
	}
	var f *os.File
	var fi fs.FileInfo
	err := t.inParent(p, func(dir *os.Root, base string) error {
		var err error
		f, fi, err = openSame(dir, base, dir.Lstat)
		return err
	})
	return f, fi, err
}

// openTries bounds how often a file is looked at again that was replaced
// between the look and the opening, as WriteFile does. Each try is checked by
// itself, so a hostile writer gains nothing from it.
const openTries = 8

// openSame opens a regular file and makes sure that it is the one that look
// showed. os.Root resolves a last symbolic link even when O_NOFOLLOW is given,
// so the comparison is what keeps links out.
func openSame(dir *os.Root, name string, look func(string) (fs.FileInfo, error)) (*os.File, fs.FileInfo, error) {
	for range openTries {
		before, err := look(name)
		if err != nil {
			return nil, nil, treeError("path", err)
		}
		if err := checkKind(before); err != nil {
			return nil, nil, err
		}
		f, err := dir.OpenFile(name, os.O_RDONLY|openNonblock, 0)
		if err != nil {
			return nil, nil, treeError("path", err)
		}
		fi, err := f.Stat()
		if err == nil && fi.Mode().IsRegular() && os.SameFile(before, fi) {
			return f, fi, nil
		}
		_ = f.Close() // read only: nothing can be lost
		if err != nil {
			return nil, nil, treeError("path", err)
		}
	}
	return nil, nil, refuse("path", RuleOutside)
}

// ReadFile returns the content of a regular file of at most max bytes; a
// larger one is RuleTooLong, a max below 1 RuleBounds.
func (t *Tree) ReadFile(p RelPath, max int64) ([]byte, error) {
	if max < 1 || max == math.MaxInt64 {
		return nil, refuse("path", RuleBounds)
	}
	f, fi, err := t.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi.Size() > max {
		return nil, refuseLong("path", -1, clampInt(max), clampInt(fi.Size()))
	}
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, treeError("path", err)
	}
	if int64(len(data)) > max { // it grew after the opening
		return nil, refuseLong("path", -1, clampInt(max), len(data))
	}
	return data, nil
}

// ready refuses the zero path and a closed tree.
func (t *Tree) ready(p RelPath) error {
	if t.closed.Load() {
		return fs.ErrClosed
	}
	if p.IsZero() {
		return refuse("path", RuleEmpty)
	}
	return nil
}

// inParent calls do with a handle on the directory that holds p, reached
// component by component.
func (t *Tree) inParent(p RelPath, do func(dir *os.Root, base string) error) error {
	if err := t.ready(p); err != nil {
		return err
	}
	dir := t.root
	rest := p.text
	for {
		part, tail, more := strings.Cut(rest, "/")
		if !more {
			return do(dir, part)
		}
		next, err := t.enter(dir, part)
		if err != nil {
			return err
		}
		defer next.Close() // at most 2,048 components; all closed before inParent returns
		dir, rest = next, tail
	}
}

// enter opens the directory name of dir and makes sure that it is the one that
// stood there.
func (t *Tree) enter(dir *os.Root, name string) (*os.Root, error) {
	look := dir.Lstat
	if t.cfg.FollowWithin {
		look = dir.Stat
	}
	before, err := look(name)
	if err != nil {
		return nil, treeError("path", err)
	}
	if before.Mode()&fs.ModeSymlink != 0 {
		return nil, refuse("path", RuleSymlink)
	}
	if err := t.checkDir(before); err != nil {
		return nil, err
	}
	next, err := dir.OpenRoot(name)
	if err != nil {
		return nil, treeError("path", err)
	}
	after, err := next.Stat(".")
	switch {
	case err != nil:
		err = treeError("path", err)
	case !os.SameFile(before, after):
		err = refuse("path", RuleOutside)
	default:
		return next, nil
	}
	_ = next.Close() // a directory handle: nothing can be lost
	return nil, err
}

// checkDevices checks the directories that p names, following links.
func (t *Tree) checkDevices(p RelPath) error {
	for i := range len(p.text) {
		if p.text[i] != '/' {
			continue
		}
		fi, err := t.root.Stat(p.text[:i])
		if err != nil {
			return treeError("path", err)
		}
		if err := t.checkDir(fi); err != nil {
			return err
		}
	}
	return nil
}

// checkDir refuses what is no directory of an allowed file system.
func (t *Tree) checkDir(fi fs.FileInfo) error {
	if !fi.IsDir() {
		return refuse("path", RuleNotRegular)
	}
	if !t.cfg.CrossDevice && deviceOf(fi) != t.device {
		return refuse("path", RuleOutside)
	}
	return nil
}

// checkKind refuses what is no regular file.
func checkKind(fi fs.FileInfo) error {
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return refuse("path", RuleSymlink)
	case !fi.Mode().IsRegular():
		return refuse("path", RuleNotRegular)
	}
	return nil
}

// treeError maps an error of package os to one without texts and paths.
func treeError(field string, err error) error {
	var own *Error
	var errno syscall.Errno
	switch {
	case err == nil, errors.As(err, &own):
		return err
	case errors.Is(err, fs.ErrClosed):
		return fs.ErrClosed
	case errors.Is(err, fs.ErrNotExist):
		return refuse(field, ruleNotExist)
	case errors.Is(err, fs.ErrExist):
		return refuse(field, ruleExists)
	case errors.Is(err, fs.ErrPermission):
		return refuse(field, rulePermission)
	case errors.Is(err, syscall.ELOOP):
		return refuse(field, RuleSymlink)
	case errors.Is(err, syscall.ENOTDIR):
		return refuse(field, RuleNotRegular)
	case !errors.As(err, &errno) && !errors.Is(err, io.ErrShortWrite):
		// os.Root itself refused a path that leads outside; the paths given to
		// it have no other fault, because they are RelPaths.
		return refuse(field, RuleOutside)
	}
	return refuse(field, ruleIO)
}

func clampInt(n int64) int { return int(min(n, math.MaxInt)) }
