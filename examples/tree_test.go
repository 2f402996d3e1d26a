package examples_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/modfile"
)

const (
	root   = "github.com/llorch/llorch/"
	parent = ".." // of this module's folder: the workspace
)

// source is one Go file of the workspace.
type source struct {
	module string // folder of its module, as audit or orchestrator/store/sqlite
	dir    string // folder of its package, beneath the workspace
	name   string // path beneath the workspace
	text   []byte
	ast    *ast.File
}

func (s *source) test() bool { return strings.HasSuffix(s.name, "_test.go") }

// helper reports whether the package exists for the tests of others.
func (s *source) helper() bool {
	return strings.HasSuffix(strings.TrimSuffix(s.ast.Name.Name, "_test"), "test") && s.ast.Name.Name != "test"
}

func (s *source) imports() []string {
	var paths []string
	for _, i := range s.ast.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// workspace is every Go file of every module that go.work uses.
type workspace struct {
	modules []string
	files   []*source
	fset    *token.FileSet
}

// line is where a node stands, for messages.
func (w *workspace) line(n ast.Node) string { return w.fset.Position(n.Pos()).String() }

// readOnce parses the workspace once for all tests.
var readOnce = sync.OnceValues(readWorkspace)

// loadWorkspace skips the test where there is no workspace: a module alone has
// no neighbours to be compared with.
func loadWorkspace(t *testing.T) *workspace {
	t.Helper()
	if _, err := os.Stat(filepath.Join(parent, "go.work")); err != nil {
		t.Skip("outside the workspace: ", err)
	}
	w, err := readOnce()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func readWorkspace() (*workspace, error) {
	data, err := os.ReadFile(filepath.Join(parent, "go.work"))
	if err != nil {
		return nil, err
	}
	file, err := modfile.ParseWork("go.work", data, nil)
	if err != nil {
		return nil, err
	}
	w := &workspace{fset: token.NewFileSet()}
	for _, use := range file.Use {
		w.modules = append(w.modules, path.Clean(use.Path))
	}
	for _, m := range w.modules {
		if err := w.readModule(m); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *workspace) readModule(module string) error {
	return fs.WalkDir(os.DirFS(parent), module, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || name != module && nested(name)):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		s := &source{module: module, dir: path.Dir(name), name: name}
		if s.text, err = os.ReadFile(filepath.Join(parent, filepath.FromSlash(name))); err != nil {
			return err
		}
		s.ast, err = parser.ParseFile(w.fset, name, s.text, parser.ParseComments)
		w.files = append(w.files, s)
		return err
	})
}

// nested reports whether a folder is a module of its own.
func nested(name string) bool {
	_, err := os.Stat(filepath.Join(parent, filepath.FromSlash(name), "go.mod"))
	return err == nil
}

// owner is the module that holds a package of this suite, "" for any other.
func (w *workspace) owner(pkg string) (best string) {
	inside, ok := strings.CutPrefix(pkg, root)
	for _, m := range w.modules {
		if ok && (inside == m || strings.HasPrefix(inside, m+"/")) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// packages groups the files that are not tests by folder, in order.
func (w *workspace) packages() (dirs []string, files map[string][]*source) {
	files = map[string][]*source{}
	for _, s := range w.files {
		if !s.test() {
			files[s.dir] = append(files[s.dir], s)
		}
	}
	for d := range files {
		dirs = append(dirs, d)
	}
	slices.Sort(dirs)
	return dirs, files
}
