package secrets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Source loads secrets by name. The error is [ErrNotFound] only if the secret is
// absent; a Secret that came with an error is never returned.
type Source interface {
	Load(ctx context.Context, name string) (Secret, Meta, error)
}

// Meta says where a secret came from. It holds nothing secret.
type Meta struct {
	Name    string    // as asked for, "" for [ReadFile]
	Origin  string    // file or env
	Path    string    // of the file
	Version string    // 8 hex digits; same content, same version, inside one process
	Warning string    // one sentence, "" if all is well
	ModTime time.Time // of the file
}

// Config of a Source. The zero value uses the process's environment and private
// files with one line of text.
type Config struct {
	// LookupEnv and Unsetenv reach the environment. nil = those of os.
	LookupEnv func(string) (string, bool)
	Unsetenv  func(string) error
	// Files maps a name to an absolute path that is used if the file exists.
	Files map[string]string
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
	for name, path := range cfg.Files {
		if !wellNamed(name) {
			faults = append(faults, named(fault("load", ErrFormat, "not the name of an environment variable"), name))
		}
		if err := cleanPath(path); err != nil {
			faults = append(faults, named(err, name))
		}
	}
	if cfg.Rules.MaxBytes < 0 {
		faults = append(faults, fault("load", ErrFormat, "Rules.MaxBytes is negative"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if cfg.LookupEnv == nil {
		cfg.LookupEnv = os.LookupEnv
	}
	if cfg.Unsetenv == nil {
		cfg.Unsetenv = os.Unsetenv
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &chain{cfg: cfg, env: map[string]Secret{}}, nil
}

// chain is the Source of NewSource.
type chain struct {
	cfg Config
	mu  sync.Mutex
	env map[string]Secret // taken from the environment, which forgot them
}

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
	log := c.cfg.Logger
	log.LogAttrs(ctx, slog.LevelInfo, "secret loaded", slog.String("name", name), slog.String("origin", m.Origin), slog.String("version", m.Version))
	if m.Path != "" {
		log.LogAttrs(ctx, slog.LevelDebug, "secret file", slog.String("name", name), slog.String("path", m.Path))
	}
	if m.Warning != "" && m.Origin == "file" {
		log.LogAttrs(ctx, slog.LevelWarn, m.Warning, slog.String("name", name), slog.String("path", m.Path))
	}
	return s, m, nil
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
		s, m, err := ReadFile(ctx, path, c.cfg.Rules)
		if errors.Is(err, ErrNotFound) {
			// Named but missing is broken, not absent: a caller must not go on without.
			e := fault("load", os.ErrNotExist, name+"_FILE names a file that does not exist")
			e.Path = path
			err = e
		}
		return s, m, err
	}
	if path, ok := c.cfg.Files[name]; ok {
		s, m, err := ReadFile(ctx, path, c.cfg.Rules)
		if !errors.Is(err, ErrNotFound) {
			return s, m, err
		}
	}
	return c.fromEnv(ctx, name, value, byValue)
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
