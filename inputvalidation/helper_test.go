package inputvalidation_test

import (
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

func openTree(t testing.TB, dir string, cfg inputvalidation.TreeConfig) *inputvalidation.Tree {
	t.Helper()
	tree, err := inputvalidation.OpenTree(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() }) // a test may have closed it already
	return tree
}

func relPath(t testing.TB, s string) inputvalidation.RelPath {
	t.Helper()
	p, err := inputvalidation.ParseRelPath("path", s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
