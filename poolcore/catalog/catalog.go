// Package catalog keeps the model files of one host: every file has a digest that
// was computed here over its bytes, and nothing gets its final name before that.
//
// # Layout
//
//	lock                              held while a Catalog is open
//	index.json                        all entries; replaced in one step
//	index.json.bad-<time>             a damaged index that was put aside
//	models/<slug>/<revision>/<files>  slug: the id, escaped; revision: the commit, else the digest
//	partial/                          what is being added or removed
//	quarantine/                       files that failed a verification
//
// # References
//
// A model is named by a reference with a place, such as
// hf:owner/repo@rev::file=model.gguf, in the canonical form of
// inputvalidation.ParseModelRef. Its id is the reference without the digest.
// Aliases are refused: which model an alias means is the caller's policy.
//
// # Not promised
//
// Who trained a model and whether it may be used: digests say that bytes are the
// same, not that they are good. Protection against root, or against a program that
// changes a file while an engine has it open.
//
// All methods are safe for concurrent use. Open needs a Unix system.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/llorch/llorch/inputvalidation"
)

// Names below the directory of a catalogue.
const (
	lockFile      = "lock"
	modelsDir     = "models"
	partialDir    = "partial"
	quarantineDir = "quarantine"
	putPrefix     = "put-"     // in partialDir: files that are being added
	removedPrefix = "removed-" // in partialDir: files that are being removed
	fetchPrefix   = "fetch-"   // in partialDir: unfinished downloads, kept
)

// Config says where a catalogue is and what it accepts.
type Config struct {
	// Dir is the directory, required; it is made if it is missing. One process
	// owns it at a time.
	Dir   string
	Trust Trust
	// Sources download what is not there; usually a fetch.Sources. nil: Ensure
	// finds only what is there.
	Sources Sources
	// Rebuild makes an index anew that is damaged or gone, by hashing every file:
	// minutes for large models. Default: such an index is ErrDamaged.
	Rebuild bool
	Logger  *slog.Logger // nil = nothing is logged
	// FreeSpace returns the bytes that may still be written below a directory.
	// nil = statfs; where the system has none, nothing is checked.
	FreeSpace func(dir string) (uint64, error)
}

// Catalog is an open catalogue. Close it.
type Catalog struct {
	cfg    Config // with defaults
	log    *slog.Logger
	dir    string // absolute
	root   *os.Root
	tree   *inputvalidation.Tree // the same directory
	unlock func() error

	models  atomic.Pointer[[]Model] // the index; sorted by id, never written again
	writing sync.Mutex              // of whoever replaces the index or moves directories; taken before mu
	work    sync.WaitGroup          // fetches

	mu      sync.Mutex
	closed  bool
	using   map[string]int    // by id: releases that are due; grows under writing only
	shapes  map[string]Shape  // by id and digest; no more than entries
	fetches map[string]*Fetch // by id: those under way
}

// Open takes the catalogue. A second owner is ErrLocked. A damaged index is put
// aside and is ErrDamaged, until Rebuild is asked for; that of a later release is
// ErrNewer. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config) (*Catalog, error) {
	if cfg.Dir == "" {
		return nil, refuse(InvalidParams, "Dir is required")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find catalogue: %w", err)
	}
	if cfg.FreeSpace == nil {
		cfg.FreeSpace = freeSpace
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Catalog{
		cfg: cfg, log: cfg.Logger, dir: dir, using: map[string]int{}, shapes: map[string]Shape{}, fetches: map[string]*Fetch{},
	}
	c.models.Store(new([]Model))
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Catalog) open(ctx context.Context) error {
	err := os.MkdirAll(c.dir, 0o700)
	if err == nil {
		c.root, err = os.OpenRoot(c.dir)
	}
	if err == nil {
		c.tree, err = inputvalidation.OpenTree(c.dir, inputvalidation.TreeConfig{})
	}
	if err != nil {
		return fmt.Errorf("open catalogue: %w", err)
	}
	if c.unlock, err = lockFileIn(c.root); err != nil {
		return err
	}
	for _, d := range []string{modelsDir, partialDir, quarantineDir} {
		if err := c.makeDir(d); err != nil {
			return err
		}
	}
	if err := c.loadIndex(); err != nil {
		return err
	}
	c.clear(putPrefix, removedPrefix)
	if c.cfg.Rebuild && len(*c.models.Load()) == 0 {
		return c.rebuild(ctx)
	}
	return nil
}

// Close ends the fetches, keeping what they have, waits for whoever writes the
// index just then, and gives the directory back. Closing again does nothing.
func (c *Catalog) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	running := slices.Collect(maps.Values(c.fetches))
	c.mu.Unlock()
	for _, f := range running {
		f.cancel()
	}
	c.work.Wait()
	c.writing.Lock()
	defer c.writing.Unlock()
	var errs []error
	if c.tree != nil {
		errs = append(errs, c.tree.Close())
	}
	if c.root != nil {
		errs = append(errs, c.root.Close())
	}
	if c.unlock != nil { // last: nothing is written any more
		errs = append(errs, c.unlock())
	}
	return errors.Join(errs...)
}

// List returns all entries, sorted by id.
func (c *Catalog) List() []Model {
	models := slices.Clone(*c.models.Load())
	for i := range models {
		models[i] = models[i].clone()
	}
	return models
}

// Get returns the entry with that id.
func (c *Catalog) Get(id string) (Model, bool) {
	models := *c.models.Load()
	i, ok := search(models, id)
	if !ok {
		return Model{}, false
	}
	return models[i].clone(), true
}

// Locate finds the model that ref names, whatever its state, and reads its shape.
// It is ModelUnknown, AliasNotAllowed, DigestMismatch where ref states another
// digest than the model has, or an inputvalidation.Error.
func (c *Catalog) Locate(ref string) (Located, error) {
	parsed, id, err := parseRef(ref)
	if err != nil {
		return Located{}, err
	}
	m, ok := c.Get(id)
	if !ok {
		return Located{}, unknown()
	}
	if want := parsed.Digest(); want != "" && !m.hasDigest(want) {
		return Located{}, refuse(DigestMismatch, "the model has another digest than the reference states")
	}
	at := filepath.Join(c.dir, filepath.FromSlash(m.dir()), filepath.FromSlash(m.entryFile()))
	return Located{Model: m, Path: at, Shape: c.shapeOf(&m)}, nil
}

// shapeOf reads a model's shape once.
func (c *Catalog) shapeOf(m *Model) Shape {
	key := m.ID + "#" + m.Digest
	c.mu.Lock()
	s, ok := c.shapes[key]
	c.mu.Unlock()
	if ok || m.Verification == Fail {
		return s
	}
	s, _, err := c.inspect(m.dir(), m)
	if err != nil {
		return Shape{TensorBytes: m.SizeBytes}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.shapes) >= maxModels {
		clear(c.shapes)
	}
	c.shapes[key] = s
	return s
}

// clear removes what a crash left in partial/.
func (c *Catalog) clear(prefixes ...string) {
	left, err := c.list(partialDir)
	for _, e := range left {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
			err = errors.Join(err, c.root.RemoveAll(partialDir+"/"+e.Name()))
		}
	}
	if err != nil {
		c.log.Warn("clear partial files", "error", err)
	}
}
