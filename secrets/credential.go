package secrets

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// fromCredential reads the file that the service manager made for name.
func (c *chain) fromCredential(ctx context.Context, name string) (Secret, Meta, error) {
	dir, err := credentialsDir(c.site.lookup)
	if err != nil {
		return Secret{}, Meta{}, err
	}
	file, ok := c.cfg.Credentials[name]
	if !ok {
		file = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	rules := c.cfg.Rules
	rules.Root = "" // dir is the root, and file cannot lead out of it
	s, m, err := c.site.readFile(ctx, filepath.Join(dir, file), rules)
	if err != nil {
		return Secret{}, Meta{}, err
	}
	m.Origin = "credential"
	return s, m, nil
}

// credentialsDir returns the service manager's directory. Only if none is named
// the error is [ErrNotFound].
func credentialsDir(lookup func(string) (string, bool)) (string, error) {
	dir, ok := lookup("CREDENTIALS_DIRECTORY")
	if !ok {
		return "", fault("load", ErrNotFound, "the service manager passed no credentials")
	}
	if cleanPath(dir) != nil {
		return "", fault("load", ErrPermission, "$CREDENTIALS_DIRECTORY is not absolute and clean")
	}
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
		return "", fault("load", ErrPermission, "$CREDENTIALS_DIRECTORY is no directory, or a link").at(dir)
	}
	return dir, nil
}

// credentialNamed reports whether s can be the name of a credential.
func credentialNamed(s string) bool {
	return s != "" && len(s) <= 255 && s[0] != '.' && !strings.Contains(s, "..") && madeOf(s, letters+digits+"_.@:-")
}
