package catalog

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// Verify hashes every byte of a model and compares it with the recorded digests.
// Pass and Warn come with a nil error. Fail comes with DigestMismatch: a byte, a
// file more or a file less; the files then are in quarantine and no worker starts
// with them. With any other error nothing was decided. progress, if not nil, is
// called after every 4 MiB, from this goroutine.
func (c *Catalog) Verify(ctx context.Context, id string, progress func(done, total int64)) (Verification, error) {
	release, err := c.hold(id)
	if err != nil {
		return "", err
	}
	defer release()
	m, ok := c.Get(id)
	if !ok {
		return "", unknown()
	}
	if m.Verification == Fail {
		return Fail, refuse(ModelUnverified, "its files are in quarantine: fetch or add it again")
	}
	files, err := c.hashAll(ctx, m.dir(), m.paths(), &meter{total: m.SizeBytes, report: progress})
	why, err := c.compare(&m, files, err)
	switch {
	case err != nil:
		return "", err
	case why != "":
		return c.condemn(m, why)
	}
	err = c.edit(id, func(now *Model) error {
		now.Files, now.LastVerifiedAt = files, time.Now().UTC()
		return m.same(now)
	})
	return m.Verification, err
}

// compare says why files that were just hashed, or the error of hashing them, are
// not what the index says of m; "" = they are. An error of a disk that does not
// answer decides nothing and is returned.
func (c *Catalog) compare(m *Model, files []File, err error) (why string, left error) {
	var found map[string]fs.FileInfo
	if err == nil {
		found, err = c.entries(m.dir())
	}
	switch {
	case err == nil && digestOf(files) != m.Digest:
		return "a file has other bytes", nil
	case err == nil && len(found) > len(m.Files):
		return "a file is there that was never hashed", nil
	case errors.Is(err, fs.ErrNotExist):
		return "a file is gone", nil
	case errors.Is(err, inputvalidation.RuleSymlink), errors.Is(err, inputvalidation.RuleNotRegular),
		errors.Is(err, inputvalidation.RuleOutside):
		return "something else stands in the place of a file", nil
	}
	return "", err
}

// looksSame is the quick check: it compares names, sizes, times and inodes of
// everything in a model's directory, and reads nothing.
func (c *Catalog) looksSame(m *Model) error {
	found, err := c.entries(m.dir())
	if err != nil {
		return err
	}
	for _, f := range m.Files {
		fi, ok := found[f.Path]
		switch {
		case !ok:
			return refuse(ModelUnverified, "a file is gone")
		case !f.same(fi):
			return refuse(ModelUnverified, "a file has another size, time or inode")
		}
	}
	if len(found) > len(m.Files) {
		return refuse(ModelUnverified, "a file is there that was never hashed")
	}
	return nil
}

// condemn marks a model as failed and moves its files to quarantine, for a person
// to look at.
func (c *Catalog) condemn(m Model, why string) (Verification, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	now, _ := c.Get(m.ID)
	if err := m.same(&now); err != nil {
		return "", err
	}
	now.Verification, now.LastVerifiedAt = Fail, time.Now().UTC()
	if err := c.store(now); err != nil {
		return "", err
	}
	to := fresh(quarantineDir, time.Now().UTC().Format("20060102T150405Z-"))
	c.log.Warn("a model failed its verification", "model", m.ID, "why", why, "quarantine", to)
	if err := c.moveAway(m.dir(), to); err != nil {
		return "", err
	}
	return Fail, refuse(DigestMismatch, "%s", why)
}

// same refuses an entry that was removed or replaced meanwhile.
func (m *Model) same(now *Model) error {
	if now.Digest != m.Digest {
		return refuse(ModelInUse, "it was removed or replaced while it was verified")
	}
	return nil
}
