//go:build unix

package inputvalidation_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// VAL-28, VAL-29: what Sub opens, by kind of thing, configuration and create.
func TestTreeSub(t *testing.T) {
	const (
		symlink    = inputvalidation.RuleSymlink
		outside    = inputvalidation.RuleOutside
		notRegular = inputvalidation.RuleNotRegular
		notExist   = inputvalidation.Rule("not_exist")
	)
	for _, c := range []struct {
		path                                       string
		strict, within, strictCreate, withinCreate inputvalidation.Rule // "" = opens
	}{
		{path: "d"},
		{path: "d/e"},
		{path: "none", strict: notExist, within: notExist},
		{path: "d/n/o/p", strict: notExist, within: notExist},
		{"f", notRegular, notRegular, notRegular, notRegular},
		{"f/x", notRegular, notRegular, notRegular, notRegular},
		{"fifo", notRegular, notRegular, notRegular, notRegular},
		{path: "link-dir", strict: symlink, strictCreate: symlink},
		{path: "link-dir/e", strict: symlink, strictCreate: symlink},
		{path: "link-dir/new", strict: symlink, within: notExist, strictCreate: symlink},
		{"link-in", symlink, notRegular, symlink, notRegular},
		{"link-dangling", symlink, notExist, symlink, notExist},
		{"link-dangling/x", symlink, notExist, symlink, notExist},
		{"link-dir-out", symlink, outside, symlink, outside},
		{"link-dir-out/made", symlink, outside, symlink, outside},
		{"link-loop", symlink, symlink, symlink, symlink},
	} {
		root := layout(t)
		for i, rule := range []inputvalidation.Rule{c.strict, c.within, c.strictCreate, c.withinCreate} {
			follow, create := i%2 == 1, i >= 2
			tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: follow})
			sub, err := tree.Sub(relPath(t, c.path), create)
			if rule != "" {
				wantRule(t, "Sub("+c.path+")", err, rule)
			} else if err != nil {
				t.Errorf("follow %v: Sub(%s, %v) = %v", follow, c.path, create, err)
			} else {
				must(t, sub.WriteFile(relPath(t, "here"), []byte(c.path), 0o600))
				if got, err := os.ReadFile(filepath.Join(root, c.path, "here")); string(got) != c.path || err != nil {
					t.Errorf("Sub(%s) writes elsewhere: %q, %v", c.path, got, err)
				}
				must(t, sub.Close())
			}
		}
		for _, name := range []string{"../made", "none/x"} {
			if _, err := os.Lstat(filepath.Join(root, name)); err == nil {
				t.Errorf("Sub(%s) made %s", c.path, name)
			}
		}
	}
}

// A Tree made by Sub stands by itself: its own handle, its own border, the
// rules of the one it came from.
func TestTreeSubIsATree(t *testing.T) {
	root := layout(t)
	tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true, MaxDepth: 2})
	sub, err := tree.Sub(relPath(t, "d"), false)
	must(t, err)
	defer sub.Close()
	wantList(t, "Files of d", sub.Files(t.Context()), "e/f 4", "link-up! outside") // it leads to ../f
	plant(t, root, "d/e/g/h")
	wantList(t, "Files of d", sub.Files(t.Context()), "e/f 4", "e/g! depth")
	must(t, os.Rename(filepath.Join(root, "d"), filepath.Join(root, "moved")))
	must(t, tree.Close())
	if got, err := sub.ReadFile(relPath(t, "e/f"), 10); string(got) != "deep" || err != nil {
		t.Errorf("after Close of its origin ReadFile = %q, %v", got, err)
	}
	if _, err := tree.Sub(relPath(t, "moved"), true); !errors.Is(err, fs.ErrClosed) { // VAL-31
		t.Errorf("Sub after Close = %v, want fs.ErrClosed", err)
	}
	_, err = sub.Sub(inputvalidation.RelPath{}, true)
	wantRule(t, "Sub(zero)", err, inputvalidation.RuleEmpty)
}

// FollowWithin follows a link that leads up and stays inside, for every method.
func TestTreeFollowsUp(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "blobs/1", "snap/v1/")
	must(t, os.Symlink("../../blobs", filepath.Join(root, "snap/v1/all")))
	tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true})
	must(t, tree.WriteFile(relPath(t, "snap/v1/all/2"), []byte("two"), 0o600))
	f, err := tree.Create(relPath(t, "snap/v1/all/3"), 0o600)
	must(t, err)
	must(t, f.Close())
	must(t, tree.Remove(relPath(t, "snap/v1/all/1")))
	sub, err := tree.Sub(relPath(t, "snap/v1/all/new/er"), true)
	must(t, err)
	must(t, sub.WriteFile(relPath(t, "4"), nil, 0o600))
	must(t, sub.Close())
	wantList(t, "Files", tree.Files(t.Context()),
		"blobs/2 3", "blobs/3 0", "blobs/new/er/4 0")
}

// What Sub makes belongs to its owner alone.
func TestTreeSubMode(t *testing.T) {
	root := t.TempDir()
	sub, err := openTree(t, root, inputvalidation.TreeConfig{}).Sub(relPath(t, "a/b"), true)
	must(t, err)
	must(t, sub.Close())
	for _, name := range []string{"a", "a/b"} {
		fi, err := os.Stat(filepath.Join(root, name))
		must(t, err)
		if fi.Mode() != fs.ModeDir|0o700 {
			t.Errorf("mode of %s = %v, want drwx------", name, fi.Mode())
		}
	}
}

// stepDir notes the steps of MakeDir and fails at one of them.
type stepDir struct {
	steps  []string
	failAt string
	err    error
}

func (d *stepDir) step(name string) error {
	d.steps = append(d.steps, name)
	if name == d.failAt {
		return d.err
	}
	return nil
}

func (d *stepDir) Mkdir(name string, _ fs.FileMode) error { return d.step("mkdir " + name) }
func (d *stepDir) Sync() error                            { return d.step("sync") }

// VAL-30: a directory that Sub makes is synced into the one above it, also when
// somebody else made it first; a failed step is an error.
func TestTreeSubDurable(t *testing.T) {
	for _, c := range []struct {
		failAt string
		err    error
		rule   inputvalidation.Rule
		steps  []string
	}{
		{steps: []string{"mkdir d", "sync"}},
		{failAt: "mkdir d", err: syscall.EEXIST, steps: []string{"mkdir d", "sync"}},
		{failAt: "mkdir d", err: syscall.ENOSPC, rule: "io", steps: []string{"mkdir d"}},
		{failAt: "mkdir d", err: syscall.EACCES, rule: "permission", steps: []string{"mkdir d"}},
		{failAt: "sync", err: syscall.EIO, rule: "io", steps: []string{"mkdir d", "sync"}},
	} {
		d := &stepDir{failAt: c.failAt, err: &fs.PathError{Op: "mkdir", Path: "secret-path", Err: c.err}}
		err := inputvalidation.MakeDir(d, "d")
		if c.rule != "" {
			wantRule(t, "MakeDir", err, c.rule)
		} else if err != nil {
			t.Errorf("MakeDir = %v", err)
		}
		if !slices.Equal(d.steps, c.steps) {
			t.Errorf("steps are %q, want %q", d.steps, c.steps)
		}
	}
}
