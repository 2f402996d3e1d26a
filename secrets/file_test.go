//go:build unix

package secrets_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
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

// SCR-10: a pass phrase that ends in a blank is refused, not shortened.
func TestTrap_TrimTooMuch(t *testing.T) {
	if _, _, err := secrets.ReadFile(t.Context(), put(t, "open sesame \n"), secrets.Rules{}); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("error %v", err)
	}
}

// SCR-10: a byte order mark from an editor surfaces instead of becoming part of a token.
func TestTrap_BOM(t *testing.T) {
	_, _, err := secrets.ReadFile(t.Context(), put(t, "\ufefftoken\n"), secrets.Rules{})
	if err == nil || !strings.Contains(err.Error(), "byte order mark") {
		t.Errorf("error %v", err)
	}
}

// SCR-7: the form of a path, and what is there.
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
	for _, root := range []string{"relative", top + "/.", top + "/"} {
		if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{Root: root}); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("root %q: %v", root, err)
		}
	}
	elsewhere := t.TempDir()
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{Root: elsewhere}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("outside: %v", err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(elsewhere, "link")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), filepath.Join(elsewhere, "link", "secret"), secrets.Rules{Root: elsewhere}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("a link led outside: %v", err)
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
	for n, want := range map[int64]error{-1: secrets.ErrFormat, 64 << 20: nil, 64<<20 + 1: secrets.ErrFormat, 1 << 62: secrets.ErrFormat} {
		if _, _, err := secrets.ReadFile(t.Context(), put(t, "1"), secrets.Rules{MaxBytes: n}); !errors.Is(err, want) {
			t.Errorf("MaxBytes %d: %v", n, err)
		}
	}
	if _, _, err := secrets.ReadFile(t.Context(), put(t, strings.Repeat("a", 1<<20)), secrets.Rules{}); err != nil {
		t.Error(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), put(t, strings.Repeat("a", 1<<20+1)), secrets.Rules{}); !errors.Is(err, secrets.ErrFormat) {
		t.Error(err)
	}
}

// SCR-7: files of /proc say size 0 and have no end.
func TestTrap_ProcFile(t *testing.T) {
	const path = "/proc/self/environ"
	if _, err := os.Stat(path); err != nil {
		t.Skip(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{Binary: true}); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("error %v", err)
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

// SCR-7, SCR-9: whoever swaps the file between the steps of a read gets an error
// or the content of a file that was judged: judged and read is one descriptor, and
// what took its place is judged for itself.
func TestTrap_StatThenRead(t *testing.T) {
	for name, c := range map[string]struct {
		swap   func(path, evil string) error
		want   error
		reason string
	}{
		"link": {func(path, evil string) error {
			return errors.Join(os.Remove(path), os.Symlink(filepath.Base(evil), path))
		}, secrets.ErrPermission, "symbolic link"},
		"hard link": {func(path, evil string) error {
			return errors.Join(os.Chmod(evil, 0o600), os.Remove(path), os.Link(evil, path))
		}, secrets.ErrPermission, "several hard links"},
		"rename": {func(path, evil string) error { return os.Rename(evil, path) }, secrets.ErrPermission, "chmod 600"},
		"FIFO":   {func(path, _ string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, secrets.ErrFormat, "FIFO"},
	} {
		for _, step := range []string{"found", "judged"} {
			dir := secretstest.Dir(t, map[string]string{"secret": "GOOD", "evil": "EVIL"})
			path, evil := filepath.Join(dir, "secret"), filepath.Join(dir, "evil")
			if err := os.Chmod(evil, 0o604); err != nil {
				t.Fatal(err)
			}
			swapped := false
			s, _, err := secrets.ReadFileOn(t.Context(), secrets.Site{Step: func(at string) {
				if at == step && !swapped {
					swapped = true
					if err := c.swap(path, evil); err != nil {
						t.Error(err)
					}
				}
			}}, path, secrets.Rules{})
			e, _ := errors.AsType[*secrets.Error](err)
			switch {
			case !swapped:
				t.Errorf("there is no step %s", step)
			case step == "judged" && (err != nil || !s.Equal([]byte("GOOD"))):
				t.Errorf("%s after the file was %s: %v", name, step, err)
			case step == "found" && (e == nil || !errors.Is(err, c.want) || !strings.Contains(e.Reason, c.reason) || !s.IsZero()):
				t.Errorf("%s after the file was %s: %v", name, step, err)
			}
		}
	}
}

// SCR-7, SCR-26: a file that is replaced by renaming while it is opened or read is
// no fault; one that is replaced again and again is, in the end.
func TestReplacedByRenaming(t *testing.T) {
	for step, want := range map[string]string{"found": "new", "opened": "old"} {
		for times, ok := range map[int]bool{1: true, 15: true, 1000: step == "opened"} {
			path := put(t, "old")
			left := times
			s, _, err := secrets.ReadFileOn(t.Context(), secrets.Site{Step: func(at string) {
				if at == step && left > 0 {
					left--
					if err := errors.Join(os.WriteFile(path+".new", []byte("new"), 0o600), os.Rename(path+".new", path)); err != nil {
						t.Error(err)
					}
				}
			}}, path, secrets.Rules{})
			if ok != s.Equal([]byte(want)) || !ok && !errors.Is(err, secrets.ErrPermission) || left == times {
				t.Errorf("replaced %d times after it was %s: %v", times-left, step, err)
			}
		}
	}
}

// SCR-7: a file that changes between fstat and the last byte is refused, whether
// it grows, shrinks, is emptied or gets other bytes of the same number.
func TestTrap_GrowingFile(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"grows":       func(path string) error { return appendTo(path, "more") },
		"shrinks":     func(path string) error { return os.Truncate(path, 3) },
		"is emptied":  func(path string) error { return os.Truncate(path, 0) },
		"is replaced": func(path string) error { return os.WriteFile(path, []byte("other bytes"), 0o600) },
	} {
		path := put(t, "some secret")
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		s, _, err := secrets.ReadFileOn(t.Context(), secrets.Site{Step: func(at string) {
			if at == "judged" {
				if err := change(path); err != nil {
					t.Error(err)
				}
			}
		}}, path, secrets.Rules{})
		e, _ := errors.AsType[*secrets.Error](err)
		if e == nil || !errors.Is(err, secrets.ErrFormat) || e.Reason != "it changed while it was read" || !s.IsZero() {
			t.Errorf("a file that %s: %v", name, err)
		}
	}
}

// SCR-7: the buffer of a read is wiped on every exit, and is not what is lent.
func TestBufferIsWiped(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		rules secrets.Rules
		grow  bool
		ok    bool
	}{
		"line": {canary + "\n", secrets.Rules{}, false, true}, "binary": {canary, secrets.Rules{Binary: true}, false, true},
		"malformed": {canary + " \n", secrets.Rules{}, false, false}, "changed": {canary, secrets.Rules{}, true, false},
	} {
		path := put(t, c.text)
		var buffer []byte
		s, _, err := secrets.ReadFileOn(t.Context(), secrets.Site{Seen: func(b []byte) {
			buffer = b
			if c.grow {
				if err := appendTo(path, canary); err != nil {
					t.Error(err)
				}
			}
		}}, path, c.rules)
		if (err == nil) != c.ok || c.ok && !s.Equal([]byte(canary)) || len(buffer) != len(c.text)+1 || !bytes.Equal(buffer, make([]byte, len(buffer))) {
			t.Errorf("%s: the buffer holds %q, %v", name, buffer, err)
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Each fault of a file has its own class and words, names the path, and ends the
// read at once. SCR-7, SCR-8, SCR-9.
func TestFileFaults(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"good": canary, "open": canary, "empty": "", "long": canary + canary, "linked": canary})
	at := func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	outside := put(t, canary)
	volume := secretstest.Projected(t, map[string]string{"good": canary})
	err = errors.Join(syscall.Mkfifo(at("fifo"), 0o600), os.Mkdir(at("directory"), 0o700), os.Symlink(at("good"), at("link")), os.Chmod(at("open"), 0o604),
		os.Link(at("linked"), at("link2")), os.Symlink(outside, volume.Path("outside")))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, c := range map[string]struct {
		path   string
		class  error
		reason string
	}{
		"a FIFO":               {at("fifo"), secrets.ErrFormat, "FIFO"},
		"a directory":          {at("directory"), secrets.ErrFormat, "directory"},
		"a socket":             {at("socket"), secrets.ErrFormat, "regular file"},
		"a link":               {at("link"), secrets.ErrPermission, "symbolic link"},
		"a link outside":       {volume.Path("outside"), secrets.ErrPermission, "escapes"},
		"open to others":       {at("open"), secrets.ErrPermission, "chmod 600"},
		"linked twice":         {at("linked"), secrets.ErrPermission, "hard links"},
		"empty":                {at("empty"), secrets.ErrFormat, "empty"},
		"too long":             {at("long"), secrets.ErrFormat, "longer than 24 bytes"},
		"missing":              {at("missing"), secrets.ErrNotFound, "no such file"},
		"beneath no directory": {at("good/x"), secrets.ErrPermission, "not a directory"},
	} {
		s, _, err := secrets.ReadFile(t.Context(), c.path, secrets.Rules{MaxBytes: 24})
		e, ok := errors.AsType[*secrets.Error](err)
		if !ok || !errors.Is(err, c.class) || e.Path != c.path || !strings.Contains(e.Reason, c.reason) || !s.IsZero() || leaks(err.Error()) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if other := seen[e.Reason]; other != "" {
			t.Errorf("%s and %s read the same: %s", name, other, e.Reason)
		}
		seen[e.Reason] = name
	}
}

// SCR-7: a FIFO with nobody at its other end blocks neither open nor read, not
// even one that takes the place of a good file in between.
func TestTrap_FIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := secrets.ReadFile(t.Context(), path, secrets.Rules{}); !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("error %v", err)
	}
}

// TestTrap_FIFODirectory: a FIFO in the place of a directory, or of a volume's
// generation, blocks nobody (SCR-7).
func TestTrap_FIFODirectory(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skip(err)
	}
	volume := filepath.Join(dir, "volume")
	if err := errors.Join(os.Mkdir(volume, 0o700), os.Symlink("../fifo", filepath.Join(volume, "..data")), os.Symlink("..data/token", filepath.Join(volume, "token"))); err != nil {
		t.Fatal(err)
	}
	for path, rules := range map[string]secrets.Rules{
		filepath.Join(fifo, "token"):   {},
		filepath.Join(fifo, "a/token"): {Root: fifo},
		filepath.Join(volume, "token"): {Root: dir},
	} {
		if _, _, err := secrets.ReadFile(t.Context(), path, rules); err == nil || errors.Is(err, secrets.ErrNotFound) {
			t.Errorf("ReadFile(%s) = %v, want an error that is not absence", path, err)
		}
	}
}
