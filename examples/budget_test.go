package examples_test

import (
	"go/ast"
	"go/scanner"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestBudgets proves the other two columns of MOD-1: names that a user of the
// root package has to know, and lines that somebody has to maintain.
func TestBudgets(t *testing.T) {
	w := loadWorkspace(t)
	names, lines := map[string]int{}, map[string]int{}
	used := w.shipped()
	for _, s := range w.files {
		if s.test() {
			continue
		}
		if used(s) {
			lines[parentModule(s.module)] += codeLines(s.text)
		}
		if s.dir == s.module {
			names[s.module] += len(exported(s.ast))
		}
	}
	rules := policies()
	for _, m := range slices.Sorted(maps.Keys(rules)) {
		t.Logf("%-26s %3d of %3d names %6d of %6d lines", m, names[m], rules[m].names, lines[m], rules[m].lines)
		if p := rules[m]; p.names > 0 && names[m] > p.names || p.lines > 0 && lines[m] > p.lines {
			t.Errorf("%s: %d names of %d, %d lines of %d", m, names[m], p.names, lines[m], p.lines)
		}
	}
}

// shipped reports of a file whether users get it: not those packages that only
// tests import, which are internal ones or named ...test.
func (w *workspace) shipped() func(*source) bool {
	imported := map[string]bool{}
	for _, s := range w.files {
		for _, pkg := range s.imports() {
			if !s.test() && !s.helper() {
				imported[strings.TrimPrefix(pkg, root)] = true
			}
		}
	}
	return func(s *source) bool {
		return imported[s.dir] || !s.helper() && !strings.Contains(s.dir, "/internal/")
	}
}

// parentModule is the module whose budget a nested module uses.
func parentModule(module string) string {
	first, _, _ := strings.Cut(module, "/")
	return first
}

// exported lists the types, functions, variables and constants that a file
// exports; methods and fields belong to their types.
func exported(f *ast.File) (names []string) {
	add := func(id *ast.Ident) {
		if id.IsExported() {
			names = append(names, id.Name)
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					add(spec.Name)
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						add(id)
					}
				}
			}
		}
	}
	return names
}

// codeLines counts the lines on which something other than a comment begins.
func codeLines(text []byte) int {
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, 0)
	n, last := 0, 0
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return n
		}
		if line := file.Line(pos); line != last && (tok != token.SEMICOLON || lit != "\n") {
			n, last = n+1, line
		}
	}
}
