package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Source loads secrets by name. The error is [ErrNotFound] only if the secret is
// absent; a Secret that came with an error is never returned. Each Load returns a
// Secret of its own, which the caller may destroy.
type Source interface {
	Load(ctx context.Context, name string) (Secret, Meta, error)
}

// Meta says where a secret came from. It holds nothing secret.
type Meta struct {
	Name    string    // as asked for, "" for [ReadFile]
	Origin  string    // file, credential or env
	Path    string    // of the file
	Version string    // 8 hex digits; same content, same version, inside one process
	Warning string    // one sentence, "" if all is well
	ModTime time.Time // of the file
}

// Config of a Source. The zero value uses the process's environment and private
// files with one line of text.
type Config struct {
	// LookupEnv and Unsetenv reach the environment. nil = those of os; but where
	// LookupEnv is set and Unsetenv is nil, nothing is unset anywhere.
	LookupEnv func(string) (string, bool)
	Unsetenv  func(string) error
	// Files maps a name to an absolute path that is used if the file exists.
	Files map[string]string
	// Credentials maps a name to the service manager's name for it, of 1 to 255
	// letters, digits and _.@:- without a leading dot and without "..". A name that
	// is not here is looked up in lower case with - for _.
	Credentials map[string]string
	// NoEnv refuses to take a secret itself from the environment; NAME_FILE stays.
	NoEnv bool
	// Rules hold for all files.
	Rules Rules
	// Logger tells of every load, never of content. nil = nobody.
	Logger *slog.Logger
}

// NewSource returns the chain that the package comment describes. All faults of
// cfg are reported at once. It reads nothing.
func NewSource(cfg Config) (Source, error) {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Files)) {
		faults = append(faults, entry("Files", name, cleanPath(cfg.Files[name]) == nil, "its path is not absolute and clean"))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Credentials)) {
		faults = append(faults, entry("Credentials", name, credentialNamed(cfg.Credentials[name]), "it is not the name of a credential"))
	}
	if err := errors.Join(append(faults, cfg.Rules.check("load"))...); err != nil {
		return nil, err
	}
	cfg.Files, cfg.Credentials = maps.Clone(cfg.Files), maps.Clone(cfg.Credentials)
	if cfg.Unsetenv == nil {
		cfg.Unsetenv = func(string) error { return nil } // another environment's
		if cfg.LookupEnv == nil {
			cfg.Unsetenv = os.Unsetenv
		}
	}
	if cfg.LookupEnv == nil {
		cfg.LookupEnv = processEnv
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &chain{cfg: cfg, site: thisMachine(cfg.LookupEnv), env: map[string]Secret{}, warned: map[string]string{}}, nil
}

// entry checks one entry of a map of Config. A bad name is not repeated.
func entry(field, name string, valid bool, reason string) error {
	if !wellNamed(name) {
		return named(fault("load", ErrFormat, "not the name of an environment variable"), field)
	}
	return named(wrong(!valid, "load", reason), name)
}

func processEnv(name string) (string, bool) { return os.LookupEnv(name) }

// chain is the Source of NewSource.
type chain struct {
	cfg  Config
	site site

	mu     sync.Mutex        // guards what follows
	env    map[string]Secret // taken from the environment, which forgot them
	warned map[string]string // by name: the last warning that was logged
}

// polling marks the context of a load that only looks whether something changed.
type polling struct{}

// Load implements Source.
func (c *chain) Load(ctx context.Context, name string) (Secret, Meta, error) {
	if err := ctx.Err(); err != nil {
		return Secret{}, Meta{}, fmt.Errorf("load secret: %w", err)
	}
	if !wellNamed(name) {
		return Secret{}, Meta{}, fault("load", ErrFormat, "not the name of an environment variable")
	}
	s, m, err := c.find(ctx, name)
	if err != nil {
		return Secret{}, Meta{}, named(err, name)
	}
	m.Name, m.Version = name, version(s)
	c.tell(ctx, m)
	return s, m, nil
}

// tell logs a load: once per warning, and at DEBUG if it is a poll.
func (c *chain) tell(ctx context.Context, m Meta) {
	log, level, name := c.cfg.Logger, slog.LevelInfo, slog.String("name", m.Name)
	if ctx.Value(polling{}) != nil {
		level = slog.LevelDebug
	}
	log.LogAttrs(ctx, level, "secret loaded", name, slog.String("origin", m.Origin), slog.String("version", m.Version))
	if m.Path != "" {
		log.LogAttrs(ctx, slog.LevelDebug, "secret file", name, slog.String("path", m.Path))
	}
	c.mu.Lock()
	news := m.Warning != c.warned[m.Name]
	c.warned[m.Name] = m.Warning
	c.mu.Unlock()
	if news && m.Warning != "" {
		log.LogAttrs(ctx, slog.LevelWarn, m.Warning, name, slog.String("origin", m.Origin))
	}
}

func (c *chain) find(ctx context.Context, name string) (Secret, Meta, error) {
	path, byFile := c.cfg.LookupEnv(name + "_FILE")
	value, byValue := c.cfg.LookupEnv(name)
	switch {
	case byFile && byValue:
		return Secret{}, Meta{}, fault("load", ErrAmbiguous, "both "+name+" and "+name+"_FILE are set; unset one")
	case byFile && path == "":
		return Secret{}, Meta{}, fault("load", ErrFormat, name+"_FILE is set and empty")
	case byFile:
		s, m, err := c.site.readFile(ctx, path, c.cfg.Rules)
		if errors.Is(err, ErrNotFound) {
			// Named but missing is broken, not absent: a caller must not go on without.
			err = fault("load", os.ErrNotExist, name+"_FILE names a file that does not exist").at(path)
		}
		return s, m, err
	}
	if path, ok := c.cfg.Files[name]; ok {
		s, m, err := c.site.readFile(ctx, path, c.cfg.Rules)
		if !errors.Is(err, ErrNotFound) {
			return s, m, err
		}
	}
	if s, m, err := c.fromCredential(ctx, name); !errors.Is(err, ErrNotFound) {
		return s, m, err
	}
	return c.fromEnv(name, value, byValue)
}

// named adds the name of the secret to an error of this package.
func named(err error, name string) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Name = name
	}
	return err
}

func version(s Secret) (v string) {
	_ = s.Use(func(b []byte) error {
		sum := digest(b)
		v = fmt.Sprintf("%x", sum[:4])
		return nil
	})
	return v
}
