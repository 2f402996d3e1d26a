package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/llorch/llorch/inputvalidation"
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

// origin is one file that is to be taken.
type origin struct {
	path string // in the model
	real string // absolute, without links
	size int64
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
	from, err := origins(p.From)
	if err != nil {
		return Model{}, err
	}
	if from, err = c.choose(from); err != nil {
		return Model{}, err
	}
	if !p.Link {
		var need uint64
		for _, o := range from {
			need += uint64(o.size)
		}
		if err := c.checkSpace(need); err != nil {
			return Model{}, err
		}
	}
	st, err := c.stage()
	if err != nil {
		return Model{}, err
	}
	defer st.drop()
	var places []place
	for _, o := range from {
		if err := st.take(ctx, o, p.Link); err != nil {
			return Model{}, err
		}
		places = append(places, place{o.path, o.path})
	}
	files, err := c.hashAll(ctx, st.tree, places, nil)
	if err != nil {
		return Model{}, err
	}
	if err := c.judge(&d, files); err != nil {
		return Model{}, err
	}
	return c.admit(st, d.model)
}

// draft is a model that is to be admitted.
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
	pin := p.SHA256
	if pin != "" {
		if sum, err := inputvalidation.ParseHex("sha256", pin, hexSHA256/2); err != nil || sum != pin {
			return draft{}, refuse(InvalidParams, "sha256 is 64 lower-case hexadecimal digits")
		}
	}
	switch d := ref.Digest(); {
	case d != "" && pin != "" && d != pin:
		return draft{}, refuse(DigestMismatch, "the reference and the caller state different digests")
	case d != "":
		pin = d
	}
	if pin == "" && c.cfg.Trust.Strict {
		return draft{}, refuse(Untrusted, "strict trust needs a digest: add #sha256=… to the reference or state sha256")
	}
	if p.From != "" && !filepath.IsAbs(p.From) {
		return draft{}, refuse(InvalidParams, "from is an absolute path")
	}
	tags, backends := slices.Clone(p.Tags), slices.Clone(p.Backends)
	if tags == nil {
		tags = []string{}
	}
	if backends == nil {
		backends = []string{}
	}
	m := Model{ID: id, Ref: ref.String(), State: Active, Source: p.Source, Tags: tags, Backends: backends}
	return draft{model: m, pin: pin}, nil
}

// origins finds the files below an absolute path.
func origins(from string) ([]origin, error) {
	if from == "" {
		return nil, refuse(InvalidParams, "from is required")
	}
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return nil, fmt.Errorf("find model files: %w", err)
	}
	fi, err := os.Stat(real)
	if err != nil {
		return nil, fmt.Errorf("find model files: %w", err)
	}
	if fi.IsDir() {
		return filesBelow(real)
	}
	var all []origin
	for _, name := range splitNames(filepath.Base(from)) {
		at := filepath.Join(filepath.Dir(from), name)
		if at, err = filepath.EvalSymlinks(at); err != nil {
			return nil, because(ModelIncompatible, err, "a part of the split is missing")
		}
		if fi, err = os.Stat(at); err != nil {
			return nil, fmt.Errorf("find model files: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return nil, refuse(InvalidParams, "from is no regular file")
		}
		all = append(all, origin{name, at, fi.Size()})
	}
	return all, nil
}

// filesBelow lists the files of a directory that belong to a model.
func filesBelow(dir string) ([]origin, error) {
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{MaxDepth: 8, MaxEntries: 4 * maxFiles})
	if err != nil {
		return nil, fmt.Errorf("open model directory: %w", err)
	}
	defer tree.Close()
	var all []origin
	for f, err := range tree.Files(context.Background()) {
		if err != nil {
			return nil, fmt.Errorf("list model directory: %w", err)
		}
		if wanted(f.Path.String()) {
			all = append(all, origin{f.Path.String(), filepath.Join(dir, filepath.FromSlash(f.Path.String())), f.Size})
		}
	}
	return all, nil
}

// choose leaves out what Trust does not take where something else remains.
func (c *Catalog) choose(from []origin) ([]origin, error) {
	safe := slices.ContainsFunc(from, func(o origin) bool {
		f := weightFormat(o.path)
		return f != "" && f != formatPickle
	})
	if safe {
		from = slices.DeleteFunc(from, func(o origin) bool { return weightFormat(o.path) == formatPickle })
	}
	if len(from) > maxFiles {
		return nil, refuse(InvalidParams, "the model has %d files, at most %d", len(from), maxFiles)
	}
	var paths []string
	for _, o := range from {
		if _, err := inputvalidation.ParseRelPath("from", o.path); err != nil {
			return nil, fmt.Errorf("check file name: %w", err)
		}
		paths = append(paths, o.path)
	}
	_, err := c.cfg.Trust.formatOf(paths)
	return from, err
}

// spaceLeft is what stays free on the disk.
const spaceLeft = 1 << 30

// checkSpace refuses to write what would fill the disk.
func (c *Catalog) checkSpace(need uint64) error {
	free, err := c.cfg.FreeSpace(c.dir)
	if err != nil {
		return fmt.Errorf("check disk space: %w", err)
	}
	if free < spaceLeft || free-spaceLeft < need {
		return refuse(InsufficientDisk, "%d bytes are free, %d and 1 GiB are needed", free, need)
	}
	return nil
}

// place is where a file lies that is to become path in the model.
type place struct{ at, path string }

// hashAll hashes files that lie in in.
func (c *Catalog) hashAll(ctx context.Context, in *inputvalidation.Tree, from []place, report func(done, total int64)) ([]File, error) {
	meter := &meter{report: report}
	for _, f := range from {
		p, err := inputvalidation.ParseRelPath("path", f.at)
		if err != nil {
			return nil, err
		}
		file, fi, err := in.Open(p)
		if err != nil {
			return nil, fmt.Errorf("open model file: %w", err)
		}
		_ = file.Close() // read only: nothing can be lost
		meter.total += fi.Size()
	}
	var files []File
	for _, p := range from {
		f, err := hashFile(ctx, in, p.at, meter)
		if err != nil {
			return nil, err
		}
		f.Path = p.path
		files = append(files, f)
	}
	return files, nil
}

// judge compares the files with the digests that are expected of them.
func (c *Catalog) judge(d *draft, files []File) error {
	m := &d.model
	m.Files = slices.SortedFunc(slices.Values(files), byPath)
	m.Digest = digestOf(m.Files)
	stated := 0
	for _, f := range m.Files {
		m.SizeBytes += f.SizeBytes
		want := d.sums[f.Path]
		if want != "" && want != f.SHA256 {
			return refuse(DigestMismatch, "a file has another digest than is expected")
		}
		if want != "" {
			stated++
		}
	}
	var err error
	if m.Format, err = c.cfg.Trust.formatOf(m.paths()); err != nil {
		return err
	}
	whole := len(m.Files) == 1 || m.Digest == digestWord+d.pin
	if d.pin != "" && (!m.hasDigest(d.pin) || c.cfg.Trust.Strict && !whole) {
		return refuse(DigestMismatch, "the model has another digest than is expected")
	}
	m.Verification = Warn
	if stated == len(m.Files) || d.pin != "" && whole {
		m.Verification = Pass
	}
	return nil
}

// admit makes what lies in the stage, and was judged, a model.
func (c *Catalog) admit(st *stage, m Model) (Model, error) {
	if err := describe(st.tree, &m); err != nil {
		return Model{}, err
	}
	return c.commit(st, m)
}

// describe fills what the index says of files that lie in in and were hashed now.
func describe(in *inputvalidation.Tree, m *Model) error {
	_, what, err := inspect(in, m)
	if err != nil {
		return err
	}
	m.Architecture, m.Quant, m.CtxMax = what.architecture, what.quant, what.ctx
	m.AddedAt = time.Now().UTC()
	m.LastVerifiedAt = m.AddedAt
	if err := m.check(); err != nil {
		return because(InvalidParams, err, err.Error())
	}
	return nil
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
			return writeError("sync model file", to.Sync())
		}
		if err != nil {
			return writeError("copy model file", err)
		}
	}
}
