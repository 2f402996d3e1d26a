package poolcore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolregistry"
)

// purge removes what r names, and nothing that is not below StateDir or the
// catalogue. It goes on after a failure and reports all of them.
func (c *hostCrew) purge(ctx context.Context, pool poolregistry.PoolID, r purgeWork) error {
	var errs []error
	if r.engine && c.files != nil {
		errs = append(errs, c.purgeEngine(string(pool)))
	}
	for _, ref := range r.models {
		errs = append(errs, c.purgeModel(ctx, ref, r.force))
	}
	if r.caches {
		errs = append(errs, c.purgeCaches())
	}
	return errors.Join(errs...)
}

// purgeEngine removes what the pool's workers left; those that live keep theirs.
func (c *hostCrew) purgeEngine(pool string) error {
	names, err := c.files.names(workersDir)
	if err != nil {
		return err
	}
	live := c.workersOf(pool)
	var errs []error
	for _, name := range names {
		id := strings.TrimSuffix(name, recordSuffix)
		if !strings.HasPrefix(id, pool+"-r") || live[id] || poolOf(id) != pool {
			continue
		}
		errs = append(errs, c.files.root.RemoveAll(workersDir+"/"+name))
	}
	return errors.Join(errs...)
}

// poolOf takes replica and random part off a worker id.
func poolOf(worker string) string {
	for range 2 {
		i := strings.LastIndexByte(worker, '-')
		if i < 0 {
			return ""
		}
		worker = worker[:i]
	}
	return worker
}

func (c *hostCrew) purgeModel(ctx context.Context, ref string, force bool) error {
	if c.cfg.Catalog == nil {
		return fmt.Errorf("purge model: there is no catalogue: %w", ModelMissing)
	}
	found, err := c.cfg.Catalog.Locate(ref)
	if err != nil {
		return fmt.Errorf("purge model: %w", modelFault(err).Code)
	}
	switch err := c.cfg.Catalog.Remove(ctx, found.ID, force); {
	case errors.Is(err, catalog.ModelInUse):
		return fmt.Errorf("purge model: %w", ModelInUse)
	case err != nil:
		return fmt.Errorf("purge model: %w", err)
	}
	return nil
}

// purgeCaches removes unfinished downloads and what a crash left half written.
func (c *hostCrew) purgeCaches() error {
	var errs []error
	if c.cfg.Catalog != nil {
		errs = append(errs, c.cfg.Catalog.DiscardPartials())
	}
	if c.files == nil {
		return errors.Join(errs...)
	}
	for _, dir := range []string{".", workersDir, reloadDir} {
		names, err := c.files.names(dir)
		errs = append(errs, err, removeTemps(c.files.root, dir, names))
	}
	return errors.Join(errs...)
}

// tempAge is how old a half-written file must be before nobody writes it any more.
const tempAge = time.Minute

// removeTemps removes what a crash left half written in dir.
func removeTemps(root *os.Root, dir string, names []string) error {
	var errs []error
	for _, name := range names {
		if !strings.HasPrefix(name, ".tmp-") {
			continue
		}
		if info, err := root.Lstat(dir + "/" + name); err == nil && time.Since(info.ModTime()) > tempAge {
			errs = append(errs, root.Remove(dir+"/"+name))
		}
	}
	return errors.Join(errs...)
}
