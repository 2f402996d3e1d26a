package sched_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/llorch/llorch/orchestrator/"

// purePackages, each after those it may import.
var purePackages = []string{"queue", "placement", "internal/backoff", "internal/exec", "internal/sched"}

// impureImports are trees of the standard library that the core may not see.
var impureImports = []string{"context", "crypto/rand", "hash/maphash", "io", "log", "math/big", "math/rand", "net", "os", "runtime", "sync", "syscall", "unique", "unsafe", "weak"}

// impureNames are what the core may not use of packages that it may import: clocks,
// the machine's own time zone, the order of maps, goroutines behind iterators.
var impureNames = map[string][]string{
	"time": {"After", "AfterFunc", "LoadLocation", "Local", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"},
	"maps": {"All", "DeleteFunc", "Keys", "Values"},
	"iter": {"Pull", "Pull2"},
}

// mapRanges are the only places that may walk a map, and why no order gets out.
var mapRanges = map[string]string{
	"internal/sched Core.sortedBy": "sorts what it collected",
}

// purity is the state of the check.
type purity struct {
	fset  *token.FileSet
	std   types.Importer
	done  map[string]*types.Package
	found []string
	used  map[string]bool
}

// Import gives the packages of the core to each other.
func (p *purity) Import(path string) (*types.Package, error) {
	if name, ours := strings.CutPrefix(path, modulePath); ours {
		if pkg := p.done[name]; pkg != nil {
			return pkg, nil
		}
		return nil, fmt.Errorf("%s is not of the core, or comes later", path)
	}
	return p.std.Import(path)
}

// check type-checks one package and collects what it may not contain.
func (p *purity) check(name string, src map[string]string) error {
	var files []*ast.File
	for file, text := range src {
		var code any
		if text != "" {
			code = text
		}
		f, err := parser.ParseFile(p.fset, file, code, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	pkg, err := (&types.Config{Importer: p}).Check(modulePath+name, p.fset, files, info)
	if err != nil {
		return err
	}
	p.done[name] = pkg
	for _, f := range files {
		p.imports(f)
		for _, d := range f.Decls {
			ast.Inspect(d, func(n ast.Node) bool { p.node(name, d, n, info); return true })
		}
	}
	return nil
}

func (p *purity) imports(f *ast.File) {
	for _, spec := range f.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		for _, bad := range impureImports {
			if path == bad || strings.HasPrefix(path, bad+"/") {
				p.fault(spec, "imports "+path)
			}
		}
	}
}

func (p *purity) fault(n ast.Node, what string) {
	p.found = append(p.found, fmt.Sprintf("%s: %s", p.fset.Position(n.Pos()), what))
}

func (p *purity) node(pkg string, decl ast.Decl, n ast.Node, info *types.Info) {
	switch n := n.(type) {
	case *ast.GoStmt:
		p.fault(n, "starts a goroutine")
	case *ast.SelectStmt:
		p.fault(n, "selects")
	case *ast.ChanType:
		p.fault(n, "has a channel")
	case *ast.Ident:
		if o := info.Uses[n]; o != nil && o.Pkg() != nil && o.Parent() == o.Pkg().Scope() && slices.Contains(impureNames[o.Pkg().Path()], n.Name) {
			p.fault(n, "uses "+o.Pkg().Path()+"."+n.Name)
		}
	case *ast.SendStmt:
		p.fault(n, "sends")
	case *ast.BasicLit:
		if n.Kind == token.STRING && strings.Contains(n.Value, "%p") {
			p.fault(n, "spells a pointer")
		}
	case *ast.RangeStmt:
		_, param := types.Unalias(info.TypeOf(n.X)).(*types.TypeParam)
		if _, ok := info.TypeOf(n.X).Underlying().(*types.Map); ok || param {
			where := pkg + " " + funcName(decl)
			if p.used[where] = true; mapRanges[where] == "" {
				p.fault(n, "walks a map in "+where)
			}
		}
	}
	if e, ok := n.(ast.Expr); ok {
		if b, ok := info.TypeOf(e).(*types.Basic); ok && b.Info()&(types.IsFloat|types.IsComplex) != 0 {
			p.fault(n, "has a float")
		} else if ok && b.Kind() == types.Uintptr {
			p.fault(n, "has an address")
		}
	}
}

// funcName is "Type.Method" or "Function".
func funcName(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok {
		return ""
	}
	if f.Recv == nil {
		return f.Name.Name
	}
	recv := f.Recv.List[0].Type
	if star, ok := recv.(*ast.StarExpr); ok {
		recv = star.X
	}
	return types.ExprString(recv) + "." + f.Name.Name
}

func newPurity() *purity {
	fset := token.NewFileSet()
	return &purity{fset: fset, std: importer.ForCompiler(fset, "gc", nil), done: map[string]*types.Package{}, used: map[string]bool{}}
}

// TestPure: the core is a function of its input: no clock, no chance, no I/O, no
// goroutine, no float, and no order of a map in what it decides (ORC-120).
func TestPure(t *testing.T) {
	p := newPurity()
	for _, name := range purePackages {
		paths, err := filepath.Glob(filepath.FromSlash("../../" + name + "/*.go"))
		if err != nil {
			t.Fatal(err)
		}
		src := map[string]string{}
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				src[path] = ""
			}
		}
		if len(src) == 0 {
			t.Fatalf("%s has no files", name)
		}
		if err := p.check(name, src); err != nil {
			t.Fatal(err)
		}
	}
	for _, fault := range p.found {
		t.Error(fault)
	}
	for where := range mapRanges {
		if !p.used[where] {
			t.Errorf("%s walks no map: strike it from the list", where)
		}
	}
}

// TestPureCatches: each thing that the core may not have is found where it is
// planted.
func TestPureCatches(t *testing.T) {
	for _, c := range []struct{ code, want string }{
		{"import \"sync\"\nvar mu sync.Mutex", "imports sync"},
		{"import \"math/rand/v2\"\nvar x = rand.Int()", "imports math/rand/v2"},
		{"import \"time\"\nfunc f() time.Time { return time.Now() }", "uses time.Now"},
		{"import \"time\"\nvar now = time.Now", "uses time.Now"},
		{"import \"time\"\nvar zone = time.Local", "uses time.Local"},
		{"import \"maps\"\nfunc f(m map[int]int) { for range maps.Keys(m) {} }", "uses maps.Keys"},
		{"import \"iter\"\nfunc f(s iter.Seq[int]) { _, stop := iter.Pull(s); stop() }", "uses iter.Pull"},
		{"func f[M map[int]int](m M) { for range m {} }", "walks a map in queue f"},
		{"import \"fmt\"\nfunc f(x *int) string { return fmt.Sprintf(\"%p\", x) }", "spells a pointer"},
		{"func f(n int) uintptr { return uintptr(n) }", "has an address"},
		{"import \"time\"\nfunc f(d time.Duration) bool { return d.Seconds() > 1 }", "has a float"},
		{"type rate float32", "has a float"},
		{"type T struct{ share struct{ ppm complex64 } }", "has a float"},
		{"func f() { go f() }", "starts a goroutine"},
		{"var c = make(chan int)", "has a channel"},
		{"func f() { select {} }", "selects"},
		{"func f(m map[int]int) { for range m {} }", "walks a map in queue f"},
		{"var x = 1.5", "has a float"},
		{"func f(n int) int { return int(float64(n)) }", "has a float"},
	} {
		p := newPurity()
		if err := p.check("queue", map[string]string{"planted.go": "package queue\n" + c.code}); err != nil {
			t.Errorf("%q: %v", c.code, err)
			continue
		}
		if !slices.ContainsFunc(p.found, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%q: found %q, want %q", c.code, p.found, c.want)
		}
	}
	if err := newPurity().check("queue", map[string]string{"planted.go": "package queue\nimport _ \"github.com/llorch/llorch/orchestrator/store\""}); err == nil {
		t.Error("an import of a package outside the core was let through")
	}
}
