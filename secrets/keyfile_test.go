package secrets_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/llorch/llorch/secrets"
)

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestEnsureKeyFile(t *testing.T) {
	dir := t.TempDir()
	root := openRoot(t, dir)
	k, created, err := secrets.EnsureKeyFile(root, "data.key")
	if err != nil || !created {
		t.Fatal(created, err)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "data.key"))
	fi, _ := os.Stat(filepath.Join(dir, "data.key"))
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).Match(text) || fi.Mode().Perm() != 0o600 || string(text[:64]) != keyHex(t, k) {
		t.Errorf("%d bytes, mode %v", len(text), fi.Mode())
	}
	again, created, err := secrets.EnsureKeyFile(root, "data.key")
	if err != nil || created || keyHex(t, again) != keyHex(t, k) {
		t.Errorf("second call: created %v, %v", created, err)
	}
}

// What is there is never replaced, however bad it is.
func TestEnsureKeyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	root := openRoot(t, dir)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want error
	}{
		"empty":  {"", 0o600, secrets.ErrFormat},
		"broken": {"not a key", 0o600, secrets.ErrFormat},
		"long":   {strings.Repeat("a", 2000), 0o600, secrets.ErrFormat},
		"open":   {strings.Repeat("01", 32), 0o644, secrets.ErrPermission},
		"weak":   {strings.Repeat("11", 32), 0o600, secrets.ErrWeakKey},
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(c.text), c.mode), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		if _, created, err := secrets.EnsureKeyFile(root, name); !errors.Is(err, c.want) || created {
			t.Errorf("%s: created %v, %v", name, created, err)
		}
		if text, _ := os.ReadFile(path); string(text) != c.text {
			t.Errorf("%s was changed", name)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a\x00"} {
		if _, _, err := secrets.EnsureKeyFile(root, name); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// A crash before any step leaves no key file or a whole one, and the next call
// succeeds.
func TestEnsureKeyFileCrash(t *testing.T) {
	steps := []string{"create", "write", "sync file", "rename", "sync directory"}
	for _, at := range steps {
		dir := t.TempDir()
		root := openRoot(t, dir)
		crashed := func() (crashed bool) {
			defer func() { crashed = recover() != nil }()
			_, _, err := secrets.EnsureKeyFileSteps(root, "data.key", func(step string) {
				if step == at {
					panic("crash")
				}
			})
			t.Errorf("no step %q: %v", at, err)
			return
		}()
		text, err := os.ReadFile(filepath.Join(dir, "data.key"))
		if whole := len(text) == 65; !crashed || !whole && !errors.Is(err, os.ErrNotExist) || whole != (at == "sync directory") {
			t.Errorf("crash before %q: %d bytes, %v", at, len(text), err)
		}
		k, created, err := secrets.EnsureKeyFile(root, "data.key")
		if err != nil || created == (at == "sync directory") || len(text) > 0 && string(text[:64]) != keyHex(t, k) {
			t.Errorf("after a crash before %q: created %v, %v", at, created, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("after a crash before %q: %v", at, left)
		}
	}
}

// Racers with handles of their own, as processes have, agree on one key.
func TestEnsureKeyFileConcurrentSafe(t *testing.T) {
	dir := t.TempDir()
	keys, made := make([]secrets.Key, 8), make([]bool, 8)
	var wg sync.WaitGroup
	for i := range keys {
		root := openRoot(t, dir)
		wg.Go(func() {
			var err error
			if keys[i], made[i], err = secrets.EnsureKeyFile(root, "data.key"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created := 0
	for i, k := range keys {
		if made[i] {
			created++
		}
		if keyHex(t, k) != keyHex(t, keys[0]) {
			t.Error("two keys")
		}
	}
	if created != 1 {
		t.Errorf("created %d times", created)
	}
}
