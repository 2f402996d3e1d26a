// Package durable opens the stores that outlive the process. It is apart from
// assemble so that programs without a database do not link one.
package durable

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
	"github.com/llorch/llorch/secrets"
)

// Open opens the store that a specification names: "memory" or "sqlite:PATH".
func Open(ctx context.Context, spec string, log *slog.Logger) (store.Store, error) {
	kind, path, _ := strings.Cut(spec, ":")
	switch {
	case spec == "memory":
		return store.NewMemory(), nil
	case kind == "sqlite" && path != "":
		return sqlite.Open(ctx, sqlite.Config{Path: path, Logger: log})
	}
	return nil, errors.New(`the store is neither "memory" nor "sqlite:PATH"`)
}

// SealKey reads the key that seals what tasks carry; it makes the file, mode
// 0600, if there is none.
func SealKey(path string) ([]byte, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	key, _, err := secrets.EnsureKeyFile(root, filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	var out []byte
	err = key.Use(func(b *[32]byte) error {
		out = append(out, b[:]...)
		return nil
	})
	return out, err
}
