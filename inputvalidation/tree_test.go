//go:build unix

package inputvalidation_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// layout makes the directory that most tests of Tree use: files, and one of
// every kind of thing that is no file. The canary stands outside.
func layout(t testing.TB) (root string) {
	t.Helper()
	base := t.TempDir()
	root = filepath.Join(base, "models")
	must(t, os.MkdirAll(filepath.Join(root, "d/e"), 0o755))
	must(t, os.MkdirAll(filepath.Join(base, "models-evil"), 0o755))
	must(t, os.WriteFile(filepath.Join(base, "canary"), []byte("canary"), 0o644))
	must(t, os.WriteFile(filepath.Join(base, "models-evil/canary"), []byte("canary"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "f"), []byte("top"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "d/e/f"), []byte("deep"), 0o644))
	for link, target := range map[string]string{
		"link-in": "f", "link-dir": "d", "d/link-up": "../f", "link-abs-in": filepath.Join(root, "f"), "link-out": "../canary", "link-dir-out": "..",
		"link-abs-out": filepath.Join(base, "canary"), "link-dangling": "none", "link-loop": "link-loop", "link-fifo": "fifo",
	} {
		must(t, os.Symlink(target, filepath.Join(root, link)))
	}
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o644))
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// VAL-28, VAL-29: what may be opened, by kind of thing and configuration.
func TestTreeOpen(t *testing.T) {
	root := layout(t)
	strict := openTree(t, root, inputvalidation.TreeConfig{})
	within := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true})
	const (
		symlink    = inputvalidation.RuleSymlink
		outside    = inputvalidation.RuleOutside
		notRegular = inputvalidation.RuleNotRegular
		notExist   = inputvalidation.Rule("not_exist")
	)
	for _, c := range []struct {
		path           string
		strict, within inputvalidation.Rule // "" = opens
		want           string
	}{
		{path: "f", want: "top"},
		{path: "d/e/f", want: "deep"},
		{path: "none", strict: notExist, within: notExist},
		{path: "none/f", strict: notExist, within: notExist},
		{path: "f/g", strict: notRegular, within: notRegular},
		{path: "d", strict: notRegular, within: notRegular},
		{path: "fifo", strict: notRegular, within: notRegular},
		{path: "link-in", strict: symlink, want: "top"},
		{path: "link-dir/e/f", strict: symlink, want: "deep"},
		{path: "d/link-up", strict: symlink, want: "top"},
		{path: "link-abs-in", strict: symlink, within: outside}, // as os.Root: absolute targets are outside
		{path: "link-out", strict: symlink, within: outside},
		{path: "link-abs-out", strict: symlink, within: outside},
		{path: "link-dir-out/canary", strict: symlink, within: outside},
		{path: "link-dir-out/models/f", strict: symlink, within: outside},
		{path: "link-dangling", strict: symlink, within: notExist},
		{path: "link-loop", strict: symlink, within: symlink},
		{path: "link-fifo", strict: symlink, within: notRegular},
	} {
		for name, tree := range map[string]*inputvalidation.Tree{"strict": strict, "within": within} {
			rule := c.strict
			if tree == within {
				rule = c.within
			}
			got, err := tree.ReadFile(relPath(t, c.path), 100)
			if rule != "" {
				wantRule(t, name+" ReadFile("+c.path+")", err, rule)
			} else if string(got) != c.want || err != nil {
				t.Errorf("%s ReadFile(%s) = %q, %v, want %q", name, c.path, got, err, c.want)
			}
		}
	}
	_, _, err := strict.Open(inputvalidation.RelPath{})
	wantRule(t, "Open(zero)", err, inputvalidation.RuleEmpty)
}

// VAL-4: also of a file whose size is not known before it is read.
func TestTreeReadFileLimit(t *testing.T) {
	tree := openTree(t, layout(t), inputvalidation.TreeConfig{})
	for limit, rule := range map[int64]inputvalidation.Rule{
		2: inputvalidation.RuleTooLong, 3: "", 4: "", math.MaxInt64 - 1: "",
		0: inputvalidation.RuleBounds, -1: inputvalidation.RuleBounds, math.MaxInt64: inputvalidation.RuleBounds,
	} {
		got, err := tree.ReadFile(relPath(t, "f"), limit)
		if rule != "" {
			wantRule(t, fmt.Sprintf("ReadFile(f, %d)", limit), err, rule)
		} else if string(got) != "top" || err != nil {
			t.Errorf("ReadFile(f, %d) = %q, %v", limit, got, err)
		}
	}
	if fi, err := os.Stat("/proc/version"); err != nil || fi.Size() != 0 {
		t.Skip("no file here that is longer than its size")
	}
	_, err := openTree(t, "/", inputvalidation.TreeConfig{CrossDevice: true}).ReadFile(relPath(t, "proc/version"), 5)
	if e := wantRule(t, "ReadFile(proc/version, 5)", err, inputvalidation.RuleTooLong); e.Limit != 5 || e.Actual != 6 {
		t.Errorf("limit %d, actual %d, want 5, 6", e.Limit, e.Actual)
	}
}

// VAL-27
func TestOpenTree(t *testing.T) {
	root := layout(t)
	for dir, rule := range map[string]inputvalidation.Rule{
		"":                              inputvalidation.RuleEmpty,
		"models":                        inputvalidation.RuleSyntax,
		"./models":                      inputvalidation.RuleSyntax,
		filepath.Join(root, "none"):     "not_exist",
		filepath.Join(root, "f"):        inputvalidation.RuleNotRegular,
		filepath.Join(root, "d\x00bad"): "io",
	} {
		_, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
		wantRule(t, fmt.Sprintf("OpenTree(%q)", dir), err, rule)
	}
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	must(t, os.Rename(root, root+"-moved"))
	must(t, os.Mkdir(root, 0o755))
	must(t, os.WriteFile(filepath.Join(root, "f"), []byte("other"), 0o644))
	if got, err := tree.ReadFile(relPath(t, "f"), 10); string(got) != "top" || err != nil {
		t.Errorf("after the rename ReadFile = %q, %v, want the directory that was opened", got, err)
	}
}

func TestTreeCreateRemove(t *testing.T) {
	root := layout(t)
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	for _, name := range []string{"f", "d", "fifo", "link-in", "link-out", "link-dangling"} {
		if _, err := tree.Create(relPath(t, name), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Create(%s) = %v, want fs.ErrExist", name, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "none")); err == nil {
		t.Error("Create wrote through a dangling link")
	}
	f, err := tree.Create(relPath(t, "d/new"), 0o640)
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err)
	if fi, err := f.Stat(); err != nil || fi.Mode().Perm()&^0o640 != 0 {
		t.Errorf("Create mode = %v, %v", fi.Mode(), err)
	}
	must(t, f.Close())
	must(t, tree.Remove(relPath(t, "d/new")))
	for name, rule := range map[string]inputvalidation.Rule{
		"d/new": "not_exist", "d": inputvalidation.RuleNotRegular, "fifo": inputvalidation.RuleNotRegular, "link-in": inputvalidation.RuleSymlink, "link-dir/e/f": inputvalidation.RuleSymlink,
	} {
		wantRule(t, "Remove("+name+")", tree.Remove(relPath(t, name)), rule)
	}
	_, err = tree.Create(relPath(t, "x"), fs.ModeSetuid|0o700)
	wantRule(t, "Create(setuid)", err, inputvalidation.RuleBounds)
	wantRule(t, "WriteFile(setuid)", tree.WriteFile(relPath(t, "x"), nil, fs.ModeSetuid|0o700), inputvalidation.RuleBounds)
}

// VAL-31
func TestTreeClosed(t *testing.T) {
	for _, cfg := range []inputvalidation.TreeConfig{{}, {FollowWithin: true}} {
		tree := openTree(t, layout(t), cfg)
		f, _, err := tree.Open(relPath(t, "f"))
		must(t, err)
		must(t, tree.Close())
		p := relPath(t, "d/e/f")
		_, _, err0 := tree.Open(inputvalidation.RelPath{})
		_, err00 := tree.Sub(p, true)
		_, _, err1 := tree.Open(p)
		_, err2 := tree.ReadFile(p, 10)
		_, err3 := tree.Create(relPath(t, "n"), 0o600)
		for i, err := range []error{err0, err00, err1, err2, err3, tree.WriteFile(p, nil, 0o600), tree.Remove(p), tree.Close()} {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("method %d after Close = %v, want fs.ErrClosed", i, err)
			}
		}
		if got, err := io.ReadAll(f); string(got) != "top" || err != nil {
			t.Errorf("a file opened before Close reads %q, %v", got, err)
		}
		must(t, f.Close())
	}
}

// VAL-31: readers and writers of one tree in parallel, closed underneath.
func TestTreeConcurrentSafe(t *testing.T) {
	tree := openTree(t, t.TempDir(), inputvalidation.TreeConfig{})
	p := relPath(t, "state.json")
	contents := []string{strings.Repeat("a", 5000), strings.Repeat("b", 100)}
	must(t, tree.WriteFile(p, []byte(contents[0]), 0o600))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 20 {
				if err := tree.WriteFile(p, []byte(contents[i%2]), 0o600); err != nil {
					t.Errorf("WriteFile = %v", err)
				}
				// The file may be swapped between look and open: RuleOutside is right then.
				got, err := tree.ReadFile(p, 10_000)
				if err != nil && !errors.Is(err, inputvalidation.RuleOutside) {
					t.Errorf("ReadFile = %v", err)
				}
				if err == nil && string(got) != contents[0] && string(got) != contents[1] {
					t.Errorf("ReadFile = a mixture of %d bytes", len(got))
				}
			}
		})
	}
	wg.Wait()
	for range 4 {
		wg.Go(func() {
			if _, err := tree.ReadFile(p, 10_000); err != nil && !errors.Is(err, fs.ErrClosed) {
				t.Errorf("ReadFile during Close = %v", err)
			}
		})
	}
	must(t, tree.Close())
	wg.Wait()
}
