//go:build unix

package secrets_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

// SCR-27: OnChange runs on the goroutine of Run, alone, with the Metas of the
// change; what changed without Run, or during OnChange, is told as one.
func TestOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &values{text: "a"}
		var told []string
		var r *secrets.Rotating
		busy := false
		r = rotating(t, src, secrets.RotateConfig{Every: time.Second, OnChange: func(old, now secrets.Meta) {
			if old.Version == now.Version {
				t.Error("told of no change")
			}
			if busy {
				t.Error("OnChange runs twice at once")
			}
			busy = true
			told = append(told, old.Version+now.Version)
			if now.Version == "e" { // two more while it runs, by Check
				for _, text := range []string{"f", "g"} {
					src.set(text, nil)
					if err := r.Check(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
			busy = false
		}}, false)
		for _, text := range []string{"b", "a", "b", "c"} {
			src.set(text, nil)
			if err := r.Check(t.Context()); err != nil || len(told) != 0 {
				t.Fatalf("told %v without Run, %v", told, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for _, text := range []string{"d", "e"} {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			src.set(text, nil)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		for _, text := range []string{"x", "g"} { // there and back again, without Run
			src.set(text, nil)
			if err := r.Check(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- r.Run(ctx) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := strings.Join(told, " "); got != "ac cd de eg" {
			t.Errorf("told %s", got)
		}
		if err := r.Run(ctx); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("a second Run: %v", err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		src.set("h", nil)
		time.Sleep(time.Hour)
		if current(r) != "g" {
			t.Error("polls after Run")
		}
	})
}

// SCR-27, SCR-28: Check reloads at once; ended contexts say nothing about the
// secret.
func TestCheck(t *testing.T) {
	src := &values{text: "a"}
	r := rotating(t, src, secrets.RotateConfig{Every: time.Hour}, false)
	src.set("b", nil)
	if err := r.Check(t.Context()); err != nil || current(r) != "b" {
		t.Errorf("Check: %v, Current %s", err, current(r))
	}
	broken := errors.New("broken")
	src.set("b", broken)
	if err := r.Check(t.Context()); !errors.Is(err, broken) || !errors.Is(r.Err(), broken) {
		t.Errorf("Check = %v, Err = %v", err, r.Err())
	}
	src.set("b", nil)
	if err := r.Check(t.Context()); err != nil || r.Err() != nil {
		t.Errorf("Check = %v, Err = %v", err, r.Err())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	real, _ := source(t, map[string]string{"TOKEN_FILE": put(t, "x")}, secrets.Config{})
	r = rotating(t, real, secrets.RotateConfig{}, false)
	why := errors.New("the reason")
	caused, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(why)
	for range 100 { // whichever of its two selects it takes
		if err := r.Check(ended); !errors.Is(err, context.Canceled) || r.Err() != nil {
			t.Errorf("Check = %v, Err = %v", err, r.Err())
		}
		if err := r.Check(caused); !errors.Is(err, why) || r.Err() != nil {
			t.Errorf("Check = %v, Err = %v", err, r.Err())
		}
	}
}

// A load that is under way when another begins cannot put an older value back, and
// who waits for it can give up.
func TestLoadsAreOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan string)
		src := sourceFunc(func() (secrets.Secret, secrets.Meta, error) { return secretOf(<-gate), secrets.Meta{}, nil })
		go func() { gate <- "a" }()
		r := rotating(t, src, secrets.RotateConfig{}, false)
		done := make(chan error, 2)
		for range 2 {
			go func() { done <- r.Check(t.Context()) }()
		}
		synctest.Wait()
		gaveUp, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Check(gaveUp); !errors.Is(err, context.DeadlineExceeded) || r.Err() != nil {
			t.Errorf("Check = %v, Err = %v", err, r.Err())
		}
		gate <- "b"
		synctest.Wait()
		if current(r) != "b" {
			t.Errorf("Current = %s while the second load runs", current(r))
		}
		gate <- "c"
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if current(r) != "c" {
			t.Errorf("Current = %s", current(r))
		}
	})
}

type sourceFunc func() (secrets.Secret, secrets.Meta, error)

func (f sourceFunc) Load(context.Context, string) (secrets.Secret, secrets.Meta, error) { return f() }

// A source that hands out one Secret again and again keeps it.
func TestSourceOfOneSecret(t *testing.T) {
	s := secretOf("kept")
	r := rotating(t, sourceFunc(func() (secrets.Secret, secrets.Meta, error) { return s, secrets.Meta{}, nil }), secrets.RotateConfig{}, false)
	for range 3 {
		if err := r.Check(t.Context()); err != nil || current(r) != "kept" {
			t.Errorf("Current = %s, %v", current(r), err)
		}
	}
	var loaded []secrets.Secret
	r = rotating(t, sourceFunc(func() (secrets.Secret, secrets.Meta, error) {
		loaded = append(loaded, secretOf("same"))
		return loaded[len(loaded)-1], secrets.Meta{}, nil
	}), secrets.RotateConfig{}, false)
	if err := r.Check(t.Context()); err != nil || !loaded[1].IsZero() || loaded[0].IsZero() {
		t.Errorf("a copy that nobody needs is not destroyed: %v", err)
	}
}

// SCR-26, SCR-27: what NewRotating refuses.
func TestNewRotatingRefuses(t *testing.T) {
	good := &values{text: "x"}
	for name, c := range map[string]struct {
		src  secrets.Source
		cfg  secrets.RotateConfig
		want string
	}{
		"no source":        {nil, secrets.RotateConfig{}, "no source"},
		"too often":        {good, secrets.RotateConfig{Every: 100*time.Millisecond - 1}, "Every"},
		"negative":         {good, secrets.RotateConfig{Every: -1}, "Every"},
		"too seldom":       {good, secrets.RotateConfig{Every: time.Hour + 1}, "Every"},
		"negative overlap": {good, secrets.RotateConfig{Overlap: -1}, "Overlap"},
		"long overlap":     {good, secrets.RotateConfig{Overlap: 24*time.Hour + 1}, "Overlap"},
		"empty":            {&values{}, secrets.RotateConfig{}, "empty"},
	} {
		r, err := secrets.NewRotating(t.Context(), c.src, "TOKEN", c.cfg)
		if r != nil || !errors.Is(err, secrets.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := secrets.NewRotating(t.Context(), nil, "TOKEN", secrets.RotateConfig{Every: 1, Overlap: -1})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("NewRotating = %v, want three faults", err)
	}
	broken := errors.New("broken")
	if r, err := secrets.NewRotating(t.Context(), &values{err: broken}, "TOKEN", secrets.RotateConfig{}); r != nil || !errors.Is(err, broken) {
		t.Errorf("NewRotating = %v", err)
	}
}

// SCR-15, SCR-27: polls do not flood the log of a Source; a warning is told once
// and again when it is another one.
func TestPollsAreQuiet(t *testing.T) {
	path := secretstest.Projected(t, map[string]string{"token": "x"}).Path("token")
	src, log := source(t, map[string]string{"TOKEN_FILE": path}, secrets.Config{})
	r := rotating(t, src, secrets.RotateConfig{}, false)
	check := func() {
		for range 3 {
			if err := r.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	check()
	if n := strings.Count(log.String(), "level=INFO"); n != 1 || strings.Count(log.String(), "secret loaded") != 4 {
		t.Errorf("%d records at INFO of one load and three polls: %s", n, log)
	}
	for _, c := range []struct {
		mode os.FileMode
		want int
	}{{0o444, 1}, {0o400, 1}, {0o440, 2}} {
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		check()
		if n := strings.Count(log.String(), "level=WARN"); n != c.want {
			t.Errorf("mode %v: %d warnings, want %d", c.mode, n, c.want)
		}
	}
}
