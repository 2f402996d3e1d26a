//go:build unix

package inputvalidation_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// foreignCase is a situation of the standard library's os/root_test.go under
// its name there. A strict and a following Tree have their own answers: a path
// that only a shell would need is no RelPath.
type foreignCase struct {
	name   string
	files  string            // "dir/" or "file", separated by spaces; a file holds its own path
	links  map[string]string // path → target; $ROOT is the root's own path
	path   string
	within string // the content for FollowWithin: the file's path, or "! rule"
	strict string // the same for a strict tree; "" = as within
}

func foreignCases() []foreignCase {
	one := func(target string) map[string]string { return map[string]string{"link": target} }
	return []foreignCase{
		{name: "plain path", files: "target", path: "target", within: "target"},
		{name: "path in directory", files: "a/b/c/target", path: "a/b/c/target", within: "a/b/c/target"},
		{name: "symlink", files: "target", links: one("target"), path: "link", within: "target", strict: "! symlink"},
		{name: "symlink dotdot slash", links: one("../"), path: "link", within: "! outside", strict: "! symlink"},
		{name: "symlink ending in slash", files: "dir/target", links: one("dir/"), path: "link/target", within: "dir/target", strict: "! symlink"},
		{name: "slash after symlink to file", files: "target", links: one("../root/target"), path: "link/", within: "! syntax"},
		{name: "slash after symlink to dir", files: "target/", links: one("../root/target"), path: "link/", within: "! syntax"},
		{name: "symlink dotdot dotdot slash", files: "dir/", links: map[string]string{"dir/link": "../../"}, path: "dir/link", within: "! outside", strict: "! symlink"},
		{
			name: "symlink chain", files: "g/c/target g/h/ a/", path: "link", within: "g/c/target", strict: "! symlink",
			links: map[string]string{"link": "a/b/c/target", "a/b": "e", "a/e": "../f", "f": "g/h/i", "g/h/i": ".."},
		},
		{name: "path with dot", files: "a/b/target", path: "./a/./b/./target", within: "! traversal"},
		{name: "path with dotdot", files: "a/b/target", path: "a/../a/b/../../a/b/../b/target", within: "! traversal"},
		{name: "path with dotdot slash", path: "../", within: "! traversal"},
		{name: "path with dotdot dotdot slash", files: "a/", path: "a/../../", within: "! traversal"},
		{name: "dotdot no symlink", files: "a/ target", path: "a/../target", within: "! traversal"},
		{name: "dotdot after symlink", files: "b/c/ b/target", links: map[string]string{"a": "b/c"}, path: "a/../target", within: "! traversal"},
		{name: "dotdot before symlink", files: "b/c/target", links: map[string]string{"a": "b/c"}, path: "b/../a/target", within: "! traversal"},
		{name: "symlink ends in dot", files: "b/target", links: map[string]string{"a": "b/."}, path: "a/target", within: "b/target", strict: "! symlink"},
		{name: "directory does not exist", path: "a/file", within: "! not_exist"},
		{name: "empty path", path: "", within: "! empty"},
		{name: "symlink cycle", links: map[string]string{"a": "a"}, path: "a", within: "! symlink"},
		{name: "path escapes", files: "target", path: "../root/target", within: "! traversal"},
		{name: "long path escapes", files: "a/ target", path: "a/../../root/target", within: "! traversal"},
		{name: "absolute symlink", files: "target", links: one("$ROOT/target"), path: "link", within: "! outside", strict: "! symlink"},
		{name: "relative symlink", files: "target", links: one("../root/target"), path: "link", within: "! outside", strict: "! symlink"},
		{
			name: "symlink chain escapes", files: "c/target a/", path: "link", within: "! outside", strict: "! symlink",
			links: map[string]string{"link": "a/b/c/target", "a/b": "e", "a/e": "../../root"},
		},

		{name: "file", files: "target", path: "target", within: "target"},
		{name: "dir slash dot", files: "target/file", path: "target/.", within: "! traversal"},
		{name: "dot", files: "file", path: ".", within: "! traversal"},
		{name: "file slash dot", files: "target", path: "target/.", within: "! traversal"},
		{name: "dir slash", files: "target/file", path: "target/", within: "! syntax"},
		{name: "dot slash", files: "file", path: "./", within: "! traversal"},
		{name: "file slash", files: "target", path: "target/", within: "! syntax"},
		{name: "file in path", files: "file", path: "file/target", within: "! not_regular"},
		{name: "directory in path missing", path: "dir/target", within: "! not_exist"},
		{name: "target does not exist", path: "target", within: "! not_exist"},
		{name: "symlink slash", files: "target/file", links: one("target"), path: "link/", within: "! syntax"},
		{name: "symlink slash dot", files: "target/file", links: one("target"), path: "link/.", within: "! traversal"},
		{name: "unresolved symlink", links: one("target"), path: "link", within: "! not_exist", strict: "! symlink"},
		{name: "resolved symlink", files: "target", links: one("target"), path: "link", within: "target", strict: "! symlink"},
		{name: "dotdot in path after symlink", files: "b/c/ b/target", links: map[string]string{"a": "b/c"}, path: "a/../target", within: "! traversal"},
		{name: "symlink to dir ends in slash", files: "dir/", links: one("dir/"), path: "link", within: "! not_regular", strict: "! symlink"},
		{name: "symlink to file ends in slash", files: "file", links: one("file/"), path: "link", within: "! not_regular", strict: "! symlink"},
		{name: "long file name", path: strings.Repeat("a", 500), within: "! too_long"},
		{name: "question mark", path: "?", within: "! not_exist"},
		{name: "nul byte", path: "\x00", within: "! charset"},

		{name: "b", files: "BASE", path: "BASE", within: "BASE"},
		{name: "bs", files: "BASE", path: "BASE/", within: "! syntax"},
		{name: "dpb", files: "DIR/ BASE", path: "DIR/../BASE", within: "! traversal"},
		{name: "dpbs", files: "DIR/ BASE", path: "DIR/../BASE/", within: "! traversal"},
		{name: "prb", files: "BASE", path: "../root/BASE", within: "! traversal"},
		{name: "prbs", files: "BASE", path: "../root/BASE/", within: "! traversal"},
		{name: "srb", files: "BASE", path: "/root/BASE", within: "! traversal"},
		{name: "srbs", files: "BASE", path: "/root/BASE/", within: "! traversal"},
	}
}

// VAL-26, VAL-28: the standard library's own cases, through Tree, for reading
// and for every way of writing. Nothing beside the root changes.
func TestForeignRoot(t *testing.T) {
	for _, c := range foreignCases() {
		if c.strict == "" {
			c.strict = c.within
		}
		for follow, want := range map[bool]string{false: c.strict, true: c.within} {
			base := t.TempDir()
			root := filepath.Join(base, "root")
			must(t, os.Mkdir(root, 0o755))
			for name := range strings.FieldsSeq(c.files) {
				plant(t, root, name)
				if !strings.HasSuffix(name, "/") {
					must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o600))
				}
			}
			for link, target := range c.links {
				must(t, os.Symlink(strings.ReplaceAll(target, "$ROOT", root), filepath.Join(root, link)))
			}
			tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: follow})
			p, err := inputvalidation.ParseRelPath("path", c.path)
			var got []byte
			if err == nil {
				got, err = tree.ReadFile(p, 100)
			}
			what := c.name + ": ReadFile(" + c.path + ")"
			if rule, refused := strings.CutPrefix(want, "! "); refused {
				wantRule(t, what, err, inputvalidation.Rule(rule))
			} else if string(got) != want || err != nil {
				t.Errorf("%s = %q, %v, want %q", what, got, err, want)
			}
			if p.IsZero() {
				continue
			}
			if f, err := tree.Create(p, 0o600); err == nil {
				must(t, f.Close())
			}
			_ = tree.WriteFile(p, []byte("w"), 0o600) // these may fail, but not elsewhere
			_ = tree.Remove(p)
			if sub, err := tree.Sub(p, true); err == nil {
				must(t, sub.Close())
			}
			if names, err := os.ReadDir(base); len(names) != 1 || err != nil {
				t.Errorf("%s: beside the root stands %v, %v", c.name, names, err)
			}
		}
	}
}

// The cases of os/root_test.go that are more than a path follow, under their
// names there.

func TestForeignUnreadableDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything; TestTreeFilesUnreadable has another way")
	}
	root := t.TempDir()
	plant(t, root, "dir/target")
	must(t, os.Chmod(filepath.Join(root, "dir"), 0))
	_, err := openTree(t, root, inputvalidation.TreeConfig{}).ReadFile(relPath(t, "dir/target"), 10)
	wantRule(t, "ReadFile", err, "permission")
}

func TestForeignUnixDomainSocket(t *testing.T) {
	for name, path := range map[string]string{"unix domain socket target": "a", "unix domain socket in path": "a/b"} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "s") // the name of a socket is short
			must(t, err)
			defer os.RemoveAll(dir)
			l, err := net.Listen("unix", filepath.Join(dir, "a"))
			must(t, err)
			defer l.Close()
			tree := openTree(t, dir, inputvalidation.TreeConfig{})
			_, err = tree.ReadFile(relPath(t, path), 10)
			wantRule(t, "ReadFile("+path+")", err, inputvalidation.RuleNotRegular)
			wantList(t, "Files", tree.Files(t.Context()))
		})
	}
}

func TestForeignRenameAfterOpen(t *testing.T) {
	base := t.TempDir()
	plant(t, base, "a/")
	tree := openTree(t, filepath.Join(base, "a"), inputvalidation.TreeConfig{})
	must(t, os.Rename(filepath.Join(base, "a"), filepath.Join(base, "b")))
	must(t, os.WriteFile(filepath.Join(base, "b/f"), []byte("there"), 0o600))
	if got, err := tree.ReadFile(relPath(t, "f"), 10); string(got) != "there" || err != nil {
		t.Errorf("ReadFile = %q, %v", got, err)
	}
}

func TestForeignNonPermissionMode(t *testing.T) {
	tree := openTree(t, t.TempDir(), inputvalidation.TreeConfig{})
	_, err := tree.Create(relPath(t, "f"), 0o1777)
	wantRule(t, "Create", err, inputvalidation.RuleBounds)
	wantRule(t, "WriteFile", tree.WriteFile(relPath(t, "f"), nil, 0o1777), inputvalidation.RuleBounds)
}

func TestForeignConcurrentClose(t *testing.T) {
	tree := openTree(t, t.TempDir(), inputvalidation.TreeConfig{})
	var wg sync.WaitGroup
	opened := make(chan struct{}, 1)
	wg.Go(func() {
		for {
			f, err := tree.Create(relPath(t, "f"), 0o600)
			if err == nil {
				err = errors.Join(f.Close(), tree.Remove(relPath(t, "f")))
			}
			select {
			case opened <- struct{}{}:
			default:
			}
			if err != nil {
				if !errors.Is(err, fs.ErrClosed) {
					t.Errorf("while it is closed Create or Remove = %v", err)
				}
				return
			}
		}
	})
	<-opened
	must(t, tree.Close())
	wg.Wait()
}

func TestForeignRaceRenameDir(t *testing.T) {
	base := quickDir(t)
	plant(t, base, "root/base/a/b/c/f", "root/f")
	must(t, os.WriteFile(filepath.Join(base, "root/base/a/b/c/f"), []byte("public"), 0o600))
	tree := openTree(t, filepath.Join(base, "root"), inputvalidation.TreeConfig{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range raceRounds() {
			_ = os.Rename(filepath.Join(base, "root/base/a"), filepath.Join(base, "b")) // as the second of each pair, it cannot fail
			_ = os.Rename(filepath.Join(base, "b"), filepath.Join(base, "root/base/a"))
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if got, err := tree.ReadFile(relPath(t, "base/a/b/c/f"), 10); err == nil && string(got) != "public" {
			t.Errorf("ReadFile = %q", got)
		}
	}
}

func TestForeignSymlinkToRoot(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "d/")
	must(t, os.Symlink("..", filepath.Join(root, "d/d")))
	tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true})
	sub, err := tree.Sub(relPath(t, "d/d/new"), true)
	must(t, err)
	must(t, sub.Close())
	if fi, err := os.Lstat(filepath.Join(root, "new")); err != nil || !fi.IsDir() {
		t.Errorf("Sub made no directory through the link: %v", err)
	}
}

func TestForeignRemoveDirectory(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "d/")
	wantRule(t, "Remove(d)", openTree(t, root, inputvalidation.TreeConfig{}).Remove(relPath(t, "d")), inputvalidation.RuleNotRegular)
}

func TestForeignWriteReadFile(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	root := t.TempDir()
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	must(t, tree.WriteFile(relPath(t, "f"), []byte("content"), 0o666))
	got, err := tree.ReadFile(relPath(t, "f"), 7)
	fi, err2 := os.Stat(filepath.Join(root, "f"))
	if string(got) != "content" || err != nil || err2 != nil || fi.Mode() != 0o640 {
		t.Errorf("ReadFile = %q, %v; mode %v, %v", got, err, fi.Mode(), err2)
	}
}
