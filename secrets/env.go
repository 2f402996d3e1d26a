package secrets

import "strings"

const envWarning = "the secret came from the environment, where /proc and child processes can see it; use a file"

// fromEnv takes the secret itself from the environment, once: the variable is
// unset and the value kept for later loads.
func (c *chain) fromEnv(name, value string, set bool) (Secret, Meta, error) {
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
	defer clear(b)
	text, reason := c.cfg.Rules.content(b)
	if reason != "" {
		return Secret{}, Meta{}, fault("load", ErrFormat, reason)
	}
	s := New(text)
	if err := c.cfg.Unsetenv(name); err != nil {
		s.Destroy()
		return Secret{}, Meta{}, fault("load", err, "the variable could not be unset")
	}
	c.env[name].Destroy()
	c.env[name] = s
	return s.clone(), m, nil
}

// wellNamed reports whether s can be the name of a secret and of a variable.
func wellNamed(s string) bool {
	return s != "" && len(s) <= 128 && !madeOf(s[:1], digits) && madeOf(s, letters+digits+"_")
}

const (
	digits  = "0123456789"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// madeOf reports whether s holds no other characters than those of alphabet.
func madeOf(s, alphabet string) bool { return strings.Trim(s, alphabet) == "" }
