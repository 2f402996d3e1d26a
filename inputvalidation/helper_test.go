package inputvalidation_test

import (
	"os"
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

// quickDir is t.TempDir in memory, where there is such a directory: for tests
// that are about many calls and not about durability.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "inputvalidation")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // best effort: it is in memory
	return dir
}
