package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// Use says that a worker runs with the model: until release is called it cannot
// be removed or replaced. Calling release again does nothing.
func (c *Catalog) Use(id string) (release func(), err error) {
	release, err = c.hold(id)
	if err != nil {
		return nil, err
	}
	if err := c.change(id, func(m *Model) error { m.LastUsedAt = time.Now().UTC(); return nil }); err != nil {
		c.log.Warn("record use of a model", "error", err)
	}
	return release, nil
}

// hold is Use without a record of it.
func (c *Catalog) hold(id string) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch _, ok := c.Get(id); {
	case c.closed:
		return nil, refuse(Closed, "")
	case !ok:
		return nil, unknown()
	case c.leaving[id]:
		return nil, refuse(ModelInUse, "it is being removed or replaced")
	}
	c.using[id]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.using[id]--; c.using[id] == 0 {
			delete(c.using, id)
		}
	}), nil
}

// leave reserves a model for its removal or replacement until done is called.
func (c *Catalog) leave(id string, force bool) (done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, refuse(Closed, "")
	case c.leaving[id]:
		return nil, refuse(ModelInUse, "it is being removed or replaced")
	case c.using[id] > 0 && !force:
		return nil, refuse(ModelInUse, "%d workers or verifications use it", c.using[id])
	}
	c.leaving[id] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.leaving, id)
	}, nil
}

// failed reports whether a model failed its verification.
func (c *Catalog) failed(id string) bool {
	m, ok := c.Get(id)
	return ok && m.Verification == Fail
}

// SetState makes a model active or retired. A retired one starts no more workers;
// who uses it has until retireAt (zero = now). For Active retireAt is not kept.
func (c *Catalog) SetState(id string, s State, retireAt time.Time) error {
	if s != Active && s != Retired {
		return because(InvalidParams, fault("state", inputvalidation.RuleSyntax), "state is Active or Retired")
	}
	return c.change(id, func(m *Model) error {
		m.State, m.RetireAt = s, time.Time{}
		if s == Retired {
			m.RetireAt = retireAt.UTC().Round(0)
		}
		return nil
	})
}

// Remove deletes the entry and then the files. A model in use is ModelInUse; with
// force it is removed all the same, and engines keep what they have open.
func (c *Catalog) Remove(ctx context.Context, id string, force bool) error {
	m, ok := c.Get(id)
	if !ok {
		return unknown()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	done, err := c.leave(id, force)
	if err != nil {
		return err
	}
	defer done()
	c.writing.Lock()
	defer c.writing.Unlock()
	err = c.updateLocked(func(models []Model) ([]Model, error) {
		i := indexOf(models, id)
		if i < 0 {
			return nil, unknown()
		}
		m = models[i]
		return append(models[:i], models[i+1:]...), nil
	})
	if err != nil {
		return err
	}
	return c.discard(m.dir())
}

// Ready finds the model that a worker is to be started with: active, verified,
// and with files that look as they did when they were hashed. Where one looks
// different, every byte is hashed again first, for as long as ctx allows. It is
// ModelRetired, ModelUnverified, or an error of [Catalog.Locate].
func (c *Catalog) Ready(ctx context.Context, ref string) (Located, error) {
	at, err := c.Locate(ref)
	if err != nil {
		return Located{}, err
	}
	switch {
	case at.State == Retired:
		return Located{}, refuse(ModelRetired, "it was retired")
	case at.Verification == Fail:
		return Located{}, refuse(ModelUnverified, "it failed a verification: fetch or add it again")
	case at.Format == formatPickle && !c.cfg.Trust.AllowPickle:
		return Located{}, refuse(Untrusted, "a pickle file is allowed by allow_pickle only")
	}
	if changed := c.looksSame(&at.Model); changed != nil {
		c.log.Info("a model looks different and is verified", "model", at.ID, "why", changed)
		if _, err := c.Verify(ctx, at.ID, nil); err != nil {
			if errors.Is(err, DigestMismatch) {
				err = because(ModelUnverified, err, detail(err))
			}
			return Located{}, err
		}
		return c.Locate(ref)
	}
	return at, nil
}

// looksSame is the quick check: it compares size, time and inode of every file,
// and reads nothing.
func (c *Catalog) looksSame(m *Model) error {
	in, err := c.tree.Sub(relPath(m.dir()), false)
	if err != nil {
		return fmt.Errorf("open model directory: %w", err)
	}
	defer in.Close()
	for _, f := range m.Files {
		p, err := inputvalidation.ParseRelPath("path", f.Path)
		if err != nil {
			return err
		}
		file, fi, err := in.Open(p)
		if err != nil {
			return fmt.Errorf("open model file: %w", err)
		}
		_ = file.Close() // read only: nothing can be lost
		if !f.same(fi) {
			return refuse(ModelUnverified, "a file has another size, time or inode")
		}
	}
	extra, err := c.unlisted(m)
	if err == nil && extra {
		err = refuse(ModelUnverified, "a file is there that was never hashed")
	}
	return err
}
