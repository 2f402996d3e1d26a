package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

// rebuild makes an index of the files that are there, by hashing them.
func (c *Catalog) rebuild(ctx context.Context) error {
	slugs, err := c.names(modelsDir)
	if err != nil {
		return err
	}
	slices.Sort(slugs)
	var models []Model
	for _, s := range slugs {
		m, err := c.rebuildOne(ctx, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.log.Warn("files are left out of the new index", "slug", s, "error", err)
			continue
		}
		models = append(models, m)
	}
	return c.update(func([]Model) ([]Model, error) { return models, nil })
}

// rebuildOne describes the newest content below models/<slug>.
func (c *Catalog) rebuildOne(ctx context.Context, name string) (Model, error) {
	text, ok := unslug(name)
	if !ok {
		return Model{}, refuse(ModelUnknown, "the name of the directory does not tell the model")
	}
	_, id, err := parseRef(text)
	if err != nil {
		return Model{}, err
	}
	rev, err := c.newest(modelsDir + "/" + name)
	if err != nil {
		return Model{}, err
	}
	m := Model{ID: id, Ref: id, State: Active, Verification: Warn, Tags: []string{}, Backends: []string{}}
	in, err := c.subDir(modelsDir + "/" + name + "/" + rev)
	if err != nil {
		return Model{}, fmt.Errorf("open model directory: %w", err)
	}
	defer in.Close()
	for f, err := range in.Files(ctx) {
		if err != nil {
			return Model{}, fmt.Errorf("list model directory: %w", err)
		}
		h, err := hashFile(ctx, in, f.Path.String(), &meter{})
		if err != nil {
			return Model{}, err
		}
		m.Files, m.SizeBytes = append(m.Files, h), m.SizeBytes+h.SizeBytes
	}
	slices.SortFunc(m.Files, byPath)
	m.Digest = digestOf(m.Files)
	if rev != m.revisionDir() {
		if m.Source.Revision, ok = unslug(rev); !ok || strings.HasPrefix(rev, "sha256-") {
			return Model{}, refuse(DigestMismatch, "the name of the directory states another content")
		}
	}
	if extra, err := c.unlisted(&m); err != nil || extra {
		return Model{}, errors.Join(err, refuse(ModelIncompatible, "something that is no file is among the files"))
	}
	if m.Format, err = c.cfg.Trust.formatOf(m.paths()); err != nil {
		return Model{}, err
	}
	return m, describe(in, &m)
}

// newest returns the name of the directory in dir that was changed last.
func (c *Catalog) newest(dir string) (string, error) {
	names, err := c.names(dir)
	var best fs.FileInfo
	for _, n := range names {
		fi, statErr := c.root.Lstat(dir + "/" + n)
		if statErr == nil && fi.IsDir() && (best == nil || fi.ModTime().After(best.ModTime())) {
			best = fi
		}
	}
	if err == nil && best == nil {
		err = refuse(ModelUnknown, "no content below the directory")
	}
	if err != nil {
		return "", err
	}
	return best.Name(), nil
}

// subDir opens a directory whose name was read from the disk.
func (c *Catalog) subDir(name string) (*inputvalidation.Tree, error) {
	p, err := inputvalidation.ParseRelPath("path", name)
	if err != nil {
		return nil, err
	}
	return c.tree.Sub(p, false)
}
