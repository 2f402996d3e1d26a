//go:build unix

package inputvalidation_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"pgregory.net/rapid"
)

// TestTreeModel compares a Tree with a map while a second actor renames,
// removes and links in the same directory. Invariants: what is read is what the
// model holds, and no byte of the canary outside is ever returned.
func TestTreeModel(t *testing.T) {
	names := []string{"a", "b", "d/a", "d/b"}
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp("", "treemodel")
		must(t, err)
		defer os.RemoveAll(base)
		root := filepath.Join(base, "root")
		must(t, os.MkdirAll(filepath.Join(root, "d"), 0o755))
		must(t, os.WriteFile(filepath.Join(base, "canary"), []byte("canary"), 0o644))
		tree, err := inputvalidation.OpenTree(root, inputvalidation.TreeConfig{})
		must(t, err)
		defer tree.Close()
		const link = "\x00link" // model value of a path that is a symbolic link
		model := map[string]string{}
		name := rapid.SampledFrom(names)
		exists := func(p string) bool { _, ok := model[p]; return ok }
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				p, data := name.Draw(rt, "p"), rapid.StringN(0, 20, 40).Draw(rt, "data")
				err := tree.WriteFile(relPath(t, p), []byte(data), 0o600)
				if wantErr := model[p] == link; (err != nil) != wantErr {
					rt.Fatalf("WriteFile(%s) = %v, want an error: %v", p, err, wantErr)
				}
				if err == nil {
					model[p] = data
				}
			},
			"create": func(rt *rapid.T) {
				p := name.Draw(rt, "p")
				f, err := tree.Create(relPath(t, p), 0o600)
				if (err != nil) != exists(p) {
					rt.Fatalf("Create(%s) = %v, exists %v", p, err, exists(p))
				}
				if err == nil {
					must(t, f.Close())
					model[p] = ""
				}
			},
			"remove": func(rt *rapid.T) {
				p := name.Draw(rt, "p")
				err := tree.Remove(relPath(t, p))
				if want := exists(p) && model[p] != link; (err == nil) != want {
					rt.Fatalf("Remove(%s) = %v, want success %v", p, err, want)
				}
				if err == nil {
					delete(model, p)
				}
			},
			"foreign rename": func(rt *rapid.T) {
				p, q := name.Draw(rt, "p"), name.Draw(rt, "q")
				if exists(p) && p != q {
					must(t, os.Rename(filepath.Join(root, p), filepath.Join(root, q)))
					model[q] = model[p]
					delete(model, p)
				}
			},
			"foreign link": func(rt *rapid.T) {
				p := name.Draw(rt, "p")
				target := rapid.SampledFrom([]string{"../canary", "../../canary", filepath.Join(base, "canary"), "a"}).Draw(rt, "target")
				must(t, os.RemoveAll(filepath.Join(root, p)))
				must(t, os.Symlink(target, filepath.Join(root, p)))
				model[p] = link
			},
			"": func(rt *rapid.T) {
				for _, p := range names {
					got, err := tree.ReadFile(relPath(t, p), 1000)
					if want := exists(p) && model[p] != link; (err == nil) != want || want && string(got) != model[p] {
						rt.Fatalf("ReadFile(%s) = %q, %v, model %q", p, got, err, model[p])
					}
				}
				left, err := filepath.Glob(filepath.Join(root, "*", ".tmp-*"))
				if more, _ := filepath.Glob(filepath.Join(root, ".tmp-*")); err != nil || len(left)+len(more) > 0 {
					rt.Fatalf("temporary files are left: %v %v", left, more)
				}
				if data, err := os.ReadFile(filepath.Join(base, "canary")); string(data) != "canary" || err != nil {
					rt.Fatalf("the canary was written: %q, %v; model %v", data, err, slices.Sorted(maps.Keys(model)))
				}
			},
		})
	})
}

// raceRounds is the number of swaps that TestTreeSwapRaces looks through.
const raceRounds = 500

// TestTreeSwapRaces reads through a path whose file and whose directory are
// swapped against links to the outside as fast as another goroutine can.
func TestTreeSwapRaces(t *testing.T) {
	for name, cfg := range map[string]inputvalidation.TreeConfig{"strict": {}, "within": {FollowWithin: true}} {
		t.Run(name, func(t *testing.T) {
			root := layout(t)
			tree := openTree(t, root, cfg)
			must(t, os.MkdirAll(filepath.Join(root, "x/y"), 0o755))
			must(t, os.WriteFile(filepath.Join(root, "x/y/canary"), []byte("inside"), 0o644))
			must(t, os.MkdirAll(filepath.Join(filepath.Dir(root), "y"), 0o755)) // what x/../y would reach
			must(t, os.WriteFile(filepath.Join(filepath.Dir(root), "y/canary"), []byte("canary"), 0o644))
			swaps := []struct{ path, target string }{
				{"x/y/canary", "../../../canary"}, {"x/y", "../../models-evil"}, {"x", ".."},
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					s := swaps[i%len(swaps)]
					at := filepath.Join(root, s.path)
					must2(t, os.Rename(at, at+".away"))
					must2(t, os.Symlink(s.target, at))
					must2(t, os.Remove(at))
					must2(t, os.Rename(at+".away", at))
				}
			})
			p := relPath(t, "x/y/canary")
			read := 0
			for range raceRounds {
				got, err := tree.ReadFile(p, 100)
				if bytes.Contains(got, []byte("canary")) {
					t.Fatal("a byte from outside was returned")
				}
				if err == nil {
					read++
				}
				if err := tree.WriteFile(relPath(t, "x/y/out"), []byte("w"), 0o600); err == nil {
					read++
				}
			}
			close(stop)
			wg.Wait()
			for _, outside := range []string{"models-evil/out", "y/out", "out"} {
				if _, err := os.Lstat(filepath.Join(filepath.Dir(root), outside)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a file was written outside: %s", outside)
				}
			}
			t.Logf("%d of %d calls met the file in place", read, 2*raceRounds)
		})
	}
}

// must2 is must for a goroutine that is not the test's own.
func must2(t *testing.T, err error) {
	if err != nil {
		t.Errorf("adversary: %v", err)
	}
}

// A FIFO put in the place of the file between look and open blocks nobody.
func TestTreeFIFOSwap(t *testing.T) {
	root := t.TempDir()
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	file, fifo := filepath.Join(root, "f"), filepath.Join(root, "fifo")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	must(t, syscall.Mkfifo(fifo, 0o600))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				must2(t, os.Rename(file, file+".away"))
				must2(t, os.Rename(fifo, file))
				must2(t, os.Rename(file, fifo))
				must2(t, os.Rename(file+".away", file))
			}
		}
	})
	for range raceRounds {
		if got, err := tree.ReadFile(relPath(t, "f"), 10); err == nil && string(got) != "x" {
			t.Errorf("ReadFile = %q", got)
		}
	}
	close(stop)
	wg.Wait()
}
