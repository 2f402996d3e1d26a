//go:build unix

package secrets_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
	"pgregory.net/rapid"
)

// SCR-13: which file is the credential of a name, and what is said of it.
func TestCredential(t *testing.T) {
	lookup := secretstest.Credentials(t, map[string]string{"api-token": "by rule\n", "Other@host:1.x": "by map"})
	dir, _ := lookup("CREDENTIALS_DIRECTORY")
	for name, want := range map[string]string{"API_TOKEN": "by rule", "Api_Token": "by rule", "OTHER": "by map", "MAPPED_AWAY": ""} {
		src, log := source(t, map[string]string{"CREDENTIALS_DIRECTORY": dir}, secrets.Config{
			Credentials: map[string]string{"OTHER": "Other@host:1.x", "MAPPED_AWAY": "absent"},
			Rules:       secrets.Rules{Root: t.TempDir()}, // binds files, not credentials
		})
		s, m, err := src.Load(t.Context(), name)
		if want == "" {
			if !errors.Is(err, secrets.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || !s.Equal([]byte(want)) || m.Origin != "credential" || m.Name != name || filepath.Dir(m.Path) != dir || m.Warning != "" {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if text := log.String(); !strings.Contains(text, "origin=credential") || strings.Contains(text, "level=WARN") {
			t.Errorf("%s: log %s", name, text)
		}
	}
}

// SCR-8, SCR-13: 0440 is what a service manager makes, with a group of its own
// behind it; it loads, and without a warning.
func TestTrap_GroupReadableCredential(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"token": "x"})
	for mode, warned := range map[os.FileMode]bool{0o440: false, 0o400: false, 0o640: true, 0o444: true} {
		if err := os.Chmod(filepath.Join(dir, "token"), mode); err != nil {
			t.Fatal(err)
		}
		src, log := source(t, map[string]string{"CREDENTIALS_DIRECTORY": dir}, secrets.Config{})
		_, m, err := src.Load(t.Context(), "TOKEN")
		if err != nil || (m.Warning != "") != warned || strings.Contains(log.String(), "level=WARN") != warned {
			t.Errorf("mode %v: %q, %v, log %s", mode, m.Warning, err, log)
		}
	}
}

// SCR-13: a directory of credentials that is named but unfit is broken, not absent:
// nothing after it is asked.
func TestCredentialsDirectory(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"token": "x"})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env  map[string]string
		want error
	}{
		"unset":     {map[string]string{}, secrets.ErrNotFound},
		"empty":     {map[string]string{"CREDENTIALS_DIRECTORY": ""}, secrets.ErrPermission},
		"relative":  {map[string]string{"CREDENTIALS_DIRECTORY": "credentials"}, secrets.ErrPermission},
		"not clean": {map[string]string{"CREDENTIALS_DIRECTORY": dir + "/."}, secrets.ErrPermission},
		"missing":   {map[string]string{"CREDENTIALS_DIRECTORY": dir + "/missing"}, secrets.ErrPermission},
		"a file":    {map[string]string{"CREDENTIALS_DIRECTORY": dir + "/token"}, secrets.ErrPermission},
		"a link":    {map[string]string{"CREDENTIALS_DIRECTORY": link}, secrets.ErrPermission},
	} {
		if errors.Is(c.want, secrets.ErrPermission) {
			c.env["TOKEN"] = canary // must not be taken instead
		}
		src, _ := source(t, c.env, secrets.Config{})
		s, _, err := src.Load(t.Context(), "TOKEN")
		if e, ok := errors.AsType[*secrets.Error](err); !ok || !errors.Is(err, c.want) || e.Name != "TOKEN" || !s.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A path beneath the link is judged as a private one.
	if err := os.Chmod(filepath.Join(dir, "token"), 0o440); err != nil {
		t.Fatal(err)
	}
	s := secrets.Site{Env: map[string]string{"CREDENTIALS_DIRECTORY": link}}
	if _, _, err := secrets.ReadFileOn(t.Context(), s, filepath.Join(link, "token"), secrets.Rules{}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("beneath a link: %v", err)
	}
}

// SCR-13: names of credentials against their grammar.
func TestCredentialNames(t *testing.T) {
	grammar := regexp.MustCompile(`^[A-Za-z0-9_.@:-]{1,255}$`)
	check := func(t interface{ Errorf(string, ...any) }, name string) {
		want := grammar.MatchString(name) && !strings.HasPrefix(name, ".") && !strings.Contains(name, "..")
		_, err := secrets.NewSource(secrets.Config{Credentials: map[string]string{"TOKEN": name}})
		if (err == nil) != want || !want && !errors.Is(err, secrets.ErrFormat) {
			t.Errorf("credential %q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a", ".", "..", ".a", "a.", "a..b", "a/b", "../a", "a\x00", "a\n", "ä", strings.Repeat("a", 255), strings.Repeat("a", 256), "A_z.9@x:y-"} {
		check(t, name)
	}
	rapid.Check(t, func(t *rapid.T) { check(t, rapid.StringMatching(`[A-Za-z0-9_.@:/ä-]{0,5}`).Draw(t, "name")) })
}

// SCR-13: what a real service manager passes. Long, and only where one runs.
func TestUnderServiceManager(t *testing.T) {
	const inside = "LLORCH_SECRETS_UNIT"
	if os.Getenv(inside) != "" {
		src, err := secrets.NewSource(secrets.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s, m, err := src.Load(t.Context(), "LLORCH_TEST")
		if err != nil || !s.Equal([]byte("from the manager")) || m.Origin != "credential" || m.Warning != "" {
			t.Fatalf("%+v, %v", m, err)
		}
		return
	}
	if os.Getenv("LLORCH_NIGHTLY") == "" {
		t.Skip("needs LLORCH_NIGHTLY=1")
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIPPED, credentials of a service manager are NOT proven: systemd does not run here, or not for root")
	}
	path := put(t, "from the manager\n")
	cmd := exec.CommandContext(t.Context(), "systemd-run", "--wait", "--pipe", "--collect", "--quiet", "-p", "LoadCredential=llorch-test:"+path,
		"-p", "PrivateTmp=no", "--setenv="+inside+"=1", os.Args[0], "-test.run=^TestUnderServiceManager$", "-test.v")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestUnderServiceManager") {
		t.Errorf("%v\n%s", err, out)
	}
}
