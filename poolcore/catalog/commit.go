package catalog

import (
	"errors"
	"slices"
	"time"
)

// judge compares the files with the digests that are expected of them.
func (c *Catalog) judge(d *draft, files []File) error {
	m := &d.model
	m.Files = slices.SortedFunc(slices.Values(files), byPath)
	m.Digest = digestOf(m.Files)
	stated := 0
	for _, f := range m.Files {
		m.SizeBytes += f.SizeBytes
		switch d.sums[f.Path] {
		case "":
		case f.SHA256:
			stated++
		default:
			return refuse(DigestMismatch, "a file has another digest than is expected")
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

// describe fills what the index says of files that lie in dir and were hashed now.
func (c *Catalog) describe(dir string, m *Model) error {
	shape, quant, err := c.inspect(dir, m)
	if err != nil {
		return err
	}
	m.Architecture, m.Quant, m.CtxMax = shape.Architecture, quant, shape.CtxMax
	m.AddedAt = time.Now().UTC()
	m.LastVerifiedAt = m.AddedAt
	if err := m.check(); err != nil {
		return because(InvalidParams, err, err.Error())
	}
	return nil
}

// replaceable refuses a model in use. The files of one that failed are in
// quarantine already: nobody's are replaced. The caller holds writing.
func (c *Catalog) replaceable(id string) error {
	err := c.idle(id)
	if m, _ := c.Get(id); m.Verification == Fail && errors.Is(err, ModelInUse) {
		return nil
	}
	return err
}

// commit gives the files in stage, which were judged, their final name and then
// the index its entry, so that a crash in between leaves files without an entry,
// never the reverse. The caller holds writing.
func (c *Catalog) commit(stage string, m Model) (Model, error) {
	if err := c.replaceable(m.ID); err != nil {
		return Model{}, err
	}
	if err := c.describe(stage, &m); err != nil {
		return Model{}, err
	}
	old, exists := c.Get(m.ID)
	if exists && old.dir() == m.dir() && old.Digest == m.Digest && c.looksSame(&old) == nil {
		old.Tags, old.Backends, old.Ref = m.Tags, m.Backends, m.Ref
		if m.Verification == Pass || old.Verification == Fail {
			old.Verification = m.Verification
		}
		return old, c.store(old)
	}
	if err := c.rename(stage, &m); err != nil {
		return Model{}, err
	}
	if err := c.store(m); err != nil {
		return Model{}, errors.Join(err, c.discard(m.dir()))
	}
	if exists && old.dir() != m.dir() {
		if err := c.discard(old.dir()); err != nil {
			c.log.Warn("remove replaced files", "error", err)
		}
	}
	return m, nil
}

// rename moves the stage to the model's directory, durably. Something without an
// entry, or of a replaced one, may stand there.
func (c *Catalog) rename(stage string, m *Model) error {
	if err := c.syncTree(stage); err != nil {
		return err
	}
	if err := c.discard(m.dir()); err != nil {
		return err
	}
	if err := c.makeDir(slugDir(m.ID)); err != nil {
		return err
	}
	return c.writeError("name model directory", errors.Join(c.root.Rename(stage, m.dir()), c.sync(slugDir(m.ID))))
}
