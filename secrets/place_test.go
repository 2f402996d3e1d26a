//go:build unix

package secrets_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

// read reads one line of text on a machine and returns it, and the reason of an
// error.
func read(t *testing.T, s secrets.Site, path string) (text string, m secrets.Meta, reason string, err error) {
	t.Helper()
	got, m, err := secrets.ReadFileOn(t.Context(), s, path, secrets.Rules{})
	if e, ok := errors.AsType[*secrets.Error](err); ok {
		reason = e.Reason
	} else if err != nil {
		t.Fatalf("%s: an error of no type: %v", path, err)
	}
	b, _ := content(got)
	return string(b), m, reason, err
}

// SCR-8: which paths are mounted ones. A mounted file may have mode 0444, a private
// one may not.
func TestMounted(t *testing.T) {
	open := func(dir string, names ...string) string {
		for _, name := range names {
			path := filepath.Join(dir, name)
			err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, 0o444))
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	top := t.TempDir()
	run := open(filepath.Join(top, "run"), "a", "deep/er/b")
	beside := open(filepath.Join(top, "running"), "a")
	creds := open(filepath.Join(top, "credentials"), "a", "deep/b")
	volume := open(filepath.Join(top, "volume"), "a", "..1/x", "deep/b")
	broken := open(filepath.Join(top, "broken"), "a", "..data/x")
	if err := os.Symlink("..1", filepath.Join(volume, "..data")); err != nil {
		t.Fatal(err)
	}
	env := func(dir string) map[string]string { return map[string]string{"CREDENTIALS_DIRECTORY": dir} }
	for _, c := range []struct {
		path    string
		env     map[string]string
		mounted bool
	}{
		{run + "/a", nil, true},
		{run + "/deep/er/b", nil, true},
		{beside + "/a", nil, false},
		{creds + "/a", env(creds), true},
		{creds + "/deep/b", env(creds), true},
		{creds + "/a", nil, false},
		{creds + "/a", env(creds + "/deep"), false},
		{creds + "/a", env(creds + "/"), false}, // not clean: nobody's directory
		{creds + "/a", env("credentials"), false},
		{volume + "/a", nil, true},
		{volume + "/deep/b", nil, false},
		{broken + "/a", nil, false}, // ..data is no link
	} {
		_, m, reason, err := read(t, secrets.Site{Run: run, Env: c.env}, c.path)
		if mounted := err == nil; mounted != c.mounted || mounted != (m.Warning != "") || !mounted && !errors.Is(err, secrets.ErrPermission) {
			t.Errorf("%s with %v: mounted %v, warning %q, %s", c.path, c.env, mounted, m.Warning, reason)
		}
	}
	if err := os.Chmod(beside+"/a", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, m, reason, err := read(t, secrets.Site{Run: run}, beside+"/a"); err != nil || m.Warning != "" {
		t.Errorf("a private file beside the mounted ones: %q, %s", m.Warning, reason)
	}
	// ReadFile itself asks the process's environment.
	t.Setenv("CREDENTIALS_DIRECTORY", creds)
	if _, _, err := secrets.ReadFile(t.Context(), creds+"/a", secrets.Rules{}); err != nil {
		t.Error(err)
	}
}

// SCR-8: links of mounted files are followed, and stay inside the directory.
func TestMountedLinks(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"real": "inside"})
	outside := put(t, "outside")
	sub := filepath.Join(dir, "sub")
	link := func(target, name string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	here := secrets.Site{Run: dir}
	if text, _, reason, err := read(t, here, link("real", "link")); text != "inside" || err != nil {
		t.Errorf("a link: %q, %s", text, reason)
	}
	if text, _, reason, err := read(t, here, link("link", "again")); text != "inside" || err != nil {
		t.Errorf("a link to a link: %q, %s", text, reason)
	}
	for name, path := range map[string]string{
		"absolute":             link(outside, "absolute"),
		"relative":             link("../../"+filepath.Base(filepath.Dir(outside))+"/secret", "relative"),
		"absolute, but inside": link(filepath.Join(dir, "real"), "circle"),
		"of its directory":     filepath.Join(link(filepath.Dir(outside), "elsewhere"), "secret"),
		"to itself":            link("loop", "loop"),
	} {
		text, _, reason, err := read(t, here, path)
		if text != "" || err == nil || name != "to itself" && (!errors.Is(err, secrets.ErrPermission) || !strings.Contains(reason, "escapes")) {
			t.Errorf("link %s: %q, %v", name, text, err)
		}
	}
	if _, _, reason, err := read(t, here, link("nothing", "dangling")); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("a dangling link: %s", reason)
	}
	if _, _, reason, err := read(t, secrets.Site{}, filepath.Join(dir, "link")); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("a link of a private file: %s", reason)
	}
}

// SCR-8: in a directory where anybody may make names, links of other users decide
// nothing: neither that it is a volume nor where a file is.
func TestForeignLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a link away")
	}
	v := secretstest.Projected(t, map[string]string{"token": "good"})
	if err := errors.Join(os.Chmod(v.Dir, 0o777|fs.ModeSticky), os.Lchown(v.Path("token"), 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if text, _, reason, err := read(t, secrets.Site{}, v.Path("token")); text != "" || !errors.Is(err, secrets.ErrPermission) || !strings.Contains(reason, "another user") {
		t.Errorf("%q, %s", text, reason)
	}
	if text, _, reason, err := read(t, secrets.Site{Run: v.Dir}, v.Path("token")); text != "good" || err != nil {
		t.Errorf("bind mounts keep the owners of the host: %q, %s", text, reason)
	}
	if err := errors.Join(os.Lchown(v.Path("token"), 0, -1), os.Lchown(v.Path("..data"), 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if text, _, reason, err := read(t, secrets.Site{}, v.Path("token")); text != "" || !errors.Is(err, secrets.ErrPermission) || !strings.Contains(reason, "symbolic link") {
		t.Errorf("%q, %s", text, reason)
	}
}

// SCR-28: one load reads one generation. The volume is swapped right after ..data
// was opened: what was opened is read, or, if it is gone, the next one.
func TestOneGeneration(t *testing.T) {
	for name, c := range map[string]struct {
		swap func(v *secretstest.Volume) error
		want string
	}{
		"swapped": {func(v *secretstest.Volume) error { // the old generation is still there
			return errors.Join(os.Mkdir(v.Path("..next"), 0o700), os.WriteFile(filepath.Join(v.Path("..next"), "token"), []byte("new"), 0o400),
				os.Symlink("..next", v.Path("tmp")), os.Rename(v.Path("tmp"), v.Path("..data")))
		}, "old"},
		"swapped and removed": {func(v *secretstest.Volume) error { v.Swap(map[string]string{"token": "new"}); return nil }, "new"},
	} {
		v := secretstest.Projected(t, map[string]string{"token": "old"})
		opened := 0
		text, m, reason, err := read(t, secrets.Site{Step: func(step string) {
			if step == "generation" {
				if opened++; opened == 1 {
					if err := c.swap(v); err != nil {
						t.Error(err)
					}
				}
			}
		}}, v.Path("token"))
		if text != c.want || err != nil || opened == 0 || m.Path != v.Path("token") {
			t.Errorf("%s: %q, %d generations, %+v, %s", name, text, opened, m, reason)
		}
	}
}

// SCR-28: a volume that is swapped again and again, or whose ..data leads nowhere,
// ends in an error, as does a link to what it does not hold; a file without a link is
// absent.
func TestVolumeFaults(t *testing.T) {
	v := secretstest.Projected(t, map[string]string{"token": "0"})
	opened := 0
	_, _, reason, err := read(t, secrets.Site{Step: func(step string) {
		if step == "generation" {
			opened++
			v.Swap(map[string]string{"token": "x"})
		}
	}}, v.Path("token"))
	if err == nil || errors.Is(err, secrets.ErrNotFound) || opened < 2 || opened > 100 {
		t.Errorf("after %d generations: %s", opened, reason)
	}
	if _, _, reason, err := read(t, secrets.Site{}, v.Path("other")); !errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("a file that is not there: %s", reason)
	}
	if err := os.Symlink("..data/gone", v.Path("gone")); err != nil {
		t.Fatal(err)
	}
	if _, _, reason, err := read(t, secrets.Site{}, v.Path("gone")); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("a file that is not in the generation: %s", reason)
	}
	if err := errors.Join(os.Remove(v.Path("..data")), os.Symlink("..nowhere", v.Path("..data"))); err != nil {
		t.Fatal(err)
	}
	if _, _, reason, err := read(t, secrets.Site{}, v.Path("token")); err == nil || errors.Is(err, secrets.ErrNotFound) || !strings.Contains(reason, "..data") {
		t.Errorf("a volume without a generation is broken, not absent: %s", reason)
	}
	outside := secretstest.Dir(t, map[string]string{"token": "outside"})
	if err := errors.Join(os.Remove(v.Path("..data")), os.Symlink(outside, v.Path("..data"))); err != nil {
		t.Fatal(err)
	}
	if text, _, reason, err := read(t, secrets.Site{}, v.Path("token")); text != "" || !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("a generation outside of the volume: %q, %s", text, reason)
	}
}

// SCR-8: both directories of a volume are judged.
func TestVolumeDirectories(t *testing.T) {
	for _, open := range []string{".", "..data"} {
		v := secretstest.Projected(t, map[string]string{"token": "x"})
		if err := os.Chmod(filepath.Join(v.Dir, open), 0o777); err != nil {
			t.Fatal(err)
		}
		if _, _, reason, err := read(t, secrets.Site{}, v.Path("token")); !errors.Is(err, secrets.ErrPermission) || !strings.Contains(reason, "directory") {
			t.Errorf("%s is open: %s, %v", open, reason, err)
		}
	}
}

// SCR-11: Rules.Root binds mounted files too, and nothing lies beneath a Root that
// is no directory of this path.
func TestRootOfMounted(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"secret": "x"})
	here := secrets.Site{Run: filepath.Dir(dir)}
	for root, ok := range map[string]bool{dir: true, filepath.Dir(dir): true, "/": true, t.TempDir(): false, filepath.Join(dir, "secret"): false, "": true} {
		_, _, err := secrets.ReadFileOn(t.Context(), here, filepath.Join(dir, "secret"), secrets.Rules{Root: root})
		if (err == nil) != ok || !ok && !errors.Is(err, secrets.ErrPermission) {
			t.Errorf("root %q: %v", root, err)
		}
	}
}
