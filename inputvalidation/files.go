package inputvalidation

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"
)

// TreeFile describes a regular file as [Tree.Files] met it.
type TreeFile struct {
	Path    RelPath
	Size    int64 // bytes
	ModTime time.Time
}

// Files lists the regular files of the tree, depth first, in the byte order of
// their path components. Links (unless FollowWithin), devices, FIFOs, sockets,
// the temporary files of [Tree.WriteFile] and what vanishes meanwhile are left
// out.
//
// An error does not end the listing, unless it is RuleDepth (a directory at
// MaxDepth), RuleTooLong (more than MaxEntries), fs.ErrClosed or the error of
// ctx. Beside an error only Path is set: to what cannot be read, or to the
// directory of an entry whose name is no RelPath; it is zero for the directory
// of the tree itself. A followed link that leads to a directory above it is
// RuleSymlink; one that leads to a directory listed already, by
// whatever way, is left out: each directory is listed once, under the path that
// comes first. The listing opens no files; at most MaxDepth directories are
// open at a time, also while the caller's loop body runs.
func (t *Tree) Files(ctx context.Context) iter.Seq2[TreeFile, error] {
	return func(yield func(TreeFile, error) bool) {
		w := walk{t, yield, t.cfg.MaxEntries, []fs.FileInfo{t.self}, map[[2]uint64][]fs.FileInfo{}}
		w.directory(ctx, t.root, "")
	}
}

// walk is one run of Files. Its methods report whether it goes on.
type walk struct {
	tree  *Tree
	yield func(TreeFile, error) bool
	left  int           // entries that may still be looked at
	above []fs.FileInfo // the directories on the way down, the innermost last
	// listed holds, by fileKey, the directories that were listed, where links
	// could lead to them again; links in each to the next would otherwise
	// multiply the ways.
	listed map[[2]uint64][]fs.FileInfo
}

// fail yields an error about path and reports whether the walk goes on after it.
func (w *walk) fail(path string, err error, goesOn bool) bool {
	return w.yield(TreeFile{Path: RelPath{text: path}}, err) && goesOn
}

// stopped returns why the walk may not go on, nil if it may.
func (w *walk) stopped(ctx context.Context) error {
	if w.tree.closed.Load() {
		return fs.ErrClosed
	}
	return ctx.Err()
}

// directory lists what is below dir, which is path from the top.
func (w *walk) directory(ctx context.Context, dir *os.Root, path string) bool {
	f, err := dir.Open(".")
	if err != nil {
		return w.fail(path, treeError("path", err), !errors.Is(err, fs.ErrClosed))
	}
	var names []string
	for err == nil {
		if err := w.stopped(ctx); err != nil {
			_ = f.Close() // read only: nothing can be lost
			return w.fail(path, err, false)
		}
		var some []string
		some, err = f.Readdirnames(nameBatch)
		if w.left -= len(some); w.left < 0 {
			_ = f.Close()
			limit := w.tree.cfg.MaxEntries
			return w.fail(path, refuseLong("path", -1, limit, limit-w.left), false)
		}
		names = append(names, some...)
	}
	_ = f.Close()
	if !errors.Is(err, io.EOF) && !w.fail(path, treeError("path", err), true) {
		return false
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.stopped(ctx); err != nil {
			return w.fail(path, err, false)
		}
		if !isTempName(name) && !w.entry(ctx, dir, path, name) {
			return false
		}
	}
	return true
}

// nameBatch is the number of names that are read at once: enough to make the
// calls cheap, few enough to notice a cancelled context.
const nameBatch = 1024

// entry lists the entry name of dir, which is parent from the top.
func (w *walk) entry(ctx context.Context, dir *os.Root, parent, name string) bool {
	path := strings.TrimPrefix(parent+"/"+name, "/")
	p, err := ParseRelPath("path", path)
	if err != nil {
		return w.fail(parent, err, true)
	}
	look, at := dir.Lstat, name
	if w.tree.cfg.FollowWithin {
		look, at = w.tree.root.Stat, path
	}
	fi, err := look(at)
	switch {
	case err != nil:
	case fi.Mode().IsRegular():
		return w.yield(TreeFile{p, fi.Size(), fi.ModTime()}, nil)
	case !fi.IsDir():
		return true
	case slices.ContainsFunc(w.above, func(up fs.FileInfo) bool { return os.SameFile(up, fi) }):
		return w.fail(path, refuse("path", RuleSymlink), true)
	case slices.ContainsFunc(w.listed[fileKey(fi)], func(old fs.FileInfo) bool { return os.SameFile(old, fi) }):
		return true
	case len(w.above) == w.tree.cfg.MaxDepth:
		return w.fail(path, &Error{Field: "path", Rule: RuleDepth, Offset: -1, Limit: len(w.above), Actual: -1}, false)
	default:
		var next *os.Root
		if next, err = w.tree.enter(dir, path, name); err == nil {
			defer next.Close()
			if key := fileKey(fi); w.tree.cfg.FollowWithin {
				w.listed[key] = append(w.listed[key], fi)
			}
			w.above = append(w.above, fi)
			defer func() { w.above = w.above[:len(w.above)-1] }()
			return w.directory(ctx, next, path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		// The entry is gone, unless it is a link whose target is not there.
		if _, err := dir.Lstat(name); err != nil || !w.tree.cfg.FollowWithin {
			return true
		}
	}
	return w.fail(path, treeError("path", err), !errors.Is(err, fs.ErrClosed))
}

// isTempName reports whether WriteFile may have made the name.
func isTempName(name string) bool {
	id, ok := strings.CutPrefix(name, tempPrefix)
	return ok && len(id) == 16 && strings.Trim(id, "0123456789abcdef") == ""
}
