//go:build unix

package secrets_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

// values is a Source that the test changes between loads.
type values struct {
	mu    sync.Mutex
	text  string
	err   error
	loads int
}

// set makes text, or err, the outcome of later loads.
func (v *values) set(text string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.text, v.err = text, err
}

func (v *values) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.loads
}

func (v *values) Load(context.Context, string) (secrets.Secret, secrets.Meta, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.loads++
	if v.err != nil {
		return secrets.Secret{}, secrets.Meta{}, v.err
	}
	return secretOf(v.text), secrets.Meta{Name: "TOKEN", Origin: "test", Version: v.text}, nil
}

// journal is a log that may be written and read at once.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// take returns what was written since the last call.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.b.Reset()
	return j.b.String()
}

// rotating returns a Rotating over src; if run, Run runs until the test ends.
func rotating(t *testing.T, src secrets.Source, cfg secrets.RotateConfig, run bool) *secrets.Rotating {
	t.Helper()
	r, err := secrets.NewRotating(t.Context(), src, "TOKEN", cfg)
	if err != nil {
		t.Fatal(err)
	}
	if run {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run = %v", err)
			}
		})
	}
	return r
}

func current(r *secrets.Rotating) string {
	s, _ := r.Current()
	b, _ := content(s)
	return string(b)
}

// SCR-26: a change is seen within 1.1 × Every, the loads are at least 0.9 × Every
// apart, and not all at one distance.
func TestRotationIsSeen(t *testing.T) {
	for _, every := range []time.Duration{0, 100 * time.Millisecond, 2 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			src := &values{text: "0"}
			r := rotating(t, src, secrets.RotateConfig{Every: every}, true)
			if every == 0 {
				every = 5 * time.Second // the default
			}
			gaps, last, loads := map[time.Duration]bool{}, time.Now(), src.count()
			step := every / 1000
			for i := range 60 {
				text := fmt.Sprint(i)
				src.set(text, nil)
				start := time.Now()
				for current(r) != text {
					time.Sleep(step)
					synctest.Wait()
					if waited := time.Since(start); waited > every*11/10+step {
						t.Fatalf("every %v: value %d not seen after %v", every, i, waited)
					}
				}
				if i > 0 {
					gap := time.Since(last)
					if gaps[gap] = true; gap < every*9/10 || src.count() != loads+1 {
						t.Fatalf("every %v: %d loads within %v", every, src.count()-loads, gap)
					}
				}
				last, loads = time.Now(), src.count()
			}
			if len(gaps) < 10 {
				t.Errorf("every %v: %d different distances of 59 loads", every, len(gaps))
			}
		})
	}
}

// SCR-26: contents are compared, not inode or time; each way to replace a file works.
func TestRotationByContent(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"token": "0"})
	path := filepath.Join(dir, "token")
	volume := secretstest.Projected(t, map[string]string{"token": "0"})
	old := time.Now().Add(-time.Hour)
	write := func(text string) error { return os.WriteFile(path, []byte(text), 0o600) }
	rename := func(text string) error {
		return errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
	}
	for _, c := range []struct {
		name, path string
		replace    func(text string) error
	}{
		{"in place", path, write},
		{"in place, at the same time", path, func(text string) error { return errors.Join(write(text), os.Chtimes(path, old, old)) }},
		{"rename", path, rename},
		{"link", volume.Path("token"), func(text string) error { volume.Swap(map[string]string{"token": text}); return nil }},
	} {
		src, _ := source(t, map[string]string{"TOKEN_FILE": c.path}, secrets.Config{})
		var changes int
		if err := c.replace("0"); err != nil {
			t.Fatal(err)
		}
		r := rotating(t, src, secrets.RotateConfig{}, false)
		for _, text := range []string{"1", "1", "2", "3", "1"} {
			before, m := r.Current()
			if err := errors.Join(c.replace(text), r.Check(t.Context())); err != nil {
				t.Fatal(err)
			}
			after, n := r.Current()
			same := before.EqualSecret(after)
			if !after.Equal([]byte(text)) || same != (m.Version == n.Version) {
				t.Errorf("%s: %+v, want %s", c.name, n, text)
			}
			if !same {
				changes++
			}
		}
		if changes != 4 {
			t.Errorf("%s: %d changes, want 4", c.name, changes)
		}
	}
}

// SCR-27: Previous lives for Overlap and is then destroyed, each value for its own.
func TestOverlap(t *testing.T) {
	for _, overlap := range []time.Duration{0, time.Millisecond, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			src := &values{text: "a"}
			r := rotating(t, src, secrets.RotateConfig{Overlap: overlap}, false)
			if overlap == 0 {
				overlap = time.Minute // the default
			}
			if _, _, ok := r.Previous(); ok {
				t.Error("there is a value before the first")
			}
			rotate := func(text string) {
				src.set(text, nil)
				if err := r.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			a, _ := r.Current()
			rotate("b")
			b, _ := r.Current()
			time.Sleep(overlap / 2)
			rotate("c")
			if p, m, ok := r.Previous(); !ok || !p.Equal([]byte("b")) || m.Version != "b" || !a.Equal([]byte("a")) {
				t.Errorf("Previous = %+v, %v", m, ok)
			}
			time.Sleep(overlap/2 - 1)
			synctest.Wait()
			if !a.Equal([]byte("a")) {
				t.Error("a was destroyed early")
			}
			time.Sleep(2 * time.Nanosecond)
			synctest.Wait()
			if err := a.Use(func([]byte) error { return nil }); !errors.Is(err, secrets.ErrDestroyed) {
				t.Errorf("a lives: %v", err)
			}
			if _, _, ok := r.Previous(); !ok || b.IsZero() {
				t.Error("b was destroyed early")
			}
			time.Sleep(overlap)
			synctest.Wait()
			if p, m, ok := r.Previous(); ok || !p.IsZero() || m != (secrets.Meta{}) || !b.IsZero() || current(r) != "c" {
				t.Errorf("Previous = %+v, %v; b lives: %v", m, ok, !b.IsZero())
			}
		})
	}
}

// SCR-27: what cannot be loaded, or is empty, leaves the last good value; it is
// told once and then every 10 minutes, each fault for itself, and so is its end.
func TestLastGoodValueStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		src := &values{text: "good"}
		r := rotating(t, src, secrets.RotateConfig{Every: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))}, true)
		logged := func(d time.Duration) (warned, told int, text string) {
			time.Sleep(d)
			synctest.Wait()
			text = log.take()
			return strings.Count(text, "level=WARN"), strings.Count(text, "level=INFO"), text
		}
		if w, i, text := logged(time.Hour); w+i != 0 || r.Err() != nil {
			t.Errorf("a good hour: %s", text)
		}
		broken := errors.New("broken")
		src.set("good", broken)
		if w, i, text := logged(25 * time.Minute); w != 3 || i != 0 || !strings.Contains(text, "error=broken") || !strings.Contains(text, "name=TOKEN") {
			t.Errorf("25 bad minutes: %s", text)
		}
		if !errors.Is(r.Err(), broken) || current(r) != "good" {
			t.Errorf("Err = %v, Current = %s", r.Err(), current(r))
		}
		src.set("", nil)
		if w, i, text := logged(4 * time.Minute); w != 1 || i != 0 || !errors.Is(r.Err(), secrets.ErrFormat) || current(r) != "good" {
			t.Errorf("an empty value: %v, %s", r.Err(), text)
		}
		src.set("good", broken) // told 9 minutes ago
		if w, i, text := logged(30 * time.Second); w != 0 || i != 0 {
			t.Errorf("a fault that was told: %s", text)
		}
		if _, _, ok := r.Previous(); ok {
			t.Error("a failed load counts as a change")
		}
		src.set("good", nil)
		if w, i, text := logged(10 * time.Second); w != 0 || i != 1 || r.Err() != nil || !strings.Contains(text, "again") {
			t.Errorf("recovery: %v, %s", r.Err(), text)
		}
		src.set("good", broken)
		if w, i, text := logged(10 * time.Second); w+i != 0 || r.Err() == nil {
			t.Errorf("broken again right after a recovery: %s", text)
		}
		src.set("good", nil)
		if w, i, text := logged(10 * time.Second); w+i != 0 || r.Err() != nil {
			t.Errorf("recovered from what was not told again: %s", text)
		}
		src.set("good", broken)
		if w, i, text := logged(10 * time.Minute); w != 1 || i != 0 {
			t.Errorf("broken for ten minutes more: %s", text)
		}
		src.set("better", nil)
		if _, i, text := logged(time.Minute); i != 2 || !strings.Contains(text, "rotated") || !strings.Contains(text, "version=better") || current(r) != "better" {
			t.Errorf("recovery with a change: %s", text)
		}
	})
}

// SCR-27: a source with ever new words for its faults does not flood the log.
func TestFaultsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		src := &values{text: "good"}
		r := rotating(t, src, secrets.RotateConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, false)
		for i := range 5000 {
			src.set("good", fmt.Errorf("fault %d", i))
			if err := r.Check(t.Context()); err == nil {
				t.Fatal("loaded")
			}
		}
		if n := strings.Count(log.String(), "level=WARN"); n < 2 || n > 100 {
			t.Errorf("%d warnings of 5000 faults", n)
		}
	})
}

// SCR-27: a source that comes and goes does not flood the log either.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		n := 0
		src := sourceFunc(func() (secrets.Secret, secrets.Meta, error) {
			if n++; n%2 == 0 {
				return secrets.Secret{}, secrets.Meta{}, errors.New("down")
			}
			return secretOf("a"), secrets.Meta{}, nil
		})
		rotating(t, src, secrets.RotateConfig{Every: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}, true)
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		text := log.take()
		if w, i := strings.Count(text, "level=WARN"), strings.Count(text, "level=INFO"); w != 7 || i != 7 {
			t.Errorf("%d warnings and %d recoveries in an hour", w, i)
		}
	})
}

// SCR-27: a load that hangs ends with its context, is seen in Err and in the log, and
// the next one follows.
func TestLoadThatHangs(t *testing.T) {
	for _, every := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var log journal
			src := &hanging{}
			r := rotating(t, src, secrets.RotateConfig{Every: every, Logger: slog.New(slog.NewTextHandler(&log, nil))}, true)
			src.hangs.Store(true)
			time.Sleep(every*11/10 + max(every, 10*time.Second))
			synctest.Wait()
			if err := r.Err(); !errors.Is(err, context.DeadlineExceeded) || strings.Count(log.take(), "level=WARN") != 1 {
				t.Errorf("every %v: Err = %v", every, err)
			}
			src.hangs.Store(false)
			time.Sleep(2*every + 10*time.Second)
			synctest.Wait()
			if err := r.Err(); err != nil {
				t.Errorf("every %v: Err = %v", every, err)
			}
		})
	}
}

// hanging is a Source that waits for the end of its contexts.
type hanging struct{ hangs atomic.Bool }

func (h *hanging) Load(ctx context.Context, _ string) (secrets.Secret, secrets.Meta, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return secrets.Secret{}, secrets.Meta{}, ctx.Err()
	}
	return secretOf("a"), secrets.Meta{}, nil
}

// SCR-15, SCR-27: what a later place holds replaces nothing.
func TestLaterPlace(t *testing.T) {
	creds := secretstest.Dir(t, map[string]string{"token": "from the manager"})
	path := put(t, "from the file")
	env := map[string]string{"TOKEN": "from the environment", "CREDENTIALS_DIRECTORY": creds}
	src, _ := source(t, env, secrets.Config{Files: map[string]string{"TOKEN": path}})
	r := rotating(t, src, secrets.RotateConfig{}, false)
	stays := func(origin, text string) {
		t.Helper()
		for range 2 {
			err := r.Check(t.Context())
			if _, m := r.Current(); err == nil || r.Err() == nil || !strings.Contains(err.Error(), "(TOKEN)") || m.Origin != origin || current(r) != text {
				t.Errorf("Current = %q from %s, %v", current(r), m.Origin, err)
			}
		}
		if _, _, ok := r.Previous(); ok {
			t.Error("it counts as a change")
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	stays("file", "from the file")
	if err := os.Remove(filepath.Join(creds, "token")); err != nil {
		t.Fatal(err)
	}
	stays("file", "from the file")
	if err := errors.Join(os.WriteFile(path, []byte("again"), 0o600), r.Check(t.Context())); err != nil || current(r) != "again" {
		t.Errorf("an earlier place: %q, %v", current(r), err)
	}
	// The same way from the manager down, and back up.
	if err := errors.Join(os.WriteFile(filepath.Join(creds, "token"), []byte("from the manager"), 0o600), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	r = rotating(t, src, secrets.RotateConfig{}, false)
	if err := os.Remove(filepath.Join(creds, "token")); err != nil {
		t.Fatal(err)
	}
	stays("credential", "from the manager")
	if err := errors.Join(os.WriteFile(path, []byte("file"), 0o600), r.Check(t.Context())); err != nil || current(r) != "file" {
		t.Errorf("an earlier place: %q, %v", current(r), err)
	}
}
