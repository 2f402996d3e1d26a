package wirecode_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/llorch/llorch/poolregistry/internal/wirecode"
)

// Every condition of the root package has a row with an outcome, and every row
// with an outcome is such a condition, or the refusal of a caller.
func TestTableHoldsEveryCode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{wirecode.Unauthorized: true}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes[text] = true
		return false
	})
	seen := map[string]bool{}
	for _, r := range wirecode.Table() {
		if seen[r.Code] || r.Status < 400 || r.Message == "" {
			t.Errorf("row %+v", r)
		}
		seen[r.Code] = true
		if codes[r.Code] != (r.Outcome != "") {
			t.Errorf("%s has outcome %q", r.Code, r.Outcome)
		}
		if wirecode.Find(r.Code) != r {
			t.Errorf("Find(%s) = %+v", r.Code, wirecode.Find(r.Code))
		}
	}
	for code := range codes {
		if !seen[code] {
			t.Errorf("%s has no row", code)
		}
	}
	if len(codes) != 13 {
		t.Errorf("%d codes", len(codes))
	}
	if r := wirecode.Find("UNHEARD_OF"); r.Code != wirecode.Internal {
		t.Errorf("an unknown code is %+v", r)
	}
}
