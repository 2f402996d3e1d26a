//go:build unix

package handoff_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	. "github.com/llorch/llorch/poolcore/handoff"
)

// TestUntrustedFilesAreRefused (PCO-51): links, FIFOs, directories, files of other
// users and files of more than 64 KiB do not exist as handoffs, and hang nobody.
func TestUntrustedFilesAreRefused(t *testing.T) {
	good := edit(t, map[string]any{"pool_id": "p", "replica_id": "r0", "engine_version": "1"})
	other := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(other, good, 0o600); err != nil {
		t.Fatal(err)
	}
	plant := map[string]func(path string) error{
		"symlink":   func(p string) error { return os.Symlink(other, p) },
		"dangling":  func(p string) error { return os.Symlink("/nowhere", p) },
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"oversize":  func(p string) error { return os.WriteFile(p, append(good, make([]byte, MaxBytes)...), 0o600) },
		"foreign owner": func(p string) error {
			return errors.Join(os.WriteFile(p, good, 0o644), os.Chown(p, 65534, 65534))
		},
	}
	for name, make := range plant {
		t.Run(name, func(t *testing.T) {
			if name == "foreign owner" && os.Geteuid() != 0 {
				t.Skip("SKIPPED: giving a file to somebody else needs root")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "x.json")
			synctest.Test(t, func(t *testing.T) {
				w := watch(t.Context(), WatchConfig{Dir: dir})
				defer w.stop()
				raw(t, dir, "x.json", good, 1)
				w.expect(t, 1, "bound x.json 1")
				_ = os.Remove(path)
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				w.expect(t, 4, "rejected x.json HANDOFF_REFUSED", "unbound x.json")
				_ = os.RemoveAll(path)
				raw(t, dir, "x.json", good, 1)
				w.expect(t, 1, "bound x.json 1")
			})
		})
	}
}
