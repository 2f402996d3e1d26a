//go:build linux || darwin || freebsd

package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/audit"
)

func TestLocked(t *testing.T) { // AUD-18
	dir := t.TempDir() + "/log"
	l := mustOpen(t, config(dir))
	_, err := audit.Open(t.Context(), config(dir))
	if !errors.Is(err, audit.ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("second Open() = %v", err)
	}
	if strings.Contains(err.Error(), dir) {
		t.Errorf("error holds the path: %v", err)
	}
	mustClose(t, l)
	mustClose(t, mustOpen(t, config(dir)))
}

func TestUnsafePaths(t *testing.T) { // AUD-18
	name := time.Now().UTC().Format("2006-01-02") + ".audit"
	for what, spoil := range map[string]func(dir string) error{
		"open directory": func(dir string) error { return os.Chmod(dir, 0o755) },
		"open file":      func(dir string) error { return os.Chmod(filepath.Join(dir, name), 0o644) },
		"hard link":      func(dir string) error { return os.Link(filepath.Join(dir, name), filepath.Join(dir, "other")) },
		"symlink": func(dir string) error {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "real")); err != nil {
				return err
			}
			return os.Symlink("real", filepath.Join(dir, name))
		},
		"lock is a FIFO": func(dir string) error {
			if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
				return err
			}
			return syscall.Mkfifo(filepath.Join(dir, "lock"), 0o600)
		},
		"manifest open": func(dir string) error { return os.Chmod(filepath.Join(dir, "manifest.json"), 0o666) },
	} {
		dir := t.TempDir() + "/log"
		mustClose(t, mustOpen(t, config(dir)))
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		_, err := audit.Open(t.Context(), config(dir))
		if _, tampered := errors.AsType[*audit.TamperError](err); !errors.Is(err, audit.ErrUnsafePath) && !tampered {
			t.Errorf("%s: Open() = %v", what, err)
		}
	}
}

func TestModesOnDisk(t *testing.T) { // section 4.3
	dir := t.TempDir() + "/a/log"
	c := config(dir)
	c.RotateBytes = 64 << 10
	l := mustOpen(t, c)
	for range 50 {
		mustAppend(t, l, audit.Event{Data: note{List: []string{strings.Repeat("m", 256)}, Text: strings.Repeat("m", 1024)}})
	}
	mustClose(t, l)
	day := time.Now().UTC().Format("2006-01-02")
	for name, want := range map[string]os.FileMode{
		".": 0o700, "lock": 0o600, "manifest.json": 0o600,
		day + ".audit": 0o400, day + ".audit.sha256": 0o400, day + "-1.audit": 0o600,
	} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, fi, err, want)
		}
	}
}

func TestDescriptorsAfterClose(t *testing.T) { // section 6.9
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return len(list)
	}
	dir := t.TempDir() + "/log"
	mustClose(t, mustOpen(t, config(dir)))
	before := count()
	for range 5 {
		mustClose(t, mustOpen(t, config(dir)))
		if _, err := audit.Open(t.Context(), audit.Config{Dir: dir}); err == nil {
			t.Fatal("Open without a service")
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
