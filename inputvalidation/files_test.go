//go:build unix

package inputvalidation_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// shown renders a listing: "path size" of a file, "path! rule" of an error.
func shown(files iter.Seq2[inputvalidation.TreeFile, error]) (lines []string) {
	for f, err := range files {
		line := fmt.Sprintf("%s %d", f.Path, f.Size)
		if e, ok := errors.AsType[*inputvalidation.Error](err); ok {
			line = f.Path.String() + "! " + string(e.Rule)
		} else if err != nil {
			line = f.Path.String() + "! " + err.Error()
		}
		lines = append(lines, line)
	}
	return lines
}

func wantList(t *testing.T, what string, files iter.Seq2[inputvalidation.TreeFile, error], want ...string) {
	t.Helper()
	if got := shown(files); !slices.Equal(got, want) {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
}

// plant makes empty files and the directories above them; a name that ends in
// a slash is a directory.
func plant(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		must(t, os.MkdirAll(filepath.Dir(root+"/"+name+"x"), 0o755))
		if !strings.HasSuffix(name, "/") {
			must(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
		}
	}
}

// VAL-30: regular files only, by kind of entry and configuration.
func TestTreeFiles(t *testing.T) {
	root := layout(t)
	strict := openTree(t, root, inputvalidation.TreeConfig{}).Files(t.Context())
	wantList(t, "strict", strict, "d/e/f 4", "f 3")
	wantList(t, "strict again", strict, "d/e/f 4", "f 3")
	within := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true})
	wantList(t, "within", within.Files(t.Context()),
		"d/e/f 4", "d/link-up 3", "f 3", "link-abs-in! outside", "link-abs-out! outside", "link-dangling! not_exist",
		"link-dir-out! outside", "link-in 3", "link-loop! symlink", "link-out! outside")

	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	must(t, os.Chtimes(filepath.Join(root, "f"), when, when))
	for f, err := range within.Files(t.Context()) {
		if f.Path.String() == "f" && (err != nil || !f.ModTime.Equal(when)) {
			t.Errorf("ModTime = %v, %v, want %v", f.ModTime, err, when)
		}
		if err != nil && (f.Size != 0 || !f.ModTime.IsZero()) {
			t.Errorf("beside %v stands %+v, want the path only", err, f)
		}
	}
}

// VAL-30: the order is that of the components, directories in their place.
func TestTreeFilesOrder(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "b", "a.txt", "a/z", "a/b/c", "B/x", "\u00e9", "a-b", "empty/")
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	wantList(t, "Files", tree.Files(t.Context()), "B/x 0", "a/b/c 0", "a/z 0", "a-b 0", "a.txt 0", "b 0", "\u00e9 0")
}

// VAL-30: an entry that no RelPath can name is an error at its directory; the
// files that WriteFile leaves after a crash are not listed.
func TestTreeFilesOddNames(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "-x", "con", "a:b", "tail.", "new\nline", "bad\xff", "-dir/inside", "ok", "s/-y", "s/z", "s/\u202e",
		".tmp-0123456789abcdef", "s/.tmp-ffffffffffffffff", ".tmp-0123456789ABCDEF", ".tmp-0123456789abcde", ".tmp-0123456789abcdef0")
	dir, err := os.OpenRoot(root)
	must(t, err)
	defer dir.Close()
	crash := &faultyDir{WriteDir: inputvalidation.RootDir{Root: dir}, failAt: 6, dies: true} // before the rename
	if err := inputvalidation.ReplaceFile(crash, "ok", []byte("new"), 0o600); err == nil {
		t.Fatal("the write did not fail")
	}
	if left, _ := filepath.Glob(filepath.Join(root, ".tmp-*")); len(left) != 5 {
		t.Fatalf("after the crash there are %q, want one more", left)
	}
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	wantList(t, "Files", tree.Files(t.Context()),
		"! syntax", "! syntax", // -dir, -x
		".tmp-0123456789ABCDEF 0", ".tmp-0123456789abcde 0", ".tmp-0123456789abcdef0 0",
		"! charset", "! utf8", "! syntax", "! charset", // a:b, bad, con, new line
		"ok 0", "s! syntax", "s/z 0", "s! charset", "! syntax")
}

// VAL-30: MaxDepth is the number of components of the longest path; a
// directory in that place ends the listing.
func TestTreeFilesDepth(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 0} {
		deep := limit
		if limit == 0 {
			deep = 32
		}
		root := t.TempDir()
		inside := strings.Repeat("d/", deep-1) + "f"
		plant(t, root, inside)
		tree := openTree(t, root, inputvalidation.TreeConfig{MaxDepth: limit})
		wantList(t, fmt.Sprintf("MaxDepth %d, at the bound", limit), tree.Files(t.Context()), inside+" 0")
		over := strings.Repeat("d/", deep-1) + "h/"
		plant(t, root, over, "i")
		wantList(t, fmt.Sprintf("MaxDepth %d, over the bound", limit), tree.Files(t.Context()),
			inside+" 0", strings.TrimSuffix(over, "/")+"! depth")
		for _, err := range tree.Files(t.Context()) {
			if e, ok := errors.AsType[*inputvalidation.Error](err); ok && e.Limit != deep {
				t.Errorf("limit = %d, want %d", e.Limit, deep)
			}
		}
	}
}

// VAL-30: MaxEntries counts every entry of every directory, one below, at and
// above the bound, also in a directory that is read in several pieces.
func TestTreeFilesEntries(t *testing.T) {
	for _, n := range []int{7, 1100} {
		root := t.TempDir()
		plant(t, root, ".tmp-0123456789abcdef", "-odd", "a/b", "a/c")
		must(t, os.Symlink("nowhere", filepath.Join(root, "link")))
		for i := range n - 6 {
			plant(t, root, fmt.Sprintf("m/%d", i))
		}
		for limit, whole := range map[int]bool{n: false, n + 1: true, n + 2: true, 0: true} {
			got := shown(openTree(t, root, inputvalidation.TreeConfig{MaxEntries: limit}).Files(t.Context()))
			want := n - 6 + 3 // files, and the odd name
			if !whole {
				want = 4 // what is before m, and the error
			}
			if last := got[len(got)-1]; len(got) != want || strings.HasPrefix(last, "m! too_long") == whole {
				t.Errorf("%d entries, MaxEntries %d: %d lines, the last %q", n+1, limit, len(got), last)
			}
		}
	}
	root := t.TempDir()
	plant(t, root, "a", "b", "c")
	for f, err := range openTree(t, root, inputvalidation.TreeConfig{MaxEntries: 2}).Files(t.Context()) {
		if e := wantRule(t, "Files", err, inputvalidation.RuleTooLong); e.Limit != 2 || e.Actual != 3 || !f.Path.IsZero() {
			t.Errorf("%+v at %q, want limit 2, actual 3 at the top", e, f.Path)
		}
	}
}

// The bounds themselves are checked when the tree is opened.
func TestTreeConfigBounds(t *testing.T) {
	for cfg, ok := range map[inputvalidation.TreeConfig]bool{
		{MaxDepth: -1}: false, {MaxDepth: 1}: true, {MaxDepth: 2048}: true, {MaxDepth: 2049}: false, {MaxEntries: -1}: false, {MaxEntries: 1}: true,
	} {
		tree, err := inputvalidation.OpenTree(t.TempDir(), cfg)
		if !ok {
			wantRule(t, fmt.Sprintf("OpenTree(%+v)", cfg), err, inputvalidation.RuleBounds)
		} else if err != nil {
			t.Errorf("OpenTree(%+v) = %v", cfg, err)
		} else {
			must(t, tree.Close())
		}
	}
}

// VAL-30: a cancelled listing yields the error of its context, once, and stops.
func TestTreeFilesCancelled(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "a/1", "a/2", "b/3", "c")
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	var got []string
	for f, err := range tree.Files(ctx) {
		got = append(got, fmt.Sprint(f.Path, err, errors.Is(err, context.Canceled)))
		cancel()
	}
	if want := []string{"a/1 <nil> false", "a context canceled true"}; !slices.Equal(got, want) {
		t.Errorf("cancelled in the middle: %q, want %q", got, want)
	}
	wantList(t, "cancelled before", tree.Files(ctx), "! context canceled")
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	wantList(t, "too late", tree.Files(late), "! context deadline exceeded")
}

// tired is a context that is cancelled when it is asked for the n-th time.
type tired struct {
	context.Context
	n int
}

func (c *tired) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// VAL-30: wherever a listing notices that it is cancelled, that is its end.
func TestTreeFilesCancelledAnywhere(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "a/b/1", "a/b/2", "a/c/3", "d/4", "e")
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	all := shown(tree.Files(t.Context()))
	const checks = 9 // at least one for each entry
	for n := range 5 * checks {
		got := shown(tree.Files(&tired{t.Context(), n}))
		if i := slices.IndexFunc(got, func(s string) bool { return strings.HasSuffix(s, "! context canceled") }); i >= 0 {
			if i != len(got)-1 || !slices.Equal(got[:i], all[:i]) {
				t.Errorf("cancelled at check %d: %q", n, got)
			}
		} else if !slices.Equal(got, all) || n < checks {
			t.Errorf("not cancelled at check %d: %q", n, got)
		}
	}
}

// VAL-31: a tree closed before or in the middle of a listing ends it.
func TestTreeFilesClosed(t *testing.T) {
	for _, cfg := range []inputvalidation.TreeConfig{{}, {FollowWithin: true}} {
		root := t.TempDir()
		plant(t, root, "a/1", "a/b/2", "c")
		tree := openTree(t, root, cfg)
		var last error
		n := 0
		for _, err := range tree.Files(t.Context()) {
			n, last = n+1, err
			_ = tree.Close() // the second time says that it is closed
		}
		if n != 2 || !errors.Is(last, fs.ErrClosed) {
			t.Errorf("closed in the middle: %d items, the last %v", n, last)
		}
		for f, err := range tree.Files(t.Context()) {
			if !errors.Is(err, fs.ErrClosed) || !f.Path.IsZero() {
				t.Errorf("closed before: %v, %v", f, err)
			}
		}
	}
}

// What vanishes after its directory was read is left out, and what is put in
// its place is looked at for itself.
func TestTreeFilesChangedMeanwhile(t *testing.T) {
	for follow, want := range map[bool][]string{
		false: {"a", "d/1", "d/3", "z"},
		true:  {"a", "d/1", "d/3!", "out!", "z"}, // links are followed from the top, where d is no longer
	} {
		base := t.TempDir()
		root := filepath.Join(base, "root")
		plant(t, base, "root/a", "root/b", "root/c/x", "root/d/1", "root/d/2", "root/d/3", "root/out/y", "root/z", "outside/canary")
		tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: follow})
		var got []string
		for f, err := range tree.Files(t.Context()) {
			line := f.Path.String()
			if err != nil {
				line += "!"
			}
			got = append(got, line)
			switch line {
			case "a":
				must(t, os.Remove(filepath.Join(root, "b")))
				must(t, os.RemoveAll(filepath.Join(root, "c")))
				must(t, os.RemoveAll(filepath.Join(root, "out")))
				must(t, os.Symlink("../outside", filepath.Join(root, "out")))
			case "d/1":
				must(t, os.Remove(filepath.Join(root, "d/2")))
				must(t, os.Rename(filepath.Join(root, "d"), filepath.Join(base, "moved")))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("follow %v: %q, want %q", follow, got, want)
		}
	}
}

// A followed link to a directory above is an error, and no endless listing.
func TestTreeFilesLinkCycle(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "a/b/f", "z")
	must(t, os.Symlink("..", filepath.Join(root, "a/b/up")))
	must(t, os.Symlink(".", filepath.Join(root, "a/self")))
	must(t, os.Symlink("../..", filepath.Join(root, "a/b/top")))
	tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true})
	wantList(t, "Files", tree.Files(t.Context()), "a/b/f 0", "a/b/top! symlink", "a/b/up! symlink", "a/self! symlink", "z 0")
	at := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true, MaxDepth: 3})
	wantList(t, "Files at MaxDepth", at.Files(t.Context()), "a/b/f 0", "a/b/top! symlink", "a/b/up! symlink", "a/self! symlink", "z 0")
}
