//go:build unix

package secrets_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

// errorPaths are calls that fail with the canary among their input, by what they
// fail with.
func errorPaths(t *testing.T) map[string]func() error {
	t.Helper()
	dir := secretstest.Dir(t, map[string]string{
		"bom": "\ufeff" + canary, "blank": " " + canary, "two": canary + "\n" + canary, "control": canary + "\x00", "utf8": canary + "\xff", "open": canary, "ok": canary,
		"long": strings.Repeat(canary, 100),
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Chmod(at("open"), 0o666), os.Symlink("ok", at("link")), syscall.Mkfifo(at("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, dir)
	file := func(name string) func() error {
		return func() error {
			_, _, err := secrets.ReadFile(t.Context(), at(name), secrets.Rules{MaxBytes: 100})
			return err
		}
	}
	load := func(env map[string]string, cfg secrets.Config) func() error {
		return func() error {
			src, log := source(t, env, cfg)
			_, _, err := src.Load(t.Context(), "TOKEN")
			secretstest.AssertNoLeak(t, secretOf(canary), log.String())
			return err
		}
	}
	parse := func(text string) func() error {
		return func() error { _, err := secrets.ParseKey(secretOf(text)); return err }
	}
	ring := func(text string) func() error {
		return func() error { _, err := secrets.ParseKeyring(secretOf(text)); return err }
	}
	key := secretstest.Key(1)
	keys, err := secrets.NewKeyring(1, map[uint32]secrets.Key{1: key})
	if err != nil {
		t.Fatal(err)
	}
	box, err := keys.Seal(nil, []byte(canary), []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	open := func(change func(b []byte) []byte, aad string) func() error {
		return func() error {
			_, err := keys.Open(nil, change([]byte(string(box))), []byte(aad))
			return err
		}
	}
	changing := func() error {
		_, _, err := secrets.ReadFileOn(t.Context(), secrets.Site{Step: func(step string) {
			if step == "judged" {
				_ = appendTo(at("ok"), canary)
			}
		}}, at("ok"), secrets.Rules{})
		return err
	}
	gone := secretOf(canary)
	gone.Destroy()
	return map[string]func() error{
		"mark": file("bom"), "blank": file("blank"), "two lines": file("two"), "control": file("control"), "UTF-8": file("utf8"), "mode": file("open"),
		"link": file("link"), "FIFO": file("fifo"), "size": file("long"), "changed": changing,
		"value":       load(map[string]string{"TOKEN": canary + "\n\n"}, secrets.Config{}),
		"both":        load(map[string]string{"TOKEN": canary, "TOKEN_FILE": at("ok")}, secrets.Config{}),
		"no variable": load(map[string]string{"TOKEN": canary}, secrets.Config{NoEnv: true}),
		"named file":  load(map[string]string{"TOKEN_FILE": at("two")}, secrets.Config{}),
		"configured":  load(map[string]string{"TOKEN": canary}, secrets.Config{Files: map[string]string{"TOKEN": at("blank")}}),
		"credential":  load(map[string]string{"TOKEN": canary, "CREDENTIALS_DIRECTORY": dir}, secrets.Config{Credentials: map[string]string{"TOKEN": "open"}}),
		"unset": func() error {
			src, err := secrets.NewSource(secrets.Config{
				LookupEnv: func(name string) (string, bool) { return canary, name == "TOKEN" },
				Unsetenv:  func(string) error { return os.ErrPermission },
			})
			if err == nil {
				_, _, err = src.Load(t.Context(), "TOKEN")
			}
			return err
		},
		"key": parse(canary), "long key": parse(strings.Repeat(canary, 50)), "weak key": parse(strings.Repeat(canary[:1], 32)),
		"key file":   func() error { _, _, err := secrets.EnsureKeyFile(root, "ok"); return err },
		"open file":  func() error { _, _, err := secrets.EnsureKeyFile(root, "open"); return err },
		"short key":  func() error { _, err := secrets.NewKey([]byte(canary)); return err },
		"short ikm":  func() error { _, err := secrets.DeriveKey(secretOf(canary[:15]), nil, "a-v1"); return err },
		"domain":     func() error { _, err := secrets.DeriveKey(secretOf(canary), []byte(canary), canary); return err },
		"label":      func() error { _, err := key.MAC(canary, []byte(canary)); return err },
		"MAC":        func() error { return key.VerifyMAC([]byte(canary), "a-v1", []byte(canary)) },
		"destroyed":  func() error { return gone.Use(func([]byte) error { return nil }) },
		"ring line":  ring("1 " + canary),
		"ring id":    ring(canary + " " + strings.Repeat("ab01", 16)),
		"box format": open(func(b []byte) []byte { return append([]byte(canary), b...) }, canary),
		"box aad":    open(func(b []byte) []byte { return b }, "other"),
		"box bit":    open(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, canary),
		"box key":    open(func(b []byte) []byte { b[8] = 9; return b }, canary),
		"name": func() error {
			_, err := secrets.NewSource(secrets.Config{Files: map[string]string{canary: "/x", "A": canary}, Credentials: map[string]string{canary: "x", "B": canary}, Rules: secrets.Rules{Root: canary}})
			return err
		},
		"rotating": func() error {
			src := &values{text: canary}
			r, err := secrets.NewRotating(t.Context(), src, "TOKEN", secrets.RotateConfig{})
			if err != nil {
				return err
			}
			src.set("", nil)
			return r.Check(t.Context())
		},
		"rotation of files": func() error {
			src, log := source(t, map[string]string{"TOKEN_FILE": at("utf8")}, secrets.Config{})
			_, err := secrets.NewRotating(t.Context(), src, "TOKEN", secrets.RotateConfig{})
			secretstest.AssertNoLeak(t, secretOf(canary), log.String())
			return err
		},
	}
}

// G1: no error on any path shows content, however it is printed.
func TestErrorsNeverContainSecret(t *testing.T) {
	missing := []error{
		secrets.ErrNotFound, secrets.ErrAmbiguous, secrets.ErrPermission, secrets.ErrFormat, secrets.ErrWeakKey,
		secrets.ErrDestroyed, secrets.ErrMAC, secrets.ErrUnsealable, secrets.ErrUnknownKey,
	}
	for name, call := range errorPaths(t) {
		err := call()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if _, ok := errors.AsType[*secrets.Error](err); !ok {
			t.Errorf("%s: an error of no type: %v", name, err)
		}
		for i, kind := range missing {
			if kind != nil && errors.Is(err, kind) {
				missing[i] = nil
			}
		}
		texts := map[string]string{"Error": err.Error()}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			texts[verb] = fmt.Sprintf(verb, err)
			if e, ok := errors.AsType[*secrets.Error](err); ok {
				texts["value "+verb] = fmt.Sprintf(verb, *e)
				texts["cause "+verb] = fmt.Sprintf(verb, errors.Unwrap(e))
			}
		}
		for _, how := range leaking(texts) {
			t.Errorf("%s: %s shows the secret: %s", name, how, texts[how])
		}
	}
	if left := errors.Join(missing...); left != nil {
		t.Errorf("no path ended in: %v", left)
	}
}

// What an error says, in which order, and what it is.
func TestErrorText(t *testing.T) {
	src, _ := source(t, map[string]string{"TOKEN_FILE": "/nowhere/token"}, secrets.Config{})
	_, _, err := src.Load(t.Context(), "TOKEN")
	if e, ok := errors.AsType[*secrets.Error](err); !ok || e.Op != "load" || e.Name != "TOKEN" || e.Path != "/nowhere/token" || e.Owner != -1 || e.Mode != 0 {
		t.Errorf("%#v", err)
	}
	if want := `load secret (TOKEN) "/nowhere/token": TOKEN_FILE names a file that does not exist`; err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
