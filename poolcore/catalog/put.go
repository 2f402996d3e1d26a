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

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// Put says which files become a model, and what the caller knows of them.
type Put struct {
	// Ref is the reference by which the model will be found.
	Ref string
	// From is the absolute path of a file, of the first part of a split (all parts
	// are taken), or of a directory. It comes from the operator: links on the way
	// to it, and in its place, are followed; links below a directory are not.
	From string
	// SHA256 is the digest that is expected: of the file, or for several files the
	// model's. "" = nobody states one, and the model's Verification is Warn.
	SHA256 string
	// Link makes hard links where the file system can, so that nothing is copied.
	// Whoever changes the file later makes the model unverified.
	Link           bool
	Source         Source
	Tags, Backends []string // at most 64 of 128 bytes; nil = none
}

// Put adds files of this machine: they are copied or linked, hashed here, and get
// their final name when all of them are what they shall be. Putting the same
// content again changes nothing but the tags; other content under the same
// reference replaces the model, unless it is in use.
func (c *Catalog) Put(ctx context.Context, p Put) (Model, error) {
	d, err := c.draft(p)
	if err != nil {
		return Model{}, err
	}
	from, need, err := c.origins(p.From)
	if err != nil {
		return Model{}, err
	}
	if !p.Link {
		if err := c.checkSpace(need); err != nil {
			return Model{}, err
		}
	}
	stage := fresh(partialDir, putPrefix)
	defer c.drop(stage)
	var names []string
	for _, o := range from {
		if err := c.take(ctx, o, stage+"/"+o.path, p.Link); err != nil {
			return Model{}, err
		}
		names = append(names, o.path)
	}
	files, err := c.hashAll(ctx, stage, names, &meter{})
	if err != nil {
		return Model{}, err
	}
	if err := c.judge(&d, files); err != nil {
		return Model{}, err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.commit(stage, d.model)
}

// draft is a model that is to be added.
type draft struct {
	model Model
	sums  map[string]string // expected SHA-256 by path; nil = none
	pin   string            // expected SHA-256 of the file or the model, "" = none
}

// draft checks what needs no file.
func (c *Catalog) draft(p Put) (draft, error) {
	ref, id, err := parseRef(p.Ref)
	if err != nil {
		return draft{}, err
	}
	pin, err := fetch.Options{SHA256: p.SHA256, Strict: c.cfg.Trust.Strict}.Pin(ref)
	if err != nil {
		return draft{}, fetchError(err)
	}
	m := Model{ID: id, Ref: ref.String(), State: Active, Source: p.Source}
	m.Tags, m.Backends = append([]string{}, p.Tags...), append([]string{}, p.Backends...)
	return draft{model: m, pin: pin}, nil
}

// origin is one file of this machine that is to be taken.
type origin struct {
	path string // in the model
	real string // absolute, without links
}

// origins finds the files that From names, and how many bytes they have.
func (c *Catalog) origins(from string) (all []origin, size int64, err error) {
	if !filepath.IsAbs(from) {
		return nil, 0, refuse(InvalidParams, "from is an absolute path")
	}
	fi, err := os.Stat(from)
	if err != nil {
		return nil, 0, fmt.Errorf("find model files: %w", err)
	}
	names, dir := fetch.SplitParts(filepath.Base(from)), filepath.Dir(from)
	if fi.IsDir() {
		dir = from
		if names, err = filesBelow(dir); err != nil {
			return nil, 0, err
		}
	}
	if names, err = c.cfg.Trust.choose(names); err != nil {
		return nil, 0, err
	}
	for i, name := range names {
		if _, err := inputvalidation.ParseRelPath("from", name); err != nil {
			return nil, 0, fmt.Errorf("check file name: %w", err)
		}
		real, err := filepath.EvalSymlinks(filepath.Join(dir, filepath.FromSlash(name)))
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			return nil, 0, because(ModelIncompatible, err, "a part of the split is missing")
		}
		if err == nil {
			fi, err = os.Stat(real)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("find model files: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return nil, 0, refuse(InvalidParams, "from is no regular file")
		}
		all, size = append(all, origin{name, real}), size+fi.Size()
	}
	return all, size, nil
}

// filesBelow lists the files of a directory that belong to a model.
func filesBelow(dir string) ([]string, error) {
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{MaxDepth: 8, MaxEntries: 4 * maxFiles})
	if err != nil {
		return nil, fmt.Errorf("open model directory: %w", err)
	}
	defer tree.Close()
	var names []string
	for f, err := range tree.Files(context.Background()) {
		if err != nil {
			return nil, fmt.Errorf("list model directory: %w", err)
		}
		if name := f.Path.String(); weightFormat(name) != "" || fetch.InRepository(path.Base(name)) {
			names = append(names, name)
		}
	}
	return names, nil
}

// fresh returns a name below dir that nothing has.
func fresh(dir, prefix string) string { return dir + "/" + prefix + rand.Text() }

// drop removes what was not committed of a model that was put together.
func (c *Catalog) drop(stage string) {
	if err := c.root.RemoveAll(stage); err != nil {
		c.log.Warn("remove staged files", "error", err)
	}
}

// take copies or links one file to a place below the catalogue, durably.
func (c *Catalog) take(ctx context.Context, o origin, to string, link bool) error {
	if err := c.makeDir(path.Dir(to)); err != nil {
		return err
	}
	dir, err := inputvalidation.OpenTree(filepath.Dir(o.real), inputvalidation.TreeConfig{})
	if err != nil {
		return fmt.Errorf("open directory of model file: %w", err)
	}
	defer dir.Close()
	p, err := inputvalidation.ParseRelPath("from", filepath.Base(o.real))
	if err != nil {
		return fmt.Errorf("check file name: %w", err)
	}
	src, fi, err := dir.Open(p)
	if err != nil {
		return fmt.Errorf("open model file: %w", err)
	}
	defer src.Close()
	if link && c.link(o.real, to, fi) {
		return c.writeError("sync model file", src.Sync())
	}
	dst, err := c.tree.Create(relPath(to), 0o600)
	if err == nil {
		err = errors.Join(copyFile(ctx, dst, src), dst.Close())
	}
	return c.writeError("copy model file", err)
}

// link reports whether it made another name of the file that fi describes.
func (c *Catalog) link(from, to string, fi fs.FileInfo) bool {
	if os.Link(from, filepath.Join(c.dir, filepath.FromSlash(to))) != nil {
		return false
	}
	made, err := c.root.Lstat(to)
	if err == nil && os.SameFile(made, fi) {
		return true
	}
	_ = c.root.Remove(to) // if it stays, the copy finds it and is refused
	return false
}

// copyFile copies in pieces, so that it ends soon after ctx, and makes the copy
// durable.
func copyFile(ctx context.Context, to *os.File, from io.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := io.CopyN(to, from, 64<<20)
		if errors.Is(err, io.EOF) {
			return to.Sync()
		}
		if err != nil {
			return err
		}
	}
}
