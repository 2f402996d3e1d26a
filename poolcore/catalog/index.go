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
	var head struct {
		Schema int `json:"schema"`
	}
	var form indexForm
	switch {
	case json.Unmarshal(raw, &head) != nil || head.Schema < schema:
		return nil, refuse(ErrDamaged, "the index has no schema")
	case head.Schema > schema:
		return nil, refuse(ErrNewer, "the index has schema %d, this release knows %d", head.Schema, schema)
	case json.Unmarshal(raw, &form) != nil:
		return nil, refuse(ErrDamaged, "the index has a member of the wrong type")
	case form.Models == nil || len(form.Models) > maxModels:
		return nil, refuse(ErrDamaged, "the index has no list of at most %d models", maxModels)
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
	switch {
	case err == nil:
		var models []Model
		if models, err = parseIndex(raw); err == nil {
			c.models.Store(&models)
			return nil
		}
	case errors.Is(err, inputvalidation.RuleTooLong):
		err = because(ErrDamaged, err, "the index is too large")
	case errors.Is(err, fs.ErrNotExist):
		untouched, err := c.untouched()
		if err != nil {
			return err
		}
		if untouched || c.cfg.Rebuild {
			return c.save(nil)
		}
		return refuse(ErrDamaged, "the index is gone and the directory is not empty: rebuild it")
	}
	if !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("read index: %w", err)
	}
	aside := badFile + time.Now().UTC().Format(badTime)
	if err := c.root.Rename(indexFile, aside); err != nil {
		return fmt.Errorf("put damaged index aside: %w", err)
	}
	c.log.Warn("the index is damaged and was put aside", "file", aside, "error", err)
	if c.cfg.Rebuild {
		return c.save(nil)
	}
	return fmt.Errorf("%w; it was put aside beside it: rebuild it", err)
}

// untouched reports whether the directory was never a catalogue.
func (c *Catalog) untouched() (bool, error) {
	top, err := c.list(".")
	if err != nil {
		return false, err
	}
	aside := func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), badFile) }
	models, err := c.list(modelsDir)
	return len(models) == 0 && !slices.ContainsFunc(top, aside), err
}

// save replaces the index durably and then what readers see; models are sorted by
// id. Nothing changes after an error. Its caller holds writing, or is Open.
func (c *Catalog) save(models []Model) error {
	raw, err := encodeIndex(models, time.Now())
	if err != nil {
		return err
	}
	if err := c.tree.WriteFile(relPath(indexFile), raw, 0o600); err != nil {
		stands, readErr := c.tree.ReadFile(relPath(indexFile), maxIndex)
		if readErr != nil || !bytes.Equal(stands, raw) {
			return c.writeError("write index", err)
		}
		// Only the last sync failed. After a crash the old index may be back:
		// files without an entry, or an entry without files, which no start accepts.
		c.log.Warn("the index was written but may not be durable", "error", err)
	}
	c.models.Store(&models)
	return nil
}

// store saves the index with m in it, instead of the entry of that id if there is
// one. Its caller holds writing.
func (c *Catalog) store(m Model) error {
	models := slices.Clone(*c.models.Load())
	i, ok := search(models, m.ID)
	if !ok {
		models = slices.Insert(models, i, Model{})
	}
	models[i] = m.clone()
	return c.save(models)
}

// edit changes the entry id, durably.
func (c *Catalog) edit(id string, change func(m *Model) error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	m, ok := c.Get(id)
	if !ok {
		return unknown()
	}
	if err := change(&m); err != nil {
		return err
	}
	return c.store(m)
}

// search finds id in sorted models, or the place where it belongs.
func search(models []Model, id string) (int, bool) {
	return slices.BinarySearchFunc(models, id, func(m Model, id string) int { return strings.Compare(m.ID, id) })
}

func unknown() error { return refuse(ModelUnknown, "no such model in the catalogue") }
