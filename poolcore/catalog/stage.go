package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// stage is a directory below partial/ in which a model is put together. What a
// crash leaves there is removed when the catalogue is opened.
type stage struct {
	c    *Catalog
	name string // below the catalogue
	tree *inputvalidation.Tree
}

func (c *Catalog) stage() (*stage, error) {
	name := partialDir + "/" + putPrefix + rand.Text()
	tree, err := c.tree.Sub(relPath(name), true)
	if err != nil {
		return nil, c.full(fmt.Errorf("make staging directory: %w", err))
	}
	return &stage{c, name, tree}, nil
}

// drop removes what was not committed.
func (s *stage) drop() {
	_ = s.tree.Close() // a directory handle: nothing can be lost
	if err := s.c.root.RemoveAll(s.name); err != nil {
		s.c.log.Warn("remove staged files", "error", err)
	}
}

// take copies or links one file into the stage.
func (s *stage) take(ctx context.Context, o origin, link bool) error {
	if err := s.parent(o.path); err != nil {
		return err
	}
	at, base := filepath.Split(o.real)
	dir, err := inputvalidation.OpenTree(filepath.Clean(at), inputvalidation.TreeConfig{})
	if err != nil {
		return fmt.Errorf("open directory of model file: %w", err)
	}
	defer dir.Close()
	p, err := inputvalidation.ParseRelPath("from", base)
	if err != nil {
		return fmt.Errorf("check file name: %w", err)
	}
	src, fi, err := dir.Open(p)
	if err != nil {
		return fmt.Errorf("open model file: %w", err)
	}
	defer src.Close()
	if link && s.link(o, fi) {
		return writeError("sync model file", src.Sync())
	}
	dst, err := s.tree.Create(relPath(o.path), 0o600)
	if err != nil {
		return s.c.full(fmt.Errorf("create model file: %w", err))
	}
	return errors.Join(copyFile(ctx, dst, src), writeError("close model file", dst.Close()))
}

// link reports whether it made another name of the file that fi describes.
func (s *stage) link(o origin, fi fs.FileInfo) bool {
	at := filepath.Join(s.c.dir, filepath.FromSlash(s.name), filepath.FromSlash(o.path))
	if err := os.Link(o.real, at); err != nil {
		return false
	}
	made, err := s.c.root.Lstat(s.name + "/" + o.path)
	if err == nil && os.SameFile(made, fi) {
		return true
	}
	_ = os.Remove(at) // best effort: then the copy finds it and is refused
	return false
}

// adopt moves a finished file of an open directory, which lies at from below the
// catalogue, into the stage.
func (s *stage) adopt(from, to string) error {
	if err := s.parent(to); err != nil {
		return err
	}
	f, err := s.c.root.Open(from)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err == nil {
		err = s.c.root.Rename(from, s.name+"/"+to)
	}
	return writeError("move downloaded file", err)
}

// parent makes the directories above a file.
func (s *stage) parent(file string) error {
	p, err := inputvalidation.ParseRelPath("path", file)
	if err != nil {
		return err
	}
	up := path.Dir(p.String())
	if up == "." {
		return nil
	}
	sub, err := s.tree.Sub(relPath(up), true)
	if err != nil {
		return s.c.full(fmt.Errorf("make directory: %w", err))
	}
	return sub.Close()
}

// commit gives the staged files their final name and then the index its entry, so
// that a crash in between leaves files without an entry, never the reverse.
func (c *Catalog) commit(st *stage, m Model) (Model, error) {
	// The files of a failed model are in quarantine already: nobody's are replaced.
	ready, err := c.leave(m.ID, c.failed(m.ID))
	if err != nil {
		return Model{}, err
	}
	defer ready()
	c.writing.Lock()
	defer c.writing.Unlock()
	old, exists := c.Get(m.ID)
	if exists && old.Digest == m.Digest && old.dir() == m.dir() && c.looksSame(&old) == nil {
		return c.again(old, m)
	}
	if err := c.rename(st, &m); err != nil {
		return Model{}, err
	}
	err = c.updateLocked(func(models []Model) ([]Model, error) {
		if i := indexOf(models, m.ID); i >= 0 {
			models[i] = m
			return models, nil
		}
		return append(models, m), nil
	})
	if err != nil {
		return Model{}, errors.Join(err, c.discard(m.dir()))
	}
	if exists && old.dir() != m.dir() {
		if err := c.discard(old.dir()); err != nil {
			c.log.Warn("remove replaced files", "error", err)
		}
	}
	return m.clone(), nil
}

// again keeps the entry of a content that is put once more.
func (c *Catalog) again(old, m Model) (Model, error) {
	old.Tags, old.Backends, old.Ref = m.Tags, m.Backends, m.Ref
	if m.Verification == Pass || old.Verification == Fail {
		old.Verification = m.Verification
	}
	return old.clone(), c.updateLocked(func(models []Model) ([]Model, error) {
		models[indexOf(models, old.ID)] = old
		return models, nil
	})
}

// rename moves the stage to the model's directory, durably. Something without an
// entry, or of a replaced one, may stand there.
func (c *Catalog) rename(st *stage, m *Model) error {
	if err := c.syncTree(st.name); err != nil {
		return err
	}
	sub, err := c.tree.Sub(relPath(slugDir(m.ID)), true)
	if err != nil {
		return c.full(fmt.Errorf("make directory of the model: %w", err))
	}
	if err := sub.Close(); err != nil {
		return fmt.Errorf("make directory of the model: %w", err)
	}
	if err := c.discard(m.dir()); err != nil {
		return err
	}
	// discard removes a directory that it leaves empty
	if err := c.makeDir(slugDir(m.ID)); err != nil {
		return err
	}
	if err := c.root.Rename(st.name, m.dir()); err != nil {
		return writeError("name model directory", err)
	}
	return c.syncDir(slugDir(m.ID))
}

// discard removes a directory models/<slug>/<revision> and nothing that a link
// there points to. That it is not there is no error.
func (c *Catalog) discard(dir string) error {
	gone := partialDir + "/" + removedPrefix + rand.Text()
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
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !fi.IsDir() {
			if err = c.root.Remove(d); err == nil {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("look at model directory: %w", err)
		}
	}
	if err := c.root.Rename(dir, to); err != nil {
		return writeError("move model directory", err)
	}
	if err := c.syncDir(above); err != nil {
		return err
	}
	_ = c.root.Remove(above) // only if no other revision is left
	return nil
}

// syncDir makes the names in a directory durable.
func (c *Catalog) syncDir(dir string) error {
	d, err := c.root.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	return writeError("sync directory", err)
}

// syncTree makes the names in a directory and below it durable.
func (c *Catalog) syncTree(dir string) error {
	return fs.WalkDir(c.root.FS(), dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("sync directory: %w", err)
		}
		if !d.IsDir() {
			return nil
		}
		return c.syncDir(p)
	})
}

// unlisted reports whether a model's directory has an entry that the index does
// not know: a file, or anything that is no directory.
func (c *Catalog) unlisted(m *Model) (bool, error) {
	known := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		known[f.Path] = true
	}
	found, left := false, 4*maxFiles
	err := fs.WalkDir(c.root.FS(), m.dir(), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("list model directory: %w", err)
		}
		left--
		if found = left < 0 || !d.IsDir() && !known[strings.TrimPrefix(p, m.dir()+"/")]; found {
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}
