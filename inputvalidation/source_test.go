package inputvalidation_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// noImports resolves nothing: the types of this package's own variables are
// known without it.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

// lossyText returns the places of a source where text becomes runes, which
// turns different damaged bytes into the same U+FFFD (VAL-34).
func lossyText(t *testing.T, files map[string]any) (places []string) {
	t.Helper()
	fset := token.NewFileSet()
	var parsed []*ast.File
	for name, src := range files {
		f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	info := types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}}
	_, _ = conf.Check("p", fset, parsed, &info) // imports are unknown, so there are errors
	isText := func(typ types.Type) bool {
		if typ == nil {
			return false
		}
		b, ok := typ.Underlying().(*types.Basic)
		return ok && b.Info()&types.IsString != 0
	}
	isRunes := func(typ types.Type) bool {
		if typ == nil {
			return false
		}
		s, ok := typ.Underlying().(*types.Slice)
		return ok && types.Identical(s.Elem().Underlying(), types.Typ[types.Rune])
	}
	for _, f := range parsed {
		ast.Inspect(f, func(n ast.Node) bool {
			lossy := false
			switch n := n.(type) {
			case *ast.RangeStmt:
				lossy = isText(info.TypeOf(n.X))
			case *ast.CallExpr:
				fun := info.Types[n.Fun]
				lossy = fun.IsType() && (isRunes(fun.Type) || isText(fun.Type) && len(n.Args) == 1 && isRunes(info.TypeOf(n.Args[0])))
			case *ast.SelectorExpr:
				lossy = n.Sel.Name == "ToValidUTF8" || n.Sel.Name == "Runes" && isIdent(n.X, "bytes")
			}
			if lossy {
				places = append(places, fset.Position(n.Pos()).String())
			}
			return true
		})
	}
	return places
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// VAL-34: no function of this package ranges over text or converts it through
// runes.
func TestNoTextThroughRunes(t *testing.T) {
	bad := `package p
import ("strings"; "bytes")
type runes []rune
func f(s string, b []byte) string {
	_ = []rune(s)
	_ = runes(s)
	for range s {
	}
	for _, r := range string(b) { _ = r }
	_ = strings.ToValidUTF8(s, "")
	return string(bytes.Runes(b))
}
func harmless(s string) { for i := range len(s) { _ = s[i] }; _ = []byte(s); _ = string([]byte(s)) }
`
	if got := lossyText(t, map[string]any{"bad.go": bad}); len(got) != 6 {
		t.Fatalf("of the 6 bad places %d are found: %q", len(got), got)
	}
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) < 10 {
		t.Skip("the source is not the working directory")
	}
	files := map[string]any{}
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") && name != "tree_nonunix.go" && name != "tree_other.go" {
			files[name] = nil
		}
	}
	if got := lossyText(t, files); len(got) > 0 {
		t.Errorf("text goes through runes at %q", got)
	}
}

// The program text that the README shows is that of the package example.
func TestReadmeExample(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Skip("the source is not the working directory")
	}
	tests, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n```go\n")
	shown, _, ok := strings.Cut(rest, "```\n")
	body := "func Example() {\n\t" + strings.ReplaceAll(strings.TrimSuffix(shown, "\n"), "\n", "\n\t") + "\n}\n"
	if !ok || !strings.Contains(string(tests), body) {
		t.Errorf("the README shows\n%s\nwhich is not the body of Example", shown)
	}
}
