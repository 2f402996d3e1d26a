package catalog

import (
	"context"
	"crypto/rand"
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
	files, why, err := c.rehash(ctx, &m, &meter{total: m.SizeBytes, report: progress})
	if err != nil {
		return "", err
	}
	if why != "" {
		if err := c.condemn(&m, why); err != nil {
			return "", err
		}
		return Fail, refuse(DigestMismatch, "%s", why)
	}
	err = c.change(id, func(now *Model) error {
		if now.Digest != m.Digest {
			return refuse(ModelInUse, "it was replaced while it was verified")
		}
		now.Files, now.LastVerifiedAt = files, time.Now().UTC()
		return nil
	})
	return m.Verification, err
}

// rehash hashes a model's files. It returns what it found, or why the model is not
// what the index says.
func (c *Catalog) rehash(ctx context.Context, m *Model, meter *meter) (files []File, why string, err error) {
	in, err := c.tree.Sub(relPath(m.dir()), false)
	if err != nil {
		why, err = different(err)
		return nil, why, err
	}
	defer in.Close()
	for _, f := range m.Files {
		now, err := hashFile(ctx, in, f.Path, meter)
		if err != nil {
			why, err = different(err)
			return nil, why, err
		}
		if now.SHA256 != f.SHA256 || now.SizeBytes != f.SizeBytes {
			return nil, "a file has other bytes", nil
		}
		files = append(files, now)
	}
	extra, err := c.unlisted(m)
	if err != nil {
		return nil, "", err
	}
	if extra {
		return nil, "a file is there that was never hashed", nil
	}
	return files, "", nil
}

// different tells a model that is not what it was from a disk that does not
// answer.
func different(err error) (why string, left error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "a file is gone", nil
	case errors.Is(err, inputvalidation.RuleSymlink), errors.Is(err, inputvalidation.RuleNotRegular),
		errors.Is(err, inputvalidation.RuleOutside):
		return "something else stands in the place of a file", nil
	}
	return "", err
}

// condemn marks a model as failed and moves its files to quarantine, for a person
// to look at.
func (c *Catalog) condemn(m *Model, why string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.updateLocked(func(models []Model) ([]Model, error) {
		i := indexOf(models, m.ID)
		if i < 0 || models[i].Digest != m.Digest {
			return nil, refuse(ModelInUse, "it was replaced while it was verified")
		}
		models[i].Verification, models[i].LastVerifiedAt = Fail, time.Now().UTC()
		return models, nil
	})
	if err != nil {
		return err
	}
	to := quarantineDir + "/" + time.Now().UTC().Format("20060102T150405Z-") + rand.Text()[:8]
	c.log.Warn("a model failed its verification", "model", m.ID, "why", why, "quarantine", to)
	return c.moveAway(m.dir(), to)
}
