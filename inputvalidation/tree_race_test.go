//go:build unix

package inputvalidation_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// raceRounds is how often each path is swapped for a link in a race test.
func raceRounds() int {
	if os.Getenv("LLORCH_NIGHTLY") == "1" {
		return 10_000
	}
	return 500
}

// arena is a tree whose path x/y/f is swapped for links at each of its
// components. What the links lead to holds the same names with other contents:
// "canary" outside the root, "decoy" inside, where only a strict tree may not go.
type arena struct {
	base, root string
	before     string // what is outside, before the race
}

const (
	canary = "canary content"  // 14 bytes
	decoy  = "decoy content!!" // 15 bytes
	honest = "honest"
)

func newArena(t *testing.T) arena {
	t.Helper()
	base := quickDir(t)
	a := arena{base: base, root: filepath.Join(base, "root")}
	put := func(content string, names ...string) {
		for _, name := range names {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(base, name)), 0o755))
			must(t, os.WriteFile(filepath.Join(base, name), []byte(content), 0o644))
		}
	}
	put(honest, "root/x/y/f", "root/x/y/v")
	put(decoy, "root/x/y/g", "root/x/w/f", "root/x/w/v", "root/x/w/only-by-link", "root/u/y/f", "root/u/y/v", "root/u/y/only-by-link")
	put(canary, "f", "v", "out/f", "out/v", "out/outside", "y/f", "y/v", "y/outside", "out/y/f", "out/y/v", "out/y/outside")
	a.before = a.outside(t)
	return a
}

// outside describes everything outside the root.
func (a arena) outside(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(a.base, func(path string, d os.DirEntry, err error) error {
		if err == nil && path == a.root {
			err = filepath.SkipDir
		}
		if err != nil {
			return err
		}
		b.WriteString(path + " " + d.Type().String())
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			must(t, err)
			b.Write(content)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// race calls op until an adversary has swapped raceRounds times and op has run
// as often. The adversary replaces x, x/y and x/y/f by links and back again.
func (a arena) race(t *testing.T, op func(n int)) {
	swaps := []struct{ path, target string }{
		{"x/y/f", "../../../f"},
		{"x/y", "../../out"},
		{"x", ".."},
		{"x", "../out"},
		{"x/y/f", "g"},
		{"x/y", "w"},
		{"x", "u"},
		{"x/y/v", "g"},
		{"x/y/v", "../../../v"},
	}
	var done atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			s := swaps[i%len(swaps)]
			at := filepath.Join(a.root, s.path)
			if os.Rename(at, at+".away") != nil {
				continue // op has removed it
			}
			if os.Symlink(s.target, at) == nil {
				done.Add(1)
			}
			// What op made meanwhile goes, too; it may make it again.
			for range 1000 {
				if os.RemoveAll(at) == nil && os.Rename(at+".away", at) == nil {
					break
				}
			}
		}
	})
	rounds := raceRounds()
	for n := 0; n < rounds || done.Load() < int64(rounds); n++ {
		if op(n); n == 2000*rounds {
			t.Errorf("the adversary made %d swaps of %d", done.Load(), rounds)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	if after := a.outside(t); after != a.before {
		t.Errorf("outside the root there is now\n%s\nbefore it was\n%s", after, a.before)
	}
}

// method calls one method of a tree in an arena and gives what it read to check.
type method func(t *testing.T, tree *inputvalidation.Tree, n int, check func([]byte)) error

func readingMethods() map[string]method {
	return map[string]method{
		"Open": func(t *testing.T, tree *inputvalidation.Tree, _ int, check func([]byte)) error {
			file, _, err := tree.Open(relPath(t, "x/y/f"))
			if err != nil {
				return err
			}
			defer file.Close()
			got, err := io.ReadAll(file)
			check(got)
			return err
		},
		"ReadFile": func(t *testing.T, tree *inputvalidation.Tree, _ int, check func([]byte)) error {
			got, err := tree.ReadFile(relPath(t, "x/y/f"), 100)
			check(got)
			return err
		},
		"Sub": func(t *testing.T, tree *inputvalidation.Tree, _ int, check func([]byte)) error {
			sub, err := tree.Sub(relPath(t, "x/y"), false)
			if err != nil {
				return err
			}
			defer sub.Close()
			got, err := sub.ReadFile(relPath(t, "f"), 100)
			check(got)
			return err
		},
	}
}

func writingMethods() map[string]method {
	return map[string]method{
		"Create": func(t *testing.T, tree *inputvalidation.Tree, n int, _ func([]byte)) error {
			file, err := tree.Create(relPath(t, fmt.Sprintf("x/y/new-%d", n)), 0o600)
			if err == nil {
				err = file.Close()
			}
			return err
		},
		"WriteFile": func(t *testing.T, tree *inputvalidation.Tree, _ int, _ func([]byte)) error {
			return tree.WriteFile(relPath(t, "x/y/v"), []byte(honest), 0o600)
		},
		"Remove": func(t *testing.T, tree *inputvalidation.Tree, n int, _ func([]byte)) error {
			if n%4 == 0 {
				return tree.WriteFile(relPath(t, "x/y/v"), []byte(honest), 0o600)
			}
			return tree.Remove(relPath(t, "x/y/v"))
		},
		"Sub that makes": func(t *testing.T, tree *inputvalidation.Tree, n int, check func([]byte)) error {
			sub, err := tree.Sub(relPath(t, fmt.Sprintf("x/y/new-%d/er", n)), true)
			if err != nil {
				return err
			}
			defer sub.Close()
			got, err := sub.ReadFile(relPath(t, "f"), 100)
			check(got)
			if err == nil {
				t.Error("what Sub makes is not empty")
			}
			return sub.WriteFile(relPath(t, "inside"), []byte(honest), 0o600)
		},
	}
}

// G5: whatever is swapped while a method runs, no byte from outside is
// returned, nothing outside is changed, and a strict tree follows no link
// inside either.
func TestTreeSwapRaces(t *testing.T) {
	for name, cfg := range map[string]inputvalidation.TreeConfig{"strict": {}, "within": {FollowWithin: true}} {
		methods := readingMethods()
		maps.Copy(methods, writingMethods())
		for called, call := range methods {
			t.Run(name+"/"+called, func(t *testing.T) {
				a := newArena(t)
				tree := openTree(t, a.root, cfg)
				check := func(got []byte) {
					if bytes.Contains(got, []byte(canary)) || name == "strict" && bytes.Contains(got, []byte(decoy)) {
						t.Errorf("read through a link: %q", got)
					}
				}
				const quiet = 1 << 20 // a number that no call of the race has
				if err := call(t, tree, quiet, check); err != nil {
					t.Fatalf("without an adversary: %v", err)
				}
				a.race(t, func(n int) { _ = call(t, tree, n, check) }) // refusing is right
			})
		}
	}
}

// golang/go#70007: a walk looks at a directory, and enters what has been put in
// its place. TestTreeFilesChangedMeanwhile is its case without a race.
func TestTrap_WalkRace(t *testing.T) {
	for name, cfg := range map[string]inputvalidation.TreeConfig{"strict": {}, "within": {FollowWithin: true}} {
		t.Run(name, func(t *testing.T) {
			a := newArena(t)
			tree := openTree(t, a.root, cfg)
			if all := shown(tree.Files(t.Context())); !slices.Contains(all, fmt.Sprint("x/y/f ", len(honest))) {
				t.Fatalf("without an adversary: %q", all)
			}
			a.race(t, func(int) {
				for f, err := range tree.Files(t.Context()) {
					path := f.Path.String()
					switch {
					case err != nil:
					case f.Size == int64(len(canary)) || strings.Contains(path, "outside"):
						t.Errorf("Files lists %s of %d bytes, which is outside", path, f.Size)
					case name == "strict" && strings.HasSuffix(path, "only-by-link") && path != "x/w/only-by-link" && path != "u/y/only-by-link" &&
						path != "x.away/w/only-by-link":
						t.Errorf("Files lists %s, which is there through a link only", path)
					case name == "strict" && path == "x/y/f" && f.Size != int64(len(honest)):
						t.Errorf("Files says %d bytes of %s", f.Size, path)
					}
				}
			})
		})
	}
}

// Opening a FIFO waits for a writer, so a FIFO in the place of a file or of a
// directory, even if it comes between the look and the opening, must not be
// waited for. os.Root.OpenRoot and os.OpenRoot would wait.
func TestTrap_FIFOBlocks(t *testing.T) {
	const (
		notRegular = inputvalidation.RuleNotRegular
		notExist   = inputvalidation.Rule("not_exist")
	)
	dir := t.TempDir()
	tree := openTree(t, dir, inputvalidation.TreeConfig{})
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	plant(t, dir, "f", "d/")
	for _, name := range []string{"fifo", "swap"} {
		must(t, syscall.Mkfifo(filepath.Join(dir, name), 0o600))
	}
	before, err := root.Lstat("d")
	must(t, err)
	fifo := relPath(t, "fifo")
	for _, c := range []struct {
		what string
		rule inputvalidation.Rule
		open func() error
	}{
		{"Open", notRegular, func() error { _, _, err := tree.Open(fifo); return err }},
		{"Sub", notRegular, func() error { _, err := tree.Sub(fifo, true); return err }},
		{"OpenTree", notRegular, func() error {
			_, err := inputvalidation.OpenTree(filepath.Join(dir, "fifo"), inputvalidation.TreeConfig{})
			return err
		}},
		{"OpenSameDir", notRegular, func() error { _, err := inputvalidation.OpenSameDir(root, "fifo", before); return err }},
		{"OpenSame", notExist, func() error { // at the second look there is nothing to rename
			_, _, err := inputvalidation.OpenSame(root, "f", func(name string) (os.FileInfo, error) {
				fi, err := root.Lstat(name)
				return fi, errors.Join(err, root.Rename("swap", "f"))
			})
			return err
		}},
	} {
		done := make(chan error, 1)
		go func() { done <- c.open() }()
		select {
		case err := <-done:
			wantRule(t, c.what+" of a FIFO", err, c.rule)
		case <-time.After(20 * time.Second): // the goroutine stays behind, as the server would
			t.Errorf("%s waits for the writer of a FIFO", c.what)
		}
	}
}

// VAL-28: a directory that is swapped between the look and the opening, for
// another or for a link to one, is not entered; one that stays is.
func TestTreeDirectorySwapped(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	plant(t, dir, "d/", "other/")
	before, err := root.Lstat("d")
	must(t, err)
	same, err := inputvalidation.OpenSameDir(root, "d", before)
	must(t, err)
	must(t, same.Close())
	must(t, root.Rename("d", "away"))
	_, err = inputvalidation.OpenSameDir(root, "d", before)
	wantRule(t, "OpenSameDir of nothing", err, "not_exist")
	must(t, root.Symlink("other", "d"))
	_, err = inputvalidation.OpenSameDir(root, "d", before)
	wantRule(t, "OpenSameDir of a link", err, inputvalidation.RuleOutside)
	must(t, root.Remove("d"))
	must(t, root.Rename("other", "d"))
	_, err = inputvalidation.OpenSameDir(root, "d", before)
	wantRule(t, "OpenSameDir of another", err, inputvalidation.RuleOutside)
}

// A FIFO can have the number of the file that was looked at, if that has been
// removed: os.SameFile says that they are one.
func TestTrap_InodeReused(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	for range 100 {
		must(t, root.WriteFile("f", nil, 0o600))
		file, err := root.Lstat("f")
		must(t, err)
		must(t, root.Remove("f"))
		must(t, syscall.Mkfifo(filepath.Join(dir, "f"), 0o600))
		fifo, err := root.Lstat("f")
		must(t, err)
		if os.SameFile(file, fifo) {
			f, _, err := inputvalidation.OpenSame(root, "f", func(string) (os.FileInfo, error) { return file, nil })
			if f != nil || err == nil {
				t.Errorf("a FIFO is opened as a file: %v, %v", f, err)
			}
			return
		}
		must(t, root.Remove("f"))
	}
	t.Skip("this file system does not use numbers again")
}

// The same as a race, for every method that opens.
func TestTreeFIFOSwap(t *testing.T) {
	root := quickDir(t)
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	file, fifo := filepath.Join(root, "f"), filepath.Join(root, "fifo")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	must(t, syscall.Mkfifo(fifo, 0o600))
	var stop atomic.Bool
	var swaps atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; !stop.Load(); swaps.Add(1) {
			for _, move := range [][2]string{{file, file + ".away"}, {fifo, file}, {file, fifo}, {file + ".away", file}} {
				if err := os.Rename(move[0], move[1]); err != nil {
					t.Errorf("adversary: %v", err)
				}
			}
		}
	})
	for n := 0; n < raceRounds() || swaps.Load() < int64(raceRounds()); n++ {
		if got, err := tree.ReadFile(relPath(t, "f"), 10); err == nil && string(got) != "x" {
			t.Errorf("ReadFile = %q", got)
		}
		for f, err := range tree.Files(t.Context()) {
			if err != nil || f.Size != 1 {
				t.Errorf("Files lists %s of %d bytes, %v", f.Path, f.Size, err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
}
