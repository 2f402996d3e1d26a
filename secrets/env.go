package secrets

import (
	"context"
	"log/slog"
)

const envWarning = "the secret came from the environment, where /proc and child processes can see it; use a file"

// fromEnv takes the secret itself from the environment, once: the variable is
// unset and the value kept for later loads.
func (c *chain) fromEnv(ctx context.Context, name, value string, set bool) (Secret, Meta, error) {
	m := Meta{Origin: "env", Warning: envWarning}
	if c.cfg.NoEnv {
		return Secret{}, Meta{}, fault("load", ErrNotFound, "not found in a file; the environment is not asked")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !set {
		if s, ok := c.env[name]; ok {
			return s.clone(), m, nil
		}
		return Secret{}, Meta{}, fault("load", ErrNotFound, "set "+name+"_FILE")
	}
	b := []byte(value)
	if !c.cfg.Rules.Binary {
		line, reason := oneLine(b)
		if reason != "" {
			clear(b)
			return Secret{}, Meta{}, fault("load", ErrFormat, reason)
		}
		b = line
	}
	if len(b) == 0 {
		return Secret{}, Meta{}, fault("load", ErrFormat, "it is empty")
	}
	s := New(b)
	if err := c.cfg.Unsetenv(name); err != nil {
		s.Destroy()
		return Secret{}, Meta{}, fault("load", err, "the variable could not be unset")
	}
	if old, ok := c.env[name]; ok {
		old.Destroy()
	} else {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, envWarning, slog.String("name", name))
	}
	c.env[name] = s
	return s.clone(), m, nil
}

// wellNamed reports whether s can be the name of a secret and of a variable.
func wellNamed(s string) bool {
	if s == "" || len(s) > 128 || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
