package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/llorch/llorch/inputvalidation"
)

// relPath is for paths that this package made of checked parts.
func relPath(p string) inputvalidation.RelPath {
	r, err := inputvalidation.ParseRelPath("path", p)
	if err != nil {
		panic("catalog: internal error: a path of its own is refused: " + err.Error())
	}
	return r
}

// openFile opens a regular file below the catalogue, reached without any link.
func (c *Catalog) openFile(name string) (*os.File, fs.FileInfo, error) {
	p, err := inputvalidation.ParseRelPath("path", name)
	if err != nil {
		return nil, nil, fmt.Errorf("open model file: %w", err)
	}
	f, fi, err := c.tree.Open(p)
	if err != nil {
		return nil, nil, fmt.Errorf("open model file: %w", err)
	}
	return f, fi, nil
}

// list returns what stands in a directory below the catalogue, sorted by name.
func (c *Catalog) list(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(c.root.FS(), dir)
	if err != nil {
		return nil, fmt.Errorf("list catalogue: %w", err)
	}
	return entries, nil
}

// entries describes, by their paths below dir, everything there that is no
// directory. Of more than a model can have it also holds one that is.
func (c *Catalog) entries(dir string) (map[string]fs.FileInfo, error) {
	found, seen := map[string]fs.FileInfo{}, 0
	err := fs.WalkDir(c.root.FS(), dir, func(p string, d fs.DirEntry, err error) error {
		seen++
		if err != nil || d.IsDir() && seen <= 4*maxFiles {
			return err
		}
		fi, err := d.Info()
		found[strings.TrimPrefix(p, dir+"/")] = fi
		if err == nil && seen > 4*maxFiles {
			return fs.SkipAll
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list model directory: %w", err)
	}
	return found, nil
}

// makeDir makes a directory below the catalogue, durably; it may be there. What
// else stands in its place is refused.
func (c *Catalog) makeDir(name string) error {
	p, err := inputvalidation.ParseRelPath("path", name)
	if err != nil {
		return err
	}
	sub, err := c.tree.Sub(p, true)
	if err != nil {
		return c.writeError("make directory of the catalogue", err)
	}
	return sub.Close()
}

// syncTree makes the names in a directory and below it durable.
func (c *Catalog) syncTree(dir string) error {
	err := fs.WalkDir(c.root.FS(), dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return c.sync(p)
	})
	return c.writeError("sync directory", err)
}

// sync makes a file, or the names in a directory, durable.
func (c *Catalog) sync(name string) error {
	f, err := c.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// discard removes a directory models/<slug>/<revision> and nothing that a link
// there points to. That it is not there is no error.
func (c *Catalog) discard(dir string) error {
	gone := fresh(partialDir, removedPrefix)
	if err := c.moveAway(dir, gone); err != nil {
		return err
	}
	if err := c.root.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove model files: %w", err)
	}
	return nil
}

// moveAway renames a directory models/<slug>/<revision>. A link in the place of
// one of the two is removed itself.
func (c *Catalog) moveAway(dir, to string) error {
	above := path.Dir(dir)
	for _, d := range []string{above, dir} {
		fi, err := c.root.Lstat(d)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil && !fi.IsDir():
			err = c.root.Remove(d)
			return c.writeError("remove what stands in the place of a model", err)
		case err != nil:
			return fmt.Errorf("look at model directory: %w", err)
		}
	}
	if err := errors.Join(c.root.Rename(dir, to), c.sync(above)); err != nil {
		return c.writeError("move model directory", err)
	}
	_ = c.root.Remove(above) // only if no other revision is left
	return nil
}

// checkSpace refuses to write what would not leave 1 GiB on the disk.
func (c *Catalog) checkSpace(need int64) error {
	free, err := c.cfg.FreeSpace(c.dir)
	if err != nil {
		return fmt.Errorf("check disk space: %w", err)
	}
	if free < 1<<30 || free-1<<30 < uint64(max(need, 0)) {
		return refuse(InsufficientDisk, "%d bytes are free, %d and 1 GiB are needed", free, max(need, 0))
	}
	return nil
}

// writeError names a full disk as the cause of a failed write; a Tree does not
// tell.
func (c *Catalog) writeError(verb string, err error) error {
	if err == nil {
		return nil
	}
	free, freeErr := c.cfg.FreeSpace(c.dir)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || freeErr == nil && free < 1<<20 {
		return because(InsufficientDisk, err, "the disk is full")
	}
	return fmt.Errorf("%s: %w", verb, err)
}
