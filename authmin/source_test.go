package authmin_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sources parses the files of the package that are no tests.
func sources(t *testing.T) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset, files := token.NewFileSet(), map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if files[name], err = parser.ParseFile(fset, name, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 10 {
		t.Fatalf("only %d sources", len(files))
	}
	return fset, files
}

// TestNoEnvironmentNoState (AUTH-38): nothing reads the environment, there is no
// init, and the only variables of the package are errors, which nobody assigns.
func TestNoEnvironmentNoState(t *testing.T) {
	fset, files := sources(t)
	var variables []string
	for name, file := range files {
		for _, imp := range file.Imports {
			if path := strings.Trim(imp.Path.Value, `"`); slices.Contains([]string{"os", "flag", "syscall", "os/exec", "unsafe", "runtime/cgo"}, path) || strings.Contains(path, ".") {
				t.Errorf("%s imports %s", name, path)
			}
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					t.Errorf("%s: init", fset.Position(d.Pos()))
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, spec := range d.Specs {
					for _, id := range spec.(*ast.ValueSpec).Names {
						if id.Name != "_" && !strings.HasPrefix(id.Name, "Err") {
							t.Errorf("%s: variable %s", fset.Position(id.Pos()), id.Name)
						}
						variables = append(variables, id.Name)
					}
				}
			}
		}
	}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok && a.Tok == token.ASSIGN {
				for _, lhs := range a.Lhs {
					if id, ok := lhs.(*ast.Ident); ok && id.Name != "_" && slices.Contains(variables, id.Name) {
						t.Errorf("%s: assigns %s", fset.Position(a.Pos()), id.Name)
					}
				}
			}
			return true
		})
	}
	if len(variables) < 10 {
		t.Errorf("found only the variables %v", variables)
	}
}

// TestSourceHasNoTokenCompare (AUTH-11, G3): token bytes and digests are compared
// nowhere but in equalDigest.
func TestSourceHasNoTokenCompare(t *testing.T) {
	fset, files := sources(t)
	compares := 0
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && (holdsSecret(n.X) || holdsSecret(n.Y)) {
					t.Errorf("%s compares a secret with %s", fset.Position(n.Pos()), n.Op)
				}
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				switch sel.Sel.Name {
				case "Equal", "Compare", "EqualFold", "HasPrefix", "HasSuffix", "Contains", "Index":
					if slices.ContainsFunc(n.Args, func(e ast.Expr) bool { return holdsSecret(e) }) {
						t.Errorf("%s compares a secret by %s", fset.Position(n.Pos()), sel.Sel.Name)
					}
				case "ConstantTimeCompare":
					compares++
				}
			}
			return true
		})
	}
	if compares != 1 {
		t.Errorf("ConstantTimeCompare is called in %d places, want 1", compares)
	}
}

// holdsSecret reports whether an expression mentions what holds token bytes.
func holdsSecret(n ast.Node) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Reveal", "reveal", "digest"}, sel.Sel.Name) {
				found = true
			}
			if fn, ok := call.Fun.(*ast.Ident); ok && fn.Name == "len" {
				return false // a length is no content
			}
		}
		return !found
	})
	return found
}
