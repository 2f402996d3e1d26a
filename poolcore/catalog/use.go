package catalog

import (
	"context"
	"errors"
	"slices"
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
	if err := c.edit(id, func(m *Model) error { m.LastUsedAt = time.Now().UTC(); return nil }); err != nil {
		c.log.Warn("record use of a model", "error", err)
	}
	return release, nil
}

// hold is Use without a record of it. It waits for a removal or replacement that
// is under way.
func (c *Catalog) hold(id string) (release func(), err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, refuse(Closed, "")
	}
	if _, ok := c.Get(id); !ok {
		return nil, unknown()
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

// idle refuses to touch the files of a model in use. The caller holds writing for
// as long as the answer has to stay true.
func (c *Catalog) idle(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idleLocked(id)
}

// idleLocked is idle for a caller that holds mu.
func (c *Catalog) idleLocked(id string) error {
	if c.closed {
		return refuse(Closed, "")
	}
	if n := c.using[id]; n > 0 {
		return refuse(ModelInUse, "%d workers or verifications use it", n)
	}
	return nil
}

// SetState makes a model active or retired. A retired one starts no more workers;
// who uses it has until retireAt (zero = now). For Active retireAt is not kept.
func (c *Catalog) SetState(id string, s State, retireAt time.Time) error {
	if s != Active && s != Retired {
		return because(InvalidParams, fault("state", inputvalidation.RuleSyntax), "state is Active or Retired")
	}
	return c.edit(id, func(m *Model) error {
		m.State, m.RetireAt = s, time.Time{}
		if s == Retired {
			m.RetireAt = retireAt.UTC().Round(0)
		}
		return nil
	})
}

// Remove deletes the entry and then the files. A model in use is ModelInUse; with
// force it is removed all the same, and engines keep what they have open. ctx is
// looked at before anything is removed.
func (c *Catalog) Remove(ctx context.Context, id string, force bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	models := slices.Clone(*c.models.Load())
	i, ok := search(models, id)
	if !ok {
		return unknown()
	}
	if err := c.idle(id); err != nil && !(force && errors.Is(err, ModelInUse)) {
		return err
	}
	m := models[i]
	if err := c.save(slices.Delete(models, i, i+1)); err != nil {
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
	changed := c.looksSame(&at.Model)
	if changed == nil {
		return at, nil
	}
	c.log.Info("a model looks different and is verified", "model", at.ID, "why", changed)
	if _, err := c.Verify(ctx, at.ID, nil); err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Code == DigestMismatch {
			err = because(ModelUnverified, err, e.Detail)
		}
		return Located{}, err
	}
	return c.Locate(ref)
}
