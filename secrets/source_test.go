//go:build unix

package secrets_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

// source returns a Source over env, which Unsetenv really changes, and its log.
func source(t *testing.T, env map[string]string, cfg secrets.Config) (secrets.Source, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cfg.LookupEnv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	cfg.Unsetenv = func(name string) error { delete(env, name); return nil }
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	src, err := secrets.NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return src, &log
}

// SCR-14, SCR-15: every place, in order, and what is told about it.
func TestSourceOrder(t *testing.T) {
	file, configured := put(t, "from NAME_FILE\n"), put(t, "from Files\n")
	creds := secretstest.Dir(t, map[string]string{"token": "from the manager", "open": "x"})
	if err := os.Chmod(filepath.Join(creds, "open"), 0o666); err != nil {
		t.Fatal(err)
	}
	mapped := func(name string) map[string]string { return map[string]string{"TOKEN": name} }
	missing := put(t, "") + ".missing"
	for _, c := range []struct {
		name         string
		env          map[string]string
		cfg          secrets.Config
		want, origin string
		err          error
	}{
		{"NAME_FILE first", map[string]string{"TOKEN_FILE": file}, secrets.Config{Files: map[string]string{"TOKEN": configured}}, "from NAME_FILE", "file", nil},
		{"Files next", map[string]string{"TOKEN": canary}, secrets.Config{Files: map[string]string{"TOKEN": configured}}, "from Files", "file", nil},
		{"NAME_FILE before a credential", map[string]string{"TOKEN_FILE": file, "CREDENTIALS_DIRECTORY": creds}, secrets.Config{}, "from NAME_FILE", "file", nil},
		{"Files before a credential", map[string]string{"CREDENTIALS_DIRECTORY": creds}, secrets.Config{Files: map[string]string{"TOKEN": configured}}, "from Files", "file", nil},
		{"credential before NAME", map[string]string{"TOKEN": canary, "CREDENTIALS_DIRECTORY": creds}, secrets.Config{Files: map[string]string{"TOKEN": missing}}, "from the manager", "credential", nil},
		{"NoEnv keeps credentials", map[string]string{"CREDENTIALS_DIRECTORY": creds}, secrets.Config{NoEnv: true}, "from the manager", "credential", nil},
		{"an absent credential", map[string]string{"TOKEN": canary, "CREDENTIALS_DIRECTORY": creds}, secrets.Config{Credentials: mapped("absent")}, canary, "env", nil},
		{"a bad credential", map[string]string{"TOKEN": canary, "CREDENTIALS_DIRECTORY": creds}, secrets.Config{Credentials: mapped("open")}, "", "", secrets.ErrPermission},
		{"a bad file before a credential", map[string]string{"CREDENTIALS_DIRECTORY": creds}, secrets.Config{Files: map[string]string{"TOKEN": filepath.Join(creds, "open")}}, "", "", secrets.ErrPermission},
		{"NAME last", map[string]string{"TOKEN": canary}, secrets.Config{Files: map[string]string{"TOKEN": missing}}, canary, "env", nil},
		{"NoEnv", map[string]string{"TOKEN": canary}, secrets.Config{NoEnv: true}, "", "", secrets.ErrNotFound},
		{"NoEnv keeps NAME_FILE", map[string]string{"TOKEN_FILE": file}, secrets.Config{NoEnv: true}, "from NAME_FILE", "file", nil},
		{"nothing", nil, secrets.Config{}, "", "", secrets.ErrNotFound},
		{"relative path", map[string]string{"TOKEN_FILE": "token"}, secrets.Config{}, "", "", secrets.ErrFormat},
		{"malformed value", map[string]string{"TOKEN": canary + "\n\n"}, secrets.Config{}, "", "", secrets.ErrFormat},
	} {
		src, log := source(t, maps.Clone(c.env), c.cfg)
		s, m, err := src.Load(t.Context(), "TOKEN")
		if !errors.Is(err, c.err) || c.want != "" && !s.Equal([]byte(c.want)) || m.Origin != c.origin {
			t.Errorf("%s: %+v, %v", c.name, m, err)
		}
		if e, ok := errors.AsType[*secrets.Error](err); err != nil && (!ok || e.Name != "TOKEN") {
			t.Errorf("%s: the error does not name the secret: %v", c.name, err)
		}
		if leaks(log.String()) || err != nil && leaks(err.Error()) {
			t.Errorf("%s: leaked into %s%v", c.name, log, err)
		}
		if warned := strings.Contains(log.String(), "level=WARN"); warned != (c.origin == "env") || (m.Warning != "") != warned {
			t.Errorf("%s: warning %q, log %s", c.name, m.Warning, log)
		}
		if told := strings.Contains(log.String(), "path="+m.Path); m.Path != "" && (!told || !strings.Contains(lineOf(log.String(), "path="), "level=DEBUG")) {
			t.Errorf("%s: the path is told at DEBUG only: log %s", c.name, log)
		}
		if err == nil && !strings.Contains(lineOf(log.String(), "origin="+c.origin), "level=INFO") {
			t.Errorf("%s: log %s", c.name, log)
		}
		if err == nil && (len(m.Version) != 8 || !strings.Contains(log.String(), "version="+m.Version) || m.Name != "TOKEN") {
			t.Errorf("%s: %+v, log %s", c.name, m, log)
		}
	}
}

// lineOf returns the first line of a log that holds text.
func lineOf(log, text string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// SCR-14: the variable is gone after the load, the secret is not, and one warning
// is enough.
func TestEnvIsTakenOnce(t *testing.T) {
	env := map[string]string{"TOKEN": canary}
	src, log := source(t, env, secrets.Config{})
	first, m1, err := src.Load(t.Context(), "TOKEN")
	if err != nil || len(env) != 0 {
		t.Fatal(env, err)
	}
	first.Destroy() // one caller's end must not be the next one's
	second, m2, err := src.Load(t.Context(), "TOKEN")
	if err != nil || !second.Equal([]byte(canary)) || m1.Version != m2.Version { // SCR-6
		t.Errorf("second load: %v, versions %s %s", err, m1.Version, m2.Version)
	}
	env["TOKEN"] = "another one"
	third, m3, err := src.Load(t.Context(), "TOKEN")
	if err != nil || !third.Equal([]byte("another one")) || m3.Version == m1.Version {
		t.Errorf("third load: %v", err)
	}
	if strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("log %s", log)
	}
}

func TestUnsetenvFails(t *testing.T) {
	src, err := secrets.NewSource(secrets.Config{
		LookupEnv: func(name string) (string, bool) { return canary, name == "TOKEN" },
		Unsetenv:  func(string) error { return os.ErrPermission },
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := src.Load(t.Context(), "TOKEN"); !errors.Is(err, os.ErrPermission) || !s.IsZero() {
		t.Errorf("%v", err)
	}
}

// SCR-14: the process's own environment is the default.
func TestRealEnvironment(t *testing.T) {
	t.Setenv("LLORCH_SECRETS_TEST", "real")
	src, err := secrets.NewSource(secrets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := src.Load(t.Context(), "LLORCH_SECRETS_TEST")
	if _, still := os.LookupEnv("LLORCH_SECRETS_TEST"); still || err != nil || !s.Equal([]byte("real")) {
		t.Errorf("still there %v, %v", still, err)
	}
}

func TestSourceConfigFaults(t *testing.T) {
	_, err := secrets.NewSource(secrets.Config{
		Files:       map[string]string{"A": "relative", "B\n[C]": "/x"},
		Credentials: map[string]string{"D": "a/b", "E\n": "e"},
		Rules:       secrets.Rules{MaxBytes: -1, Root: "relative"},
	})
	if err == nil || strings.Count(err.Error(), "\n") != 5 || !errors.Is(err, secrets.ErrFormat) {
		t.Errorf("NewSource = %v, want six faults", err)
	}
	for _, want := range []string{"secret (A): ", "secret (Files): ", "secret (D): ", "secret (Credentials): ", "Rules.MaxBytes", "Rules.Root"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("NewSource = %v; it does not name %s", err, want)
		}
	}
	src, _ := source(t, nil, secrets.Config{})
	for _, name := range []string{"", "1A", "A B", "A=B", "A\x00", strings.Repeat("A", 129)} {
		if _, _, err := src.Load(t.Context(), name); !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := src.Load(ended, "A"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// SCR-15: what is present but broken is never replaced by the next place; a missing
// file that somebody named is broken, not absent.
func TestTrap_FallThroughOnPermission(t *testing.T) {
	open := put(t, "open to others")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	src, _ := source(t, map[string]string{"TOKEN": canary}, secrets.Config{Files: map[string]string{"TOKEN": open}})
	if s, _, err := src.Load(t.Context(), "TOKEN"); !errors.Is(err, secrets.ErrPermission) || !s.IsZero() {
		t.Errorf("error %v", err)
	}
	src, _ = source(t, map[string]string{"TOKEN_FILE": open + ".missing"}, secrets.Config{})
	if _, _, err := src.Load(t.Context(), "TOKEN"); err == nil || errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("a named file that is missing: %v", err)
	}
}

// SCR-14: both set, even to nothing.
func TestTrap_BothVariables(t *testing.T) {
	for _, env := range []map[string]string{{"TOKEN": "a", "TOKEN_FILE": "/a"}, {"TOKEN": "", "TOKEN_FILE": ""}} {
		src, _ := source(t, env, secrets.Config{})
		if _, _, err := src.Load(t.Context(), "TOKEN"); !errors.Is(err, secrets.ErrAmbiguous) {
			t.Errorf("%v: %v", env, err)
		}
	}
}

// SCR-14: an empty variable is a mistake, not an empty password.
func TestTrap_EmptyVariable(t *testing.T) {
	for _, name := range []string{"TOKEN", "TOKEN_FILE"} {
		src, _ := source(t, map[string]string{name: ""}, secrets.Config{Rules: secrets.Rules{Binary: true}})
		if _, _, err := src.Load(t.Context(), "TOKEN"); !errors.Is(err, secrets.ErrFormat) || !strings.Contains(err.Error(), "empty") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Importing the package changes nothing in the process: it runs no code at start.
func TestTrap_ImportSideEffect(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		if err != nil || bytes.Contains(text, []byte("func init()")) || bytes.Contains(text, []byte("Setrlimit")) || bytes.Contains(text, []byte("\"unsafe\"")) {
			t.Errorf("%s runs code at import or touches limits: %v", f.Name(), err)
		}
	}
}

// SCR-15: a Root that is missing, a link to nothing and a volume that changes too
// fast are broken, not absent: the environment does not take their place.
func TestBrokenIsNotAbsent(t *testing.T) {
	v := secretstest.Projected(t, map[string]string{"token": "x"})
	err := errors.Join(os.Symlink("..data/gone", v.Path("gone")), os.Symlink("nothing", v.Path("dangling")))
	if err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	for name, cfg := range map[string]secrets.Config{
		"a Root that is missing, of a file elsewhere": {Files: map[string]string{"TOKEN": put(t, "x")}, Rules: secrets.Rules{Root: none}},
		"a Root that is missing":                      {Files: map[string]string{"TOKEN": none + "/token"}, Rules: secrets.Rules{Root: none}},
		"a Root that is missing, of mounted files":    {Files: map[string]string{"TOKEN": secrets.RunSecrets + "/none/token"}, Rules: secrets.Rules{Root: secrets.RunSecrets + "/none"}},
		"a file outside of Root":                      {Files: map[string]string{"TOKEN": none}, Rules: secrets.Rules{Root: t.TempDir()}},
		"a link to no file of its generation":         {Files: map[string]string{"TOKEN": v.Path("gone")}},
		"a link to nothing":                           {Files: map[string]string{"TOKEN": v.Path("dangling")}},
	} {
		env := map[string]string{"TOKEN": canary}
		src, _ := source(t, env, cfg)
		s, _, err := src.Load(t.Context(), "TOKEN")
		if _, ok := errors.AsType[*secrets.Error](err); !ok || errors.Is(err, secrets.ErrNotFound) || !s.IsZero() || len(env) != 1 {
			t.Errorf("%s: %v", name, err)
		}
		if cfg.Rules.Root != "" && !errors.Is(err, secrets.ErrPermission) {
			t.Errorf("%s: %v, want ErrPermission", name, err)
		}
	}
	src, _ := source(t, map[string]string{"TOKEN": canary}, secrets.Config{Files: map[string]string{"TOKEN": none + "/token"}, Rules: secrets.Rules{Root: filepath.Dir(none)}})
	if _, m, err := src.Load(t.Context(), "TOKEN"); err != nil || m.Origin != "env" {
		t.Errorf("a directory that is absent beneath a Root that is there: %+v, %v", m, err)
	}
}

// SCR-14: a Source over another environment leaves the process's alone.
func TestAnotherEnvironment(t *testing.T) {
	t.Setenv("LLORCH_SECRETS_TEST", "real")
	src, err := secrets.NewSource(secrets.Config{LookupEnv: func(name string) (string, bool) { return "another", name == "LLORCH_SECRETS_TEST" }})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := src.Load(t.Context(), "LLORCH_SECRETS_TEST")
	if text, still := os.LookupEnv("LLORCH_SECRETS_TEST"); !still || text != "real" || err != nil || !s.Equal([]byte("another")) {
		t.Errorf("still there %v, %v", still, err)
	}
}

// SCR-13: whoever changes the maps of a Config later changes no Source: their
// entries were checked.
func TestConfigIsCopied(t *testing.T) {
	outside := secretstest.Dir(t, map[string]string{"token": "outside"})
	lookup := secretstest.Credentials(t, map[string]string{"a": "inside"})
	dir, _ := lookup("CREDENTIALS_DIRECTORY")
	way, err := filepath.Rel(dir, filepath.Join(outside, "token"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := secrets.Config{LookupEnv: lookup, Files: map[string]string{"F": filepath.Join(dir, "a")}, Credentials: map[string]string{"C": "a"}}
	src, err := secrets.NewSource(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Files["F"], cfg.Credentials["C"] = filepath.Join(outside, "token"), way
	for _, name := range []string{"F", "C"} {
		if s, m, err := src.Load(t.Context(), name); err != nil || !s.Equal([]byte("inside")) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
