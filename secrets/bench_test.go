//go:build unix

package secrets_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/llorch/llorch/secrets"
)

func BenchmarkReadFile(b *testing.B) {
	path := filepath.Join(b.TempDir(), "secret")
	if err := os.WriteFile(path, make([]byte, 56), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("56B", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := secrets.ReadFile(b.Context(), path, secrets.Rules{Binary: true}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os.ReadFile", func(b *testing.B) {
		for b.Loop() {
			if _, err := os.ReadFile(path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
