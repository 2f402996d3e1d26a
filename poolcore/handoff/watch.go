package handoff

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
)

// WatchConfig says what is watched.
type WatchConfig struct {
	// Dir is an absolute path. It is made, with 0700, where it is missing.
	Dir string
	// Interval between two looks, 100 ms to 10 s; 0 is 1 s.
	Interval time.Duration
	// Addresses says where a file's URL may lead; nil: LoopbackOnly.
	Addresses *poolregistry.AddressPolicy
	// AutoDelete removes each file once its binding was handed out. The binding
	// stands until another file changes it.
	AutoDelete bool
}

const (
	minInterval = 100 * time.Millisecond
	maxInterval = 10 * time.Second
	// maxEntries bounds one look at the directory: 64 pools of 64 replicas, and as
	// much again of other things.
	maxEntries = 8192
)

func (c WatchConfig) check() (WatchConfig, error) {
	c.Interval = cmp.Or(c.Interval, time.Second)
	if c.Addresses == nil {
		policy := LoopbackOnly()
		c.Addresses = &policy
	}
	switch {
	case !filepath.IsAbs(c.Dir):
		return c, invalid("dir", "not an absolute path")
	case c.Interval < minInterval || c.Interval > maxInterval:
		return c, invalid("interval", "not within 100 ms and 10 s")
	}
	return c, nil
}

// Watch looks at once and then at every interval, until ctx ends or the loop over
// it breaks, and yields what changed. Beside an error the event is zero: the
// configuration is wrong, which ends it, or the directory cannot be read, which is
// told once, keeps everything bound and is tried again. Each range over the result
// starts with nothing bound.
func Watch(ctx context.Context, cfg WatchConfig) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		cfg, err := cfg.check()
		if err != nil {
			yield(Event{}, err)
			return
		}
		w := watcher{cfg: cfg, plan: newPlan(), yield: yield}
		every := time.NewTicker(cfg.Interval)
		defer every.Stop()
		for ctx.Err() == nil && w.tick(ctx) {
			select {
			case <-ctx.Done():
			case <-every.C:
			}
		}
	}
}

// watcher is one run of Watch; one goroutine owns it.
type watcher struct {
	cfg      WatchConfig
	plan     *plan
	seen     map[string]remembered // by name
	yield    func(Event, error) bool
	troubled bool // an error was told and has not ended
}

// remembered is a file as it was read last. While its stamp is the same nobody
// wrote to it.
type remembered struct {
	stamp stamp
	sight sighting
}

// settled is how old a change must be before the stamp of a file is believed: two
// writes within one step of a file system's clock look the same.
const settled = 2 * time.Second

// tick is one look; it reports whether to go on.
func (w *watcher) tick(ctx context.Context) bool {
	seen, err := w.look()
	if err != nil {
		return w.trouble(err)
	}
	for _, e := range w.plan.step(seen) {
		if ctx.Err() != nil || !w.yield(e, nil) {
			return false
		}
	}
	if w.cfg.AutoDelete {
		err = w.take()
	}
	return w.trouble(err)
}

// trouble tells err where it is news.
func (w *watcher) trouble(err error) bool {
	told := w.troubled
	w.troubled = err != nil
	return err == nil || told || w.yield(Event{}, err)
}

// look reads every file of the directory.
func (w *watcher) look() ([]sighting, error) {
	tree, err := inputvalidation.OpenTree(w.cfg.Dir, inputvalidation.TreeConfig{})
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(w.cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("make handoff directory: %w", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open handoff directory: %w", err)
	}
	defer tree.Close()
	files, err := entries(w.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list handoff directory: %w", err)
	}
	before := w.seen
	w.seen = map[string]remembered{}
	var seen []sighting
	for _, fi := range files {
		name := fi.Name()
		if !strings.HasSuffix(name, ".json") || strings.HasPrefix(name, ".") {
			continue
		}
		now, known := stampOf(fi)
		if old := before[name]; known && old.stamp == now {
			seen, w.seen[name] = append(seen, old.sight), old
			continue
		}
		s, ok := w.sight(tree, name)
		if !ok {
			continue
		}
		seen = append(seen, s)
		if known && time.Since(now.changed()) > settled && (s.err == nil || s.err.Code != Unreadable) {
			w.seen[name] = remembered{now, s}
		}
	}
	return seen, nil
}

// entries describes what is in dir, at most maxEntries.
func entries(dir string) ([]fs.FileInfo, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	files, err := d.Readdir(maxEntries + 1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && len(files) > maxEntries {
		err = refused("more than 8192 entries")
	}
	return files, err
}

// sight reads and judges one file; ok is false for one that vanished.
func (w *watcher) sight(tree *inputvalidation.Tree, name string) (s sighting, ok bool) {
	s.name = name
	data, mod, err := read(tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false
	}
	s.mod, s.hash = mod, sha256.Sum256(data)
	var f File
	if err == nil {
		f, err = Parse(data)
	}
	if err == nil {
		s.binding, err = f.Bind(*w.cfg.Addresses)
	}
	if err != nil {
		if s.err, ok = errors.AsType[*Error](err); !ok {
			s.err = &Error{Code: Unreadable, Rule: "cannot be read"}
		}
	}
	return s, true
}

// read returns the content of a file that may be believed.
func read(tree *inputvalidation.Tree, name string) ([]byte, time.Time, error) {
	path, err := inputvalidation.ParseRelPath("name", name)
	if err != nil {
		return nil, time.Time{}, refused("name")
	}
	f, fi, err := tree.Open(path)
	switch e, ok := errors.AsType[*inputvalidation.Error](err); {
	case ok && e.Rule == inputvalidation.RuleSymlink:
		return nil, time.Time{}, refused("a link")
	case ok && e.Rule == inputvalidation.RuleNotRegular:
		return nil, time.Time{}, refused("not a regular file")
	case err != nil:
		return nil, time.Time{}, err
	}
	defer f.Close()
	if !owned(fi) {
		return nil, fi.ModTime(), refused("owned by somebody else")
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fi.ModTime(), err
	}
	if len(data) > MaxBytes {
		return nil, fi.ModTime(), refused("larger than 64 KiB")
	}
	return data, fi.ModTime(), nil
}

// take removes the files whose bindings were handed out.
func (w *watcher) take() error {
	claims := w.plan.untaken()
	if len(claims) == 0 {
		return nil
	}
	dir, err := os.OpenRoot(w.cfg.Dir)
	if err != nil {
		return fmt.Errorf("open handoff directory: %w", err)
	}
	defer dir.Close()
	var errs []error
	for _, c := range claims {
		taken, err := takeFile(dir, c)
		if taken {
			w.plan.took(c)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// takeFile removes the file of c if it still holds what was handed out. It is moved
// aside first, so that content written meanwhile is put back, not lost.
func takeFile(dir *os.Root, c claim) (taken bool, err error) {
	aside := ".taken-" + c.name
	if err := dir.Rename(c.name, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("take file: %w", err)
	}
	if holds(dir, aside, c.hash) {
		return true, dir.Remove(aside)
	}
	if err := dir.Link(aside, c.name); err != nil && !errors.Is(err, fs.ErrExist) { // exists: newer content still
		return false, fmt.Errorf("put file back: %w", err)
	}
	return false, dir.Remove(aside)
}

// holds reports whether a regular file has the content of hash.
func holds(dir *os.Root, name string, hash [sha256.Size]byte) bool {
	fi, err := dir.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > MaxBytes {
		return false
	}
	data, err := dir.ReadFile(name)
	return err == nil && sha256.Sum256(data) == hash
}
