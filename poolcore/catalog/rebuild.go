package catalog

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// rebuild makes an index of the files that are there, by hashing them.
func (c *Catalog) rebuild(ctx context.Context) error {
	slugs, err := c.list(modelsDir)
	if err != nil {
		return err
	}
	var models []Model
	for _, s := range slugs {
		m, err := c.rebuildOne(ctx, s.Name())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.log.Warn("files are left out of the new index", "slug", s.Name(), "error", err)
			continue
		}
		models = append(models, m)
	}
	slices.SortFunc(models, func(a, b Model) int { return strings.Compare(a.ID, b.ID) })
	return c.save(models)
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
	dir := modelsDir + "/" + name + "/" + rev
	there, err := c.entries(dir)
	if err != nil {
		return Model{}, err
	}
	m.Files, err = c.hashAll(ctx, dir, slices.Sorted(maps.Keys(there)), &meter{})
	if err != nil {
		return Model{}, err
	}
	for _, f := range m.Files {
		m.SizeBytes += f.SizeBytes
	}
	m.Digest = digestOf(m.Files)
	if rev != m.revisionDir() {
		if m.Source.Revision, ok = unslug(rev); !ok || strings.HasPrefix(rev, "sha256-") {
			return Model{}, refuse(DigestMismatch, "the name of the directory states another content")
		}
	}
	if m.Format, err = c.cfg.Trust.formatOf(m.paths()); err != nil {
		return Model{}, err
	}
	return m, c.describe(dir, &m)
}

// newest returns the name of the directory in dir that was changed last.
func (c *Catalog) newest(dir string) (string, error) {
	entries, err := c.list(dir)
	if err != nil {
		return "", err
	}
	var best fs.FileInfo
	for _, e := range entries {
		fi, err := e.Info()
		if err == nil && fi.IsDir() && (best == nil || fi.ModTime().After(best.ModTime())) {
			best = fi
		}
	}
	if best == nil {
		return "", refuse(ModelUnknown, "no content below the directory")
	}
	return best.Name(), nil
}
