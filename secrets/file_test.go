//go:build unix

package secrets_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/llorch/llorch/secrets"
)

// put writes a private file in a directory of its own and returns its path.
func put(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// SCR-8: all 4096 modes against a naive reading of the rule.
func TestModeMatrix(t *testing.T) {
	path := put(t, canary+"\n")
	root := os.Geteuid() == 0
	for bits := range 4096 {
		mode := fs.FileMode(bits & 0o777)
		for bit, m := range map[int]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if bits&bit != 0 {
				mode |= m
			}
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{})
		want := bits&0o077 == 0 && (root || bits&0o400 != 0)
		if (err == nil) != want || !want && !errors.Is(err, secrets.ErrPermission) {
			t.Fatalf("mode %04o: %v", bits, err)
		}
	}
}

// SCR-8: the directory, and the error that says what to do.
func TestDirectoryMode(t *testing.T) {
	path := put(t, canary)
	for mode, ok := range map[fs.FileMode]bool{0o700: true, 0o755: true, 0o775: false, 0o757: false, 0o777: false, 0o777 | fs.ModeSticky: true} {
		if err := os.Chmod(filepath.Dir(path), mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{})
		if (err == nil) != ok || !ok && !errors.Is(err, secrets.ErrPermission) {
			t.Errorf("directory %v: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{})
	e, ok := errors.AsType[*secrets.Error](err)
	if !ok || e.Mode != 0o640 || e.Path != path || !strings.Contains(e.Error(), "chmod 600") {
		t.Errorf("%#v", err)
	}
}

func TestForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	path := put(t, canary)
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	_, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{})
	if e, ok := errors.AsType[*secrets.Error](err); !ok || e.Owner != 12345 || !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(os.Chown(path, 0, -1), os.Chown(filepath.Dir(path), 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err = secrets.ReadFile(t.Context(), path, secrets.Rules{}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("foreign directory: %v", err)
	}
}

// SCR-10: what a line of text may be.
func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"a": "a", "a\n": "a", "a\r\n": "a", "pass phrase with blanks\n": "pass phrase with blanks", "pässwörd": "pässwörd",
		"": "", "\n": "", "\r\n": "", " a": "", "a ": "", "\ta": "", "a\n\n": "", "a\nb": "", "a\r": "", "a\x00b": "", "a\x7f": "", "a\u0085b": "",
		"\xff": "", "\ufeffa": "", "a\u00a0": "",
	} {
		s, _, err := secrets.ReadFile(t.Context(), put(t, text), secrets.Rules{})
		got, _ := content(s)
		if string(got) != want || (want == "") != errors.Is(err, secrets.ErrFormat) {
			t.Errorf("%q = %q, %v", text, got, err)
		}
	}
	s, _, err := secrets.ReadFile(t.Context(), put(t, " a\n\x00"), secrets.Rules{Binary: true})
	if got, _ := content(s); string(got) != " a\n\x00" || err != nil {
		t.Errorf("binary: %q, %v", got, err)
	}
}

// A pass phrase that ends in a blank is refused, not shortened.
func TestTrap_TrimTooMuch(t *testing.T) {
	if _, _, err := secrets.ReadFile(t.Context(), put(t, "open sesame \n"), secrets.Rules{}); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("error %v", err)
	}
}

// A byte order mark from an editor surfaces instead of becoming part of a token.
func TestTrap_BOM(t *testing.T) {
	_, _, err := secrets.ReadFile(t.Context(), put(t, "\ufefftoken\n"), secrets.Rules{})
	if err == nil || !strings.Contains(err.Error(), "byte order mark") {
		t.Errorf("error %v", err)
	}
}

// SCR-7: the form of a path.
func TestPaths(t *testing.T) {
	for _, path := range []string{"", "relative", "/a/../b", "/a/", "/a//b", "/", "/a\x00b", "./a"} {
		if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{}); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "missing"), filepath.Join(t.TempDir(), "no", "directory")} {
		if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{}); !errors.Is(err, secrets.ErrNotFound) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, _, err := secrets.ReadFile(t.Context(), t.TempDir(), secrets.Rules{}); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("a directory: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := secrets.ReadFile(ended, put(t, "a"), secrets.Rules{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// SCR-11: Rules.Root, also against a directory that is a link out of it.
func TestRulesRoot(t *testing.T) {
	path, outside := put(t, "inside"), put(t, "outside")
	top := filepath.Dir(filepath.Dir(path))
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{Root: top}); err != nil {
		t.Error(err)
	}
	elsewhere := t.TempDir()
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{Root: elsewhere}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("outside: %v", err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(elsewhere, "link")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), filepath.Join(elsewhere, "link", "secret"), secrets.Rules{Root: elsewhere}); err == nil {
		t.Error("a link led outside")
	}
}

// SCR-7: size limits.
func TestMaxBytes(t *testing.T) {
	if _, _, err := secrets.ReadFile(t.Context(), put(t, "12345"), secrets.Rules{MaxBytes: 5}); err != nil {
		t.Error(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), put(t, "123456"), secrets.Rules{MaxBytes: 5}); !errors.Is(err, secrets.ErrFormat) {
		t.Error(err)
	}
}

// A FIFO neither blocks nor loads.
func TestTrap_FIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{}); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("error %v", err)
	}
}

// Files of /proc say size 0 and have no end.
func TestTrap_ProcFile(t *testing.T) {
	const path = "/proc/self/environ"
	if _, err := os.Stat(path); err != nil {
		t.Skip(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{}); err == nil {
		t.Error("loaded")
	}
}

// SCR-9: a link in the last place, even to a good file, and a second hard link.
func TestTrap_HardLink(t *testing.T) {
	path := put(t, "a")
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), link, secrets.Rules{}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("symbolic link: %v", err)
	}
	if err := os.Link(path, path+".hard"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("hard link: %v", err)
	}
}

// A writer that swaps the file for a link between check and read gets an error or
// the good content, never the other file's: judged and read is one descriptor.
func TestTrap_StatThenRead(t *testing.T) {
	dir := t.TempDir()
	path, good, evil := filepath.Join(dir, "secret"), filepath.Join(dir, "good"), filepath.Join(dir, "evil")
	if err := os.WriteFile(evil, []byte("EVIL"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	swapping := make(chan struct{})
	go func() {
		defer close(swapping)
		for ctx.Err() == nil {
			_ = os.WriteFile(good, []byte("GOOD"), 0o600)
			_ = os.Rename(good, path)
			_ = os.Symlink(evil, good)
			_ = os.Rename(good, path)
		}
	}()
	loaded := 0
	for range 2000 {
		s, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{})
		if err != nil {
			continue
		}
		loaded++
		if !s.Equal([]byte("GOOD")) {
			t.Fatal("read a file that it did not judge")
		}
	}
	cancel()
	<-swapping
	t.Logf("%d of 2000 reads met the good file", loaded)
}

// A file that grows or shrinks during the read is refused or read as it was: the
// reader sees whole lines of one letter only.
func TestTrap_GrowingFile(t *testing.T) {
	path := put(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	growing := make(chan struct{})
	go func() {
		defer close(growing)
		for n := 1; ctx.Err() == nil; n = n%64 + 1 {
			_ = os.Truncate(path, 0)
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				continue
			}
			for range n {
				_, _ = f.WriteString("a")
			}
			_ = f.Close()
		}
	}()
	for range 2000 {
		s, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{})
		if err != nil {
			if !errors.Is(err, secrets.ErrFormat) {
				t.Fatal(err)
			}
			continue
		}
		if b, _ := content(s); len(b) == 0 || strings.Trim(string(b), "a") != "" {
			t.Fatalf("torn: %q", b)
		}
	}
	cancel()
	<-growing
}
