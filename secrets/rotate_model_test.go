//go:build unix

package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
	"pgregory.net/rapid"
)

// rotatingModel is a file whose fate rapid decides, and what must follow from it.
type rotatingModel struct {
	path    string
	volume  *secretstest.Volume // nil for a private file
	written []string            // whole contents, in order; the file had them all
	good    bool                // the file can be loaded now and holds the last of them
	stable  time.Duration       // since the file, or its mode, changed
	same    time.Duration       // since Current changed
	seen    string              // the last Current
	r       *secrets.Rotating
	every   time.Duration
	overlap time.Duration
}

func (m *rotatingModel) write(t *rapid.T, text string, whole bool) {
	var err error
	switch {
	case m.volume != nil:
		m.volume.Swap(map[string]string{"token": text})
	case rapid.Bool().Draw(t, "in place"):
		if fi, statErr := os.Lstat(m.path); statErr == nil && fi.Mode()&os.ModeSymlink != 0 {
			err = os.Remove(m.path)
		}
		err = errors.Join(err, os.WriteFile(m.path, []byte(text), 0o600), os.Chmod(m.path, 0o600))
	default:
		err = errors.Join(os.WriteFile(m.path+".new", []byte(text), 0o600), os.Rename(m.path+".new", m.path))
	}
	if err != nil {
		t.Fatal(err)
	}
	m.good, m.stable = whole, 0
	if whole {
		m.written = append(m.written, text)
	}
}

func (m *rotatingModel) next() string { return fmt.Sprintf("value %d", len(m.written)) }

func (m *rotatingModel) spoil(t *rapid.T) {
	kinds := []string{"empty", "no line", "mode", "gone"}
	if m.volume == nil {
		kinds = append(kinds, "link", "open")
	}
	var err error
	switch kind := rapid.SampledFrom(kinds).Draw(t, "how"); kind {
	case "empty":
		m.write(t, "", false)
	case "no line":
		m.write(t, m.next()+"\nand more", false)
	case "mode":
		if _, statErr := os.Stat(m.path); statErr == nil {
			err = os.Chmod(m.path, 0o666)
		}
	default:
		if m.volume != nil {
			m.volume.Swap(nil)
			break
		}
		err = os.RemoveAll(m.path)
		if kind == "link" {
			err = errors.Join(err, os.Symlink("other", m.path))
		}
		if kind == "open" {
			err = errors.Join(err, os.WriteFile(m.path, []byte(m.next()), 0o600), os.Chmod(m.path, 0o604))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	m.good, m.stable = false, 0
}

// check holds the invariants. 1 Current is always some whole former content, and
// never goes back to an older one. 2 Within 1.1 × Every it is the file's content if
// that can be loaded, and else Err is set. 3 Previous is whole, another one, and
// gone after Overlap. 4 What is handed out can be used.
func (m *rotatingModel) check(t *rapid.T) {
	got := current(m.r)
	if slices.Index(m.written, got) < slices.Index(m.written, m.seen) {
		t.Fatalf("Current = %q after %q", got, m.seen)
	}
	if got != m.seen {
		m.seen, m.same = got, 0
	}
	last := m.written[len(m.written)-1]
	if seen := m.stable > m.every*11/10; seen && m.good && (got != last || m.r.Err() != nil) {
		t.Fatalf("Current = %q, Err = %v; the file holds %q for %v", got, m.r.Err(), last, m.stable)
	} else if seen && !m.good && m.r.Err() == nil {
		t.Fatalf("Err = nil; the file is broken for %v", m.stable)
	}
	p, _, ok := m.r.Previous()
	b, err := content(p)
	if ok && (err != nil || !slices.Contains(m.written, string(b)) || string(b) == got || m.same > m.overlap) {
		t.Fatalf("Previous = %q, %v; Current = %q for %v", b, err, got, m.same)
	}
}

// SCR-26, SCR-27, SCR-28: a Rotating over a private file or a mounted volume that is
// written, swapped, deleted and spoilt while time passes.
func TestRotatingModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		var volume *secretstest.Volume
		if rapid.Bool().Draw(rt, "mounted") {
			volume = secretstest.Projected(t, nil)
			dir = volume.Dir
		}
		rapid.SyncTest(rt, func(rt *rapid.T) {
			m := &rotatingModel{path: filepath.Join(dir, "token"), volume: volume, seen: "value 0"}
			m.every = time.Duration(rapid.IntRange(1, 100).Draw(rt, "every")) * 100 * time.Millisecond
			m.overlap = time.Duration(rapid.IntRange(1, 60).Draw(rt, "overlap")) * time.Second
			m.write(rt, m.next(), true)
			src, _ := source(t, map[string]string{"TOKEN_FILE": m.path}, secrets.Config{})
			var err error
			if m.r, err = secrets.NewRotating(rt.Context(), src, "TOKEN", secrets.RotateConfig{Every: m.every, Overlap: m.overlap}); err != nil {
				rt.Fatal(err)
			}
			ctx, cancel := context.WithCancel(rt.Context())
			done := make(chan error, 1)
			go func() { done <- m.r.Run(ctx) }()
			defer func() {
				cancel()
				<-done
			}()
			rt.Repeat(map[string]func(*rapid.T){
				"":      m.check,
				"write": func(t *rapid.T) { m.write(t, m.next(), true) },
				"spoil": m.spoil,
				"touch": func(t *rapid.T) { // another file or time, the same content
					if m.good {
						m.write(t, m.written[len(m.written)-1], true)
						m.written = m.written[:len(m.written)-1]
					}
				},
				"wait": func(t *rapid.T) {
					d := m.every * time.Duration(rapid.IntRange(1, 30).Draw(t, "tenths")) / 10
					time.Sleep(d)
					synctest.Wait()
					m.stable += d
					m.same += d
				},
				"check": func(t *rapid.T) {
					if err := m.r.Check(ctx); (err == nil) != m.good {
						t.Fatalf("Check = %v, good %v", err, m.good)
					}
					m.stable += m.every * 2 // nothing more to wait for
				},
			})
		})
	})
}

// SCR-27: a file that is truncated by a writer that has not written yet is no
// empty secret: the last good value stays until the new one is there.
func TestTrap_ReloadToEmpty(t *testing.T) {
	path := put(t, "first\n")
	src, _ := source(t, map[string]string{"TOKEN_FILE": path}, secrets.Config{})
	r := rotating(t, src, secrets.RotateConfig{}, false)
	for _, text := range []string{"", "\n", "\r\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Check(t.Context()); !errors.Is(err, secrets.ErrFormat) || !errors.Is(r.Err(), secrets.ErrFormat) || current(r) != "first" {
			t.Errorf("%q: Check = %v, Err = %v, Current = %q", text, err, r.Err(), current(r))
		}
	}
	if err := errors.Join(os.WriteFile(path, []byte("second\n"), 0o600), r.Check(t.Context())); err != nil || current(r) != "second" || r.Err() != nil {
		t.Errorf("%v, Current = %q", err, current(r))
	}
	if p, _, ok := r.Previous(); !ok || !p.Equal([]byte("first")) {
		t.Error("the first value is not the previous one")
	}
}

// generation is a long value that shows where it was torn.
func generation(i int) string { return strings.Repeat(fmt.Sprintf("%08d.", i), 1000) }

// generationOf returns i, or -1 if text is no whole generation.
func generationOf(text string) (i int) {
	if n, err := fmt.Sscanf(text, "%08d.", &i); n != 1 || err != nil || text != generation(i) {
		return -1
	}
	return i
}
