//go:build unix

package secrets_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
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

// SCR-12: what EnsureKeyFile makes and reads again.
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

// SCR-12: what is there is never replaced, however bad it is; a key file has at most
// 1 KiB.
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
		"long":   {strings.Repeat("01", 32) + strings.Repeat(" ", 1<<10-63), 0o600, secrets.ErrFormat},
		"open":   {strings.Repeat("01", 32), 0o644, secrets.ErrPermission},
		"weak":   {strings.Repeat("11", 32), 0o600, secrets.ErrWeakKey},
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(c.text), c.mode), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		if _, created, err := secrets.EnsureKeyFile(root, name); !errors.Is(err, c.want) || created || name == "long" && !strings.Contains(err.Error(), "longer than 1024 bytes") {
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

// A step that fails, or a crash before it, leaves no key file or a whole one, and
// the next call succeeds. A key file that was linked but not yet synced is synced
// by whoever finds it.
func TestEnsureKeyFileCrash(t *testing.T) {
	failure := errors.New("disk full")
	for _, at := range []string{"create", "write", "sync file", "link", "remove", "sync directory"} {
		linked := at == "remove" || at == "sync directory"
		for _, crash := range []bool{true, false} {
			dir := t.TempDir()
			root := openRoot(t, dir)
			err := func() (err error) {
				defer func() {
					if r := recover(); r != nil {
						err = r.(error)
					}
				}()
				k, created, err := secrets.EnsureKeyFileSteps(root, "data.key", func(step string) error {
					switch {
					case step != at:
						return nil
					case crash:
						panic(failure)
					}
					return failure
				})
				if e, ok := errors.AsType[*secrets.Error](err); !ok || created || e.Path != "data.key" || k.Use(func(*[32]byte) error { return nil }) == nil {
					t.Errorf("%q failed: created %v, %v", at, created, err)
				}
				return err
			}()
			if !errors.Is(err, failure) {
				t.Errorf("no step %q: %v", at, err)
			}
			text, err := os.ReadFile(filepath.Join(dir, "data.key"))
			if whole := len(text) == 65; !whole && !errors.Is(err, os.ErrNotExist) || whole != linked {
				t.Errorf("%q failed: %d bytes, %v", at, len(text), err)
			}
			if left, _ := os.ReadDir(dir); !crash && len(left) > 1 || !crash && !linked && len(left) != 0 {
				t.Errorf("%q failed and left %v", at, left)
			}
			var steps []string
			k, created, err := secrets.EnsureKeyFileSteps(root, "data.key", func(step string) error { steps = append(steps, step); return nil })
			if err != nil || created == linked || len(text) > 0 && string(text[:64]) != keyHex(t, k) {
				t.Errorf("after %q failed: created %v, %v", at, created, err)
			}
			if !slices.Contains(steps, "sync directory") {
				t.Errorf("after %q failed only %q was done", at, steps)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("after %q failed: %v", at, left)
			}
		}
	}
	dir := secretstest.Dir(t, map[string]string{"data.key": strings.Repeat("01ab", 16)})
	if _, _, err := secrets.EnsureKeyFileSteps(openRoot(t, dir), "data.key", func(string) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("a key file that cannot be made durable: %v", err)
	}
}

// SCR-12: a key that appears while another is made is kept, as is what happens to
// lie beside it, and whatever a racer sweeps away.
func TestEnsureKeyFileReplacesNothing(t *testing.T) {
	const backup = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
	for _, at := range []string{"create", "write", "sync file", "link"} {
		dir := secretstest.Dir(t, map[string]string{".data.key.new": "a file of the user"})
		root := openRoot(t, dir)
		k, created, err := secrets.EnsureKeyFileSteps(root, "data.key", func(step string) error {
			if step != at {
				return nil
			}
			left, _ := filepath.Glob(filepath.Join(dir, ".data.key.?*.new"))
			for _, path := range left { // as one who was faster does
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
			}
			return os.WriteFile(filepath.Join(dir, "data.key"), []byte(backup), 0o600)
		})
		if err != nil || created || keyHex(t, k)+"\n" != backup {
			t.Errorf("a key that came before %q: created %v, %v", at, created, err)
		}
		text, _ := os.ReadFile(filepath.Join(dir, "data.key"))
		if left, _ := os.ReadDir(dir); string(text) != backup || len(left) != 2 {
			t.Errorf("a key that came before %q became %d bytes, beside %v", at, len(text), left)
		}
	}
}

// A key file that is not there yet, or is there, is no matter of who else holds the
// directory, or a file beside it, locked.
func TestEnsureKeyFileWaitsForNobody(t *testing.T) {
	dir := t.TempDir()
	root := openRoot(t, dir)
	handle, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	if err := syscall.Flock(int(handle.Fd()), syscall.LOCK_EX); err != nil {
		t.Skip(err)
	}
	for range 2 {
		done := make(chan error, 1)
		go func() {
			_, _, err := secrets.EnsureKeyFile(root, "data.key")
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it waits for a lock that somebody else holds")
		}
	}
}

// Two processes that race agree on one key.
func TestEnsureKeyFileProcesses(t *testing.T) {
	const inside = "LLORCH_SECRETS_KEYS"
	if dir := os.Getenv(inside); dir != "" {
		k, created, err := secrets.EnsureKeyFile(openRoot(t, dir), "data.key")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("key %s %v\n", keyHex(t, k), created)
		return
	}
	dir := t.TempDir()
	said := make([]string, 4)
	var wg sync.WaitGroup
	for i := range said {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEnsureKeyFileProcesses$")
			cmd.Env = append(os.Environ(), inside+"="+dir)
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			said[i], _, _ = strings.Cut(string(out), "\n")
		})
	}
	wg.Wait()
	created := 0
	for _, line := range said {
		key, made, _ := strings.Cut(strings.TrimPrefix(line, "key "), " ")
		if first, _, _ := strings.Cut(strings.TrimPrefix(said[0], "key "), " "); len(key) != 64 || key != first {
			t.Errorf("keys %q", said)
		}
		if made == "true" {
			created++
		}
	}
	if created != 1 {
		t.Errorf("created %d times: %q", created, said)
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
