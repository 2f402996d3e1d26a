//go:build unix

package secrets_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

// bits turns the twelve bits of chmod into a mode.
func bits(n int) fs.FileMode {
	mode := fs.FileMode(n & 0o777)
	for bit, m := range map[int]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if n&bit != 0 {
			mode |= m
		}
	}
	return mode
}

// may says of one permission bit, by its letter in ls -l, whether mode has it.
func may(mode int, who, what byte) bool {
	shift := map[byte]int{'u': 6, 'g': 3, 'o': 0}[who]
	return mode>>shift&map[byte]int{'r': 4, 'w': 2, 'x': 1}[what] != 0
}

// reference reads the table of SCR-8 for the mode of a file, letter by letter.
func reference(mode int, mounted, credential bool) (ok, warn bool) {
	if !mounted {
		for _, who := range []byte("go") {
			for _, what := range []byte("rwx") {
				if may(mode, who, what) {
					return false, false
				}
			}
		}
		return true, false
	}
	if may(mode, 'u', 'x') || may(mode, 'g', 'x') || may(mode, 'o', 'x') || may(mode, 'g', 'w') || may(mode, 'o', 'w') {
		return false, false
	}
	systemd := credential && may(mode, 'u', 'r') && !may(mode, 'u', 'w') && may(mode, 'g', 'r') && !may(mode, 'o', 'r')
	return true, (may(mode, 'g', 'r') || may(mode, 'o', 'r')) && !systemd
}

// SCR-8: all 4096 modes under both sets of rules, on real files.
func TestModeMatrix(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"secret": canary})
	path := filepath.Join(dir, "secret")
	root := os.Geteuid() == 0
	for name, c := range map[string]struct {
		site                secrets.Site
		mounted, credential bool
	}{
		"private":    {secrets.Site{}, false, false},
		"container":  {secrets.Site{Run: dir}, true, false},
		"credential": {secrets.Site{Env: map[string]string{"CREDENTIALS_DIRECTORY": dir}}, true, true},
	} {
		for n := range 4096 {
			if err := os.Chmod(path, bits(n)); err != nil {
				t.Fatal(err)
			}
			s, m, err := secrets.ReadFileOn(t.Context(), c.site, path, secrets.Rules{})
			ok, warn := reference(n, c.mounted, c.credential)
			ok, warn = ok && (root || may(n, 'u', 'r')), warn && (root || may(n, 'u', 'r'))
			if (err == nil) != ok || !ok && !errors.Is(err, secrets.ErrPermission) || (m.Warning != "") != warn || s.IsZero() == ok {
				t.Fatalf("%s file, mode %04o: %q, %v", name, n, m.Warning, err)
			}
		}
	}
}

// stat is what a file would say of itself.
type stat struct {
	mode  fs.FileMode
	uid   uint32
	links int
}

func (s stat) Name() string       { return "file" }
func (s stat) Size() int64        { return 1 }
func (s stat) Mode() fs.FileMode  { return s.mode }
func (s stat) ModTime() time.Time { return time.Time{} }
func (s stat) IsDir() bool        { return s.mode.IsDir() }
func (s stat) Sys() any {
	st := &syscall.Stat_t{Uid: s.uid}
	if st.Nlink = 1; s.links == 2 { // its type differs between systems
		st.Nlink = 2
	}
	return st
}

// SCR-8: the whole table: rules × owners of file and directory × links × modes of
// the directory, against a naive reading.
func TestRulesTable(t *testing.T) {
	const uid = 1000
	owned := func(by uint32) bool { return by == 0 || by == uid }
	for n := range 2 * 2 * 3 * 3 * 3 * 2 {
		pick := func(k int) int { i := n % k; n /= k; return i }
		mounted, anyOwner := pick(2) == 1, pick(2) == 1
		rule, owner, above, links := pick(3), uint32([]int{0, uid, 1001}[pick(3)]), uint32([]int{0, uid, 1001}[pick(3)]), pick(2)+1
		if anyOwner && !mounted {
			continue // no such place
		}
		mode := fs.FileMode([]int{0o400, 0o600, 0o200}[rule])
		step := 65 // meets each bit
		if mode == 0o400 && links == 1 {
			step = 1
		}
		for d := 0; d < 4096; d += step {
			file, dir := stat{mode, owner, links}, stat{bits(d) | fs.ModeDir, above, 1}
			_, err := secrets.Judge(mounted, anyOwner, false, uid, file, dir)
			ok := (anyOwner || owned(owner) && owned(above)) && (mounted || links == 1) &&
				(!may(d, 'g', 'w') && !may(d, 'o', 'w') || d&0o1000 != 0)
			if (err == nil) != ok || !ok && !errors.Is(err, secrets.ErrPermission) {
				t.Fatalf("mounted %v, any owner %v, file of %d with %d links, directory of %d with mode %04o: %v", mounted, anyOwner, owner, links, above, d, err)
			}
			if e, _ := errors.AsType[*secrets.Error](err); e != nil && (e.Owner != -1) != (!anyOwner && !(owned(owner) && (owned(above) || links == 2 && !mounted))) {
				t.Fatalf("file of %d, directory of %d: the error says owner %d", owner, above, e.Owner)
			}
		}
	}
}

// SCR-7, SCR-9: of several faults the first in the order of the steps is told, with
// what to do against it.
func TestOrderOfFaults(t *testing.T) {
	const uid = 1000
	good, dir := stat{0o400, uid, 1}, stat{0o700 | fs.ModeDir, uid, 1}
	worse := stat{0o777 | fs.ModeDir, 1001, 1}
	for _, c := range []struct {
		mounted   bool
		file, dir stat
		want      string
	}{
		{false, stat{0o777, 1001, 2}, worse, `it belongs to another user; chown 1000 "/dir/file"`},
		{false, stat{0o777, uid, 2}, worse, `group or others may use it (mode 0777); chmod 600 "/dir/file"`},
		{false, stat{0o600, uid, 2}, worse, "it has several hard links"},
		{false, good, worse, "its directory belongs to another user"},
		{false, good, stat{0o775 | fs.ModeDir, uid, 1}, "group or others may write to its directory (mode 0775); chmod go-w it"},
		{true, stat{0o666, uid, 2}, worse, "others may write to it or it may be executed (mode 0666); mount it with defaultMode: 0440"},
	} {
		_, err := secrets.Judge(c.mounted, false, false, uid, c.file, c.dir)
		e, ok := errors.AsType[*secrets.Error](err)
		if !ok || e.Reason != c.want || e.Path != "/dir/file" {
			t.Errorf("%+v in %+v: %v, want %s", c.file, c.dir, err, c.want)
		}
	}
	if _, err := secrets.Judge(false, false, false, uid, good, dir); err != nil {
		t.Error(err)
	}
	if w, err := secrets.Judge(true, false, false, uid, stat{0o440, uid, 1}, dir); w != "group or others may read the file; mount it with defaultMode: 0400" || err != nil {
		t.Errorf("%q, %v", w, err)
	}
	if fmt.Sprint(secrets.RunSecrets) != "/run/secrets" {
		t.Errorf("mounted secrets are looked for in %s", secrets.RunSecrets)
	}
}

// SCR-8: owners of real files and directories.
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
	if _, _, err := secrets.ReadFileOn(t.Context(), secrets.Site{Run: filepath.Dir(path)}, path, secrets.Rules{}); err != nil {
		t.Errorf("bind mounts keep the owners of the host: %v", err)
	}
	env := map[string]string{"CREDENTIALS_DIRECTORY": filepath.Dir(path)}
	if _, _, err := secrets.ReadFileOn(t.Context(), secrets.Site{Env: env}, path, secrets.Rules{}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("a foreign credential: %v", err)
	}
	if err := errors.Join(os.Chown(path, 0, -1), os.Chown(filepath.Dir(path), 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err = secrets.ReadFile(t.Context(), path, secrets.Rules{}); !errors.Is(err, secrets.ErrPermission) {
		t.Errorf("foreign directory: %v", err)
	}
}
