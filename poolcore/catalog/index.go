package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// Bounds and names of the index.
const (
	schema    = 1
	maxIndex  = 32 << 20
	maxModels = 4096
	indexFile = "index.json"
	badFile   = indexFile + ".bad-"
	badTime   = "20060102T150405.000000000Z"
)

// indexForm is index.json.
type indexForm struct {
	Schema    int       `json:"schema"`
	UpdatedAt time.Time `json:"updated_at"`
	Models    []Model   `json:"models"`
}

// parseIndex reads an index. A newer schema is ErrNewer; everything else that this
// release would not write is ErrDamaged.
func parseIndex(raw []byte) ([]Model, error) {
	if err := inputvalidation.CheckJSON(indexFile, raw, maxIndex); err != nil {
		return nil, because(ErrDamaged, err, "the index is not JSON")
	}
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(raw, &version); err != nil || version.Schema < schema {
		return nil, refuse(ErrDamaged, "the index has no schema")
	}
	if version.Schema > schema {
		return nil, refuse(ErrNewer, "the index has schema %d, this release knows %d", version.Schema, schema)
	}
	var form indexForm
	if err := json.Unmarshal(raw, &form); err != nil {
		return nil, refuse(ErrDamaged, "the index has a member of the wrong type")
	}
	if form.Models == nil {
		return nil, refuse(ErrDamaged, "the index has no list of models")
	}
	if len(form.Models) > maxModels {
		return nil, refuse(ErrDamaged, "the index has %d models, at most %d", len(form.Models), maxModels)
	}
	for i := range form.Models {
		m := &form.Models[i]
		if err := m.check(); err != nil {
			return nil, because(ErrDamaged, err, fmt.Sprintf("model %d of %d: %v", i+1, len(form.Models), err))
		}
		if i > 0 && form.Models[i-1].ID >= m.ID {
			return nil, refuse(ErrDamaged, "the index is not sorted by id")
		}
	}
	return form.Models, nil
}

func encodeIndex(models []Model, now time.Time) ([]byte, error) {
	if models == nil {
		models = []Model{}
	}
	raw, err := json.MarshalIndent(indexForm{schema, now.UTC(), models}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode index: %w", err)
	}
	raw = append(raw, '\n')
	if len(raw) > maxIndex || len(models) > maxModels {
		return nil, refuse(InvalidParams, "the index would have more than %d models or %d bytes", maxModels, maxIndex)
	}
	return raw, nil
}

// loadIndex reads the index of an open catalogue. What is damaged is put aside,
// never overwritten; a fresh directory gets an empty index.
func (c *Catalog) loadIndex() error {
	raw, err := c.tree.ReadFile(relPath(indexFile), maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		fresh, err := c.untouched()
		if err != nil {
			return err
		}
		if fresh || c.cfg.Rebuild {
			return c.update(func([]Model) ([]Model, error) { return nil, nil })
		}
		return refuse(ErrDamaged, "the index is gone and the directory is not empty: rebuild it")
	}
	if err != nil && !errors.Is(err, inputvalidation.RuleTooLong) {
		return fmt.Errorf("read index: %w", err)
	}
	if err == nil {
		var models []Model
		if models, err = parseIndex(raw); err == nil {
			c.models.Store(&models)
			return nil
		}
	}
	if errors.Is(err, ErrNewer) {
		return err
	}
	aside := badFile + time.Now().UTC().Format(badTime)
	if err := c.root.Rename(indexFile, aside); err != nil {
		return fmt.Errorf("put damaged index aside: %w", err)
	}
	c.log.Warn("the index is damaged and was put aside", "file", aside, "error", err)
	if c.cfg.Rebuild {
		return c.update(func([]Model) ([]Model, error) { return nil, nil })
	}
	return because(ErrDamaged, err, "the index was put aside beside it: "+detail(err)+"; rebuild it")
}

// detail returns the sentence of an Error.
func detail(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail
	}
	return "it is too large"
}

// untouched reports whether the directory was never a catalogue.
func (c *Catalog) untouched() (bool, error) {
	top, err := c.root.Open(".")
	if err != nil {
		return false, fmt.Errorf("list catalogue: %w", err)
	}
	defer top.Close()
	names, err := top.Readdirnames(-1)
	if err != nil {
		return false, fmt.Errorf("list catalogue: %w", err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, badFile) {
			return false, nil
		}
	}
	some, err := c.names(modelsDir)
	return len(some) == 0, err
}

// update replaces the index durably and then what readers see. It is the only
// writer: change gets a copy of the newest models, sorted by id, and returns the
// next. Nothing changes after an error.
func (c *Catalog) update(change func([]Model) ([]Model, error)) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.updateLocked(change)
}

func (c *Catalog) updateLocked(change func([]Model) ([]Model, error)) error {
	next, err := change(slices.Clone(*c.models.Load()))
	if err != nil {
		return err
	}
	slices.SortFunc(next, func(a, b Model) int { return strings.Compare(a.ID, b.ID) })
	raw, err := encodeIndex(next, time.Now())
	if err != nil {
		return err
	}
	if err := c.tree.WriteFile(relPath(indexFile), raw, 0o600); err != nil {
		stands, readErr := c.tree.ReadFile(relPath(indexFile), maxIndex)
		if readErr != nil || !bytes.Equal(stands, raw) {
			return c.full(fmt.Errorf("write index: %w", err))
		}
		// Only the last sync failed. After a crash the old index may be back:
		// files without an entry, or an entry without files, which no start accepts.
		c.log.Warn("the index was written but may not be durable", "error", err)
	}
	c.models.Store(&next)
	return nil
}

// full names a full disk as the cause of a failed write, which a Tree does not
// tell.
func (c *Catalog) full(err error) error {
	if free, freeErr := c.cfg.FreeSpace(c.dir); freeErr == nil && free < 1<<20 {
		return because(InsufficientDisk, err, "the disk is full")
	}
	return err
}

// change applies do to the entry id, durably.
func (c *Catalog) change(id string, do func(m *Model) error) error {
	return c.update(func(models []Model) ([]Model, error) {
		i := indexOf(models, id)
		if i < 0 {
			return nil, unknown()
		}
		m := models[i].clone()
		err := do(&m)
		models[i] = m
		return models, err
	})
}

// indexOf returns the place of id in sorted models, −1 if it is not there.
func indexOf(models []Model, id string) int {
	i, ok := slices.BinarySearchFunc(models, id, func(m Model, id string) int { return strings.Compare(m.ID, id) })
	if !ok {
		return -1
	}
	return i
}

func unknown() error { return refuse(ModelUnknown, "no such model in the catalogue") }
