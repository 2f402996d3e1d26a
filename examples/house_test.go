package examples_test

import (
	"bytes"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// environmentReaders read the process's environment outside of examples, each
// with its reason.
func environmentReaders() map[string]string {
	return map[string]string{
		"poolcore/executor.go": "engines inherit TZ and nothing else",
		"secrets/source.go":    "the default of Config.LookupEnv; reading secrets is its purpose",
	}
}

// TestPackageState refuses init functions and variables that a package could
// change behind its users' backs.
func TestPackageState(t *testing.T) {
	w := loadWorkspace(t)
	dirs, files := w.packages()
	for _, dir := range dirs {
		written := writtenNames(files[dir])
		for _, s := range files[dir] {
			for _, d := range s.ast.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Name.Name == "init" && d.Recv == nil {
						t.Errorf("%s: init function", w.line(d))
					}
				case *ast.GenDecl:
					for _, id := range changeable(d, written) {
						t.Errorf("%s: package variable %s can change", w.line(id), id.Name)
					}
				}
			}
		}
	}
}

// changeable lists the variables of a declaration that are neither a name for a
// value, such as a table that nothing writes to, nor embedded files.
func changeable(d *ast.GenDecl, written map[string]bool) (names []*ast.Ident) {
	if d.Tok != token.VAR {
		return nil
	}
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		for i, id := range v.Names {
			fixed := embedded(d.Doc) || embedded(v.Doc) || i < len(v.Values) && isValue(id.Name, v.Values[i])
			if id.Name != "_" && (!fixed || written[id.Name]) {
				names = append(names, id)
			}
		}
	}
	return names
}

// isValue reports whether an initial value has no state of its own.
func isValue(name string, e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.CompositeLit:
		_, foreign := e.Type.(*ast.SelectorExpr) // sync.Pool{} and its like
		return !foreign
	case *ast.UnaryExpr, *ast.SelectorExpr: // &Error{}, or another package's error
		return strings.HasPrefix(name, "Err") || strings.HasPrefix(name, "err")
	case *ast.CallExpr:
		fun := e.Fun
		if x, ok := fun.(*ast.IndexExpr); ok {
			fun = x.X
		}
		sel, ok := fun.(*ast.SelectorExpr)
		return ok && (sel.Sel.Name == "MustCompile" || isCall(sel, "errors", "New") || isCall(sel, "fmt", "Errorf") ||
			isCall(sel, "sync", "OnceValue") || isCall(sel, "sync", "OnceValues") || isCall(sel, "reflect", "TypeFor"))
	}
	return false
}

// writtenNames are the names that any function of a package assigns to, counts
// with, or takes the address of.
func writtenNames(files []*source) map[string]bool {
	written := map[string]bool{}
	write := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.ParenExpr:
				e = x.X
			case *ast.Ident:
				written[x.Name] = true
				return
			default:
				return
			}
		}
	}
	for _, s := range files {
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						write(e)
					}
				}
			case *ast.IncDecStmt:
				write(n.X)
			case *ast.UnaryExpr:
				if _, ok := n.X.(*ast.Ident); ok && n.Op == token.AND {
					write(n.X)
				}
			}
			return true
		})
	}
	return written
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

func isCall(fun *ast.SelectorExpr, pkg, name string) bool {
	x, ok := fun.X.(*ast.Ident)
	return ok && x.Name == pkg && fun.Sel.Name == name
}

// TestDocs wants a doc comment on every package, and on every exported name of
// the packages that others can import.
func TestDocs(t *testing.T) {
	w := loadWorkspace(t)
	dirs, files := w.packages()
	for _, dir := range dirs {
		if !slices.ContainsFunc(files[dir], func(s *source) bool { return s.ast.Doc != nil }) {
			t.Errorf("%s: no package comment", dir)
		}
		if strings.Contains(dir+"/", "/internal/") || strings.Contains(dir, "/cmd/") {
			continue
		}
		for _, s := range files[dir] {
			for _, d := range s.ast.Decls {
				for _, n := range undocumented(d) {
					t.Errorf("%s: %s has no doc comment", w.line(n), n.Name)
				}
			}
		}
	}
}

// undocumented lists the exported names of a declaration that neither it nor a
// comment of their own explains.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		customary := d.Recv != nil && slices.Contains([]string{"Error", "String", "Unwrap", "Is", "LogValue", "GoString"}, d.Name.Name)
		if d.Doc == nil && d.Name.IsExported() && !customary && (d.Recv == nil || exportedType(d.Recv.List[0].Type)) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			var doc, line *ast.CommentGroup
			var ids []*ast.Ident
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				doc, line, ids = spec.Doc, spec.Comment, []*ast.Ident{spec.Name}
			case *ast.ValueSpec:
				doc, line, ids = spec.Doc, spec.Comment, spec.Names
			}
			for _, id := range ids {
				if id.IsExported() && d.Doc == nil && doc == nil && line == nil {
					names = append(names, id)
				}
			}
		}
	}
	return names
}

func exportedType(e ast.Expr) bool {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// TestFileSize wants files that can be read in one sitting.
func TestFileSize(t *testing.T) {
	const most = 700
	for _, s := range loadWorkspace(t).files {
		if n := bytes.Count(s.text, []byte("\n")); n > most {
			t.Errorf("%s: %d lines, want at most %d", s.name, n, most)
		}
	}
}

// TestPanics allows panics for broken invariants, which name their package, and
// for passing on what was recovered.
func TestPanics(t *testing.T) {
	w := loadWorkspace(t)
	for _, s := range w.files {
		if s.test() || s.helper() {
			continue
		}
		recovers := bytes.Contains(s.text, []byte("recover()"))
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			_, passedOn := call.Args[0].(*ast.Ident)
			if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" && !(passedOn && recovers) &&
				!strings.HasPrefix(firstText(call), s.ast.Name.Name+": ") {
				t.Errorf("%s: a panic that does not begin with %q", w.line(call), s.ast.Name.Name+": ")
			}
			return true
		})
	}
}

// firstText is the first string literal beneath a node.
func firstText(n ast.Node) (text string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && text == "" {
			text, _ = strconv.Unquote(lit.Value)
		}
		return text == ""
	})
	return text
}

// TestEnvironment proves SRV-1's first half: libraries take values, not the
// process's environment.
func TestEnvironment(t *testing.T) {
	w := loadWorkspace(t)
	allowed := environmentReaders()
	for _, s := range w.files {
		if _, ok := allowed[s.name]; ok || s.test() || s.module == "examples" || strings.Contains(s.dir, "/cmd/") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if ok && (isCall(sel, "os", "Getenv") || isCall(sel, "os", "LookupEnv") || isCall(sel, "os", "Environ")) {
				t.Errorf("%s: os.%s in a library", w.line(sel), sel.Sel.Name)
			}
			return true
		})
	}
}

// TestNoSleeping refuses tests that wait on the real clock: a file that enters
// no bubble, by itself or through a helper of its package, has no business with
// time.Sleep. Benchmarks may: they measure the real clock.
func TestNoSleeping(t *testing.T) {
	w := loadWorkspace(t)
	bubbles := map[string][]string{} // by folder: what enters a bubble
	for _, s := range w.files {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test() && calls(f, "Test", "SyncTest") {
				bubbles[s.dir] = append(bubbles[s.dir], f.Name.Name)
			}
		}
	}
	for _, s := range w.files {
		if !s.test() || strings.HasSuffix(s.name, "bench_test.go") || calls(s.ast, append(bubbles[s.dir], "Test", "SyncTest")...) {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && isCall(sel, "time", "Sleep") {
				t.Errorf("%s: time.Sleep outside of a synctest bubble", w.line(sel))
			}
			return true
		})
	}
}

// calls reports whether a function of that name, of this package or another, is
// called beneath a node.
func calls(n ast.Node, names ...string) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				found = found || slices.Contains(names, fun.Name)
			case *ast.SelectorExpr:
				found = found || slices.Contains(names, fun.Sel.Name)
			}
		}
		return !found
	})
	return found
}
