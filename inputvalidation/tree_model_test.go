//go:build unix

package inputvalidation_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"pgregory.net/rapid"
)

// TestTreeModel: whatever is done through a Tree and behind its back, no byte
// of the canary outside is returned or written.
func TestTreeModel(t *testing.T) {
	t.Run("in turn", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			m := newTreeModel(t)
			defer func() { must(t, os.RemoveAll(m.base)) }()
			rt.Repeat(map[string]func(*rapid.T){
				"write": m.write, "create": m.create, "remove": m.remove, "sub": m.sub,
				"foreign rename": m.foreignRename, "foreign link": m.foreignLink, "foreign directory": m.foreignDirectory,
				"": m.check,
			})
		})
	})
	t.Run("at once", treeModelAtOnce)
}

// foreign is what the model holds for a path at which something stands that is
// no regular file, and for a directory that is none.
const foreign = "\x00foreign"

// treeModel is a tree and what it should hold. The directory d stands always, n
// is made by Sub and replaced by the adversary.
type treeModel struct {
	t     testing.TB
	base  string // holds root and the canary
	root  string
	tree  *inputvalidation.Tree
	files map[string]string // content by path, or foreign
	n     string            // "": missing, "dir", or foreign
}

func newTreeModel(t testing.TB) *treeModel {
	t.Helper()
	base := quickDir(t)
	m := &treeModel{t: t, base: base, root: filepath.Join(base, "root"), files: map[string]string{}}
	must(t, os.MkdirAll(filepath.Join(m.root, "d"), 0o755))
	must(t, os.WriteFile(filepath.Join(base, "canary"), []byte(canary), 0o644))
	m.tree = openTree(t, m.root, inputvalidation.TreeConfig{})
	return m
}

func (m *treeModel) name(rt *rapid.T, label string) string {
	return rapid.SampledFrom([]string{"a", "b", "d/a", "d/b", "n/a", "n/b"}).Draw(rt, label)
}

// reachable reports whether the directory of p is one.
func (m *treeModel) reachable(p string) bool { return p[0] != 'n' || m.n == "dir" }

func (m *treeModel) write(rt *rapid.T) {
	p, data := m.name(rt, "p"), rapid.StringN(0, 20, 40).Draw(rt, "data")
	err := m.tree.WriteFile(relPath(m.t, p), []byte(data), 0o600)
	if want := m.reachable(p) && m.files[p] != foreign; (err == nil) != want {
		rt.Fatalf("WriteFile(%s) = %v, want success %v", p, err, want)
	}
	if err == nil {
		m.files[p] = data
	}
}

func (m *treeModel) create(rt *rapid.T) {
	p := m.name(rt, "p")
	_, exists := m.files[p]
	f, err := m.tree.Create(relPath(m.t, p), 0o600)
	if want := m.reachable(p) && !exists; (err == nil) != want {
		rt.Fatalf("Create(%s) = %v, want success %v", p, err, want)
	}
	if err == nil {
		must(m.t, f.Close())
		m.files[p] = ""
	}
}

func (m *treeModel) remove(rt *rapid.T) {
	p := m.name(rt, "p")
	content, exists := m.files[p]
	err := m.tree.Remove(relPath(m.t, p))
	if want := exists && content != foreign; (err == nil) != want {
		rt.Fatalf("Remove(%s) = %v, want success %v", p, err, want)
	}
	if err == nil {
		delete(m.files, p)
	}
}

func (m *treeModel) sub(rt *rapid.T) {
	create := rapid.Bool().Draw(rt, "create")
	sub, err := m.tree.Sub(relPath(m.t, "n"), create)
	if want := m.n == "dir" || create && m.n == ""; (err == nil) != want {
		rt.Fatalf("Sub(n, %v) = %v, want success %v", create, err, want)
	}
	if err == nil {
		m.n = "dir"
		must(m.t, sub.WriteFile(relPath(m.t, "c"), []byte("c"), 0o600))
		m.files["n/c"] = "c"
		must(m.t, sub.Close())
	}
}

func (m *treeModel) foreignRename(rt *rapid.T) {
	p, q := m.name(rt, "p"), m.name(rt, "q")
	if content, exists := m.files[p]; exists && p != q && m.reachable(q) {
		must(m.t, os.Rename(filepath.Join(m.root, p), filepath.Join(m.root, q)))
		m.files[q] = content
		delete(m.files, p)
	}
}

func (m *treeModel) foreignLink(rt *rapid.T) {
	p := m.name(rt, "p")
	if !m.reachable(p) {
		return
	}
	target := rapid.SampledFrom([]string{"../canary", "../../canary", filepath.Join(m.base, "canary"), "a"}).Draw(rt, "target")
	must(m.t, os.RemoveAll(filepath.Join(m.root, p)))
	must(m.t, os.Symlink(target, filepath.Join(m.root, p)))
	m.files[p] = foreign
}

func (m *treeModel) foreignDirectory(rt *rapid.T) {
	n := filepath.Join(m.root, "n")
	must(m.t, os.RemoveAll(n))
	maps.DeleteFunc(m.files, func(p, _ string) bool { return p[0] == 'n' })
	m.n = foreign
	switch rapid.IntRange(0, 3).Draw(rt, "kind") {
	case 0:
		m.n = ""
	case 1:
		must(m.t, os.Symlink("..", n))
	case 2:
		must(m.t, os.Symlink("d", n))
	case 3:
		must(m.t, syscall.Mkfifo(n, 0o600))
	}
}

// check compares what is read and listed with the model, and what is outside
// with what was there.
func (m *treeModel) check(rt *rapid.T) {
	var want []string
	for _, p := range slices.Sorted(maps.Keys(m.files)) {
		content := m.files[p]
		got, err := m.tree.ReadFile(relPath(m.t, p), 1000)
		if ok := content != foreign; (err == nil) != ok || ok && string(got) != content {
			rt.Fatalf("ReadFile(%s) = %q, %v, model %q", p, got, err, content)
		}
		if content != foreign {
			want = append(want, fmt.Sprintf("%s %d", p, len(content)))
		}
	}
	if got := shown(m.tree.Files(m.t.Context())); !slices.Equal(got, want) {
		rt.Fatalf("Files = %q, model %q", got, want)
	}
	for _, pattern := range []string{".tmp-*", "*/.tmp-*"} {
		if left, err := filepath.Glob(filepath.Join(m.root, pattern)); err != nil || len(left) > 0 {
			rt.Fatalf("temporary files are left: %v %v", left, err)
		}
	}
	m.checkOutside(rt)
}

func (m *treeModel) checkOutside(t failer) {
	names, err := os.ReadDir(m.base)
	if err != nil || len(names) != 2 {
		t.Fatalf("beside root stands %v, %v", names, err)
	}
	if data, err := os.ReadFile(filepath.Join(m.base, "canary")); string(data) != canary || err != nil {
		t.Fatalf("the canary was written: %q, %v", data, err)
	}
}

// written is the model of what runs at once: the contents that were ever
// written inside. Nothing else may be read.
type written struct {
	contents sync.Map // content → true, stored before it is written
	count    atomic.Int64
}

func (w *written) fresh() []byte {
	s := fmt.Sprint("content ", w.count.Add(1))
	w.contents.Store(s, true)
	return []byte(s)
}

// Paths that both sides use, and the size of the canary, which no file inside has.
var atOnceNames = []string{"a", "b", "d/a", "d/b", "d"}

const bigCanary = 100_000

// treeModelAtOnce runs the adversary beside the tree.
func treeModelAtOnce(t *testing.T) {
	m := newTreeModel(t)
	must(t, os.Truncate(filepath.Join(m.base, "canary"), bigCanary))
	must(t, syscall.Mkfifo(filepath.Join(m.root, "fifo"), 0o644))
	dir, err := os.OpenRoot(m.root) // so that the adversary itself stays inside
	must(t, err)
	defer dir.Close()
	var w written
	w.contents.Store("", true)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for rng := rand.New(rand.NewPCG(3, 1)); !stop.Load(); {
			w.adversary(dir, rng)
		}
	})
	rng := rand.New(rand.NewPCG(4, 1))
	for range 4 * raceRounds() {
		w.use(t, m.tree, rng)
	}
	stop.Store(true)
	wg.Wait()
	must(t, os.Truncate(filepath.Join(m.base, "canary"), int64(len(canary))))
	m.checkOutside(t)
}

// adversary does one thing. Each may fail, the path may be anything by now.
func (w *written) adversary(dir *os.Root, rng *rand.Rand) {
	p, q := atOnceNames[rng.IntN(len(atOnceNames))], atOnceNames[rng.IntN(len(atOnceNames))]
	switch rng.IntN(6) {
	case 0:
		_ = dir.Rename(p, q)
	case 1:
		_ = dir.RemoveAll(p)
	case 2:
		_ = dir.Symlink([]string{"../canary", "../../canary", "..", "../.."}[rng.IntN(4)], p)
	case 3:
		_ = dir.Mkdir(p, 0o755)
	case 4:
		_ = dir.WriteFile("new", w.fresh(), 0o644) // not at p, where a FIFO may wait
		_ = dir.Rename("new", p)
	case 5:
		_ = dir.Link("fifo", p)
	}
}

// use calls one method. An error is an answer: the path may be anything by now.
func (w *written) use(t *testing.T, tree *inputvalidation.Tree, rng *rand.Rand) {
	p := relPath(t, atOnceNames[rng.IntN(len(atOnceNames))])
	switch rng.IntN(6) {
	case 0:
		_ = tree.WriteFile(p, w.fresh(), 0o644)
	case 1:
		_ = tree.Remove(p)
	case 2:
		if f, err := tree.Create(p, 0o644); err == nil {
			_ = f.Close()
		}
	case 3:
		if sub, err := tree.Sub(p, true); err == nil {
			_ = sub.WriteFile(relPath(t, "a"), w.fresh(), 0o644)
			_ = sub.Close()
		}
	case 4:
		for f := range tree.Files(t.Context()) {
			if f.Path.Base() == "canary" || f.Size == bigCanary {
				t.Errorf("Files lists the canary as %s", f.Path)
			}
		}
	default:
		if got, err := tree.ReadFile(p, 2*bigCanary); err == nil {
			if _, known := w.contents.Load(string(got)); !known {
				t.Errorf("ReadFile(%s) = %.40q, which was never written inside", p, got)
			}
		}
	}
}
