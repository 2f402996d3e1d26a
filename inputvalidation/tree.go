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
	// MaxDepth bounds the components of a path that [Tree.Files] lists,
	// 1..2048; 0 = 32.
	MaxDepth int
	// MaxEntries bounds the directory entries of every kind that one
	// [Tree.Files] looks at, 1 or more; 0 = 1,000,000. Their names are what
	// Files holds in memory, and with FollowWithin which directories it listed.
	MaxEntries int
}

const (
	defaultMaxDepth   = 32
	defaultMaxEntries = 1_000_000
	// mostComponents is the number of components that a RelPath can have.
	mostComponents = (maxRelPath + 1) / 2
)

// Tree gives access to the files of one directory and never to anything
// outside, nor to a symbolic link (unless FollowWithin), device, FIFO, socket
// or directory as a file, even while another process renames and links inside.
// The directory is held open: renaming it later does not change what is
// served. All methods are safe for concurrent use. After Close each returns
// fs.ErrClosed; every other error is an [*Error] without any path.
type Tree struct {
	root   *os.Root
	self   fs.FileInfo // of the directory itself
	cfg    TreeConfig  // without zeros
	closed atomic.Bool
}

// OpenTree opens an absolute, existing directory. dir comes from the operator:
// links on the way to it are followed. The file systems proc and sysfs are
// RuleOutside. A bound of cfg outside its range is RuleBounds.
func OpenTree(dir string, cfg TreeConfig) (*Tree, error) {
	if cfg.MaxDepth == 0 {
		cfg.MaxDepth = defaultMaxDepth
	}
	if cfg.MaxEntries == 0 {
		cfg.MaxEntries = defaultMaxEntries
	}
	switch {
	case cfg.MaxDepth < 1 || cfg.MaxDepth > mostComponents:
		return nil, refuse("max_depth", RuleBounds)
	case cfg.MaxEntries < 1:
		return nil, refuse("max_entries", RuleBounds)
	case dir == "":
		return nil, refuse("dir", RuleEmpty)
	case !filepath.IsAbs(dir):
		return nil, refuse("dir", RuleSyntax)
	}
	root, err := os.OpenRoot(dir + onlyDirectory)
	if err != nil {
		return nil, treeError("dir", err)
	}
	return newTree("dir", root, cfg)
}

// onlyDirectory, behind a name that [os.OpenRoot] is to open, keeps it from
// opening anything but a directory: it would wait for the writer of a FIFO and
// find out afterwards that this is none.
const onlyDirectory = "/."

// newTree makes a Tree of an open directory, which it owns, unless the kernel
// serves itself there.
func newTree(field string, root *os.Root, cfg TreeConfig) (*Tree, error) {
	self, err := root.Stat(".")
	kernel := false
	if err == nil {
		kernel, err = onKernelFS(root)
	}
	if err == nil && kernel {
		err = refuse(field, RuleOutside)
	}
	if err != nil {
		_ = root.Close() // a directory handle: nothing can be lost
		return nil, treeError(field, err)
	}
	return &Tree{root: root, self: self, cfg: cfg}, nil
}

// Sub returns the directory p as a Tree with the same rules, which has its own
// handle and Close; for it, what is beside p is outside. Another kind of file is
// RuleNotRegular, a link RuleSymlink. With create, missing directories are made,
// with the permissions 0700 before the umask; they are durable when Sub returns;
// none is made with a name ".tmp-<16 hex>", which is RuleSyntax.
func (t *Tree) Sub(p RelPath, create bool) (*Tree, error) {
	if err := t.ready(p); err != nil {
		return nil, err
	}
	dir, err := t.openDir(p.text, create)
	if err != nil {
		return nil, err
	}
	return newTree("path", dir, t.cfg)
}

// Close releases the directory. Files opened through t stay open.
func (t *Tree) Close() error {
	if t.closed.Swap(true) {
		return fs.ErrClosed
	}
	return treeError("dir", t.root.Close())
}

// Open opens a regular file for reading and returns its description as of the
// opening. What stands there is looked at first, so nothing else is opened. What
// another process puts in its place just then may be opened without blocking,
// and is closed unread.
func (t *Tree) Open(p RelPath) (*os.File, fs.FileInfo, error) {
	var f *os.File
	var fi fs.FileInfo
	err := t.inParent(p, func(dir *os.Root, base string) error {
		look := dir.Lstat
		if t.cfg.FollowWithin {
			dir, base, look = t.root, p.text, t.root.Stat
		}
		var err error
		f, fi, err = openSame(dir, base, look)
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

// inParent calls do with a handle on the directory that holds p.
func (t *Tree) inParent(p RelPath, do func(dir *os.Root, base string) error) error {
	if err := t.ready(p); err != nil {
		return err
	}
	slash := strings.LastIndexByte(p.text, '/')
	if slash < 0 {
		return do(t.root, p.text)
	}
	dir, err := t.openDir(p.text[:slash], false)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(dir, p.text[slash+1:])
}

// openDir returns a handle on the directory path, reached component by
// component; the caller closes it. With create it makes what is missing.
func (t *Tree) openDir(path string, create bool) (*os.Root, error) {
	dir := t.root
	for end := 0; end < len(path); end++ {
		start := end
		if i := strings.IndexByte(path[end:], '/'); i >= 0 {
			end += i
		} else {
			end = len(path)
		}
		next, err := t.enter(dir, path[:end], path[start:end])
		if create && errors.Is(err, fs.ErrNotExist) {
			if err = makeDir(rootDir{dir}, path[start:end]); err == nil {
				next, err = t.enter(dir, path[:end], path[start:end])
			}
		}
		if dir != t.root {
			_ = dir.Close() // a directory handle: nothing can be lost
		}
		if err != nil {
			return nil, err
		}
		dir = next
	}
	return dir, nil
}

// enter opens the directory base of dir, which is path from the top, and makes
// sure that it is the one that stood there. Links are followed from the top,
// because they may lead up and still stay inside.
func (t *Tree) enter(dir *os.Root, path, base string) (*os.Root, error) {
	look := dir.Lstat
	if t.cfg.FollowWithin {
		dir, base, look = t.root, path, t.root.Stat
	}
	before, err := look(base)
	if err != nil {
		return nil, treeError("path", err)
	}
	if err := t.checkDir(before); err != nil {
		return nil, err
	}
	return openSameDir(dir, base, before)
}

// openSameDir opens the directory of dir that before describes.
func openSameDir(dir *os.Root, name string, before fs.FileInfo) (*os.Root, error) {
	next, err := dir.OpenRoot(name + onlyDirectory)
	if err != nil {
		return nil, treeError("path", err)
	}
	after, err := next.Stat(".")
	if err == nil && !os.SameFile(before, after) {
		err = refuse("path", RuleOutside)
	}
	if err != nil {
		_ = next.Close() // a directory handle: nothing can be lost
		return nil, treeError("path", err)
	}
	return next, nil
}

// checkDir refuses what is no directory of an allowed file system.
func (t *Tree) checkDir(fi fs.FileInfo) error {
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return refuse("path", RuleSymlink)
	case !fi.IsDir():
		return refuse("path", RuleNotRegular)
	case !t.cfg.CrossDevice && fileKey(fi)[0] != fileKey(t.self)[0]:
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
