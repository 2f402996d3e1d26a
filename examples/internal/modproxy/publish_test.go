package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes a small workspace: module a, and module a/b inside its folder.
func tree(t *testing.T) (work string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.work":    "go 1.26.5\nuse (\n\t./a\n\t./a/b\n)\n",
		"a/go.mod":   "module example.org/Up/a\n\ngo 1.26.5\n",
		"a/a.go":     "package a\n",
		"a/LICENSE":  "as is\n",
		"a/b/go.mod": "module example.org/Up/a/b\n\ngo 1.26.5\n",
		"a/b/b.go":   "package b\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "go.work")
}

// TestPublish checks the four files of each module, that a nested module is not
// part of its parent, and that the same tree gives the same bytes.
func TestPublish(t *testing.T) {
	work, out := tree(t), t.TempDir()
	for range 2 {
		var stderr bytes.Buffer
		if code := run([]string{"-work", work, "-o", out, "-version", "v0.3.0"}, &stderr); code != 0 {
			t.Fatalf("run = %d: %s", code, stderr.String())
		}
	}
	at := filepath.Join(out, "example.org/!up/a/@v")
	for name, want := range map[string]string{
		"list": "v0.3.0\n", "v0.3.0.info": `{"Version":"v0.3.0","Time":"1970-01-01T00:00:00Z"}`, "v0.3.0.mod": "module example.org/Up/a\n\ngo 1.26.5\n",
	} {
		if b, err := os.ReadFile(filepath.Join(at, name)); err != nil || string(b) != want {
			t.Errorf("%s = %q, %v, want %q", name, b, err, want)
		}
	}
	z, err := zip.OpenReader(filepath.Join(at, "v0.3.0.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var names []string
	for _, f := range z.File {
		names = append(names, strings.TrimPrefix(f.Name, "example.org/Up/a@v0.3.0/"))
	}
	slices.Sort(names)
	if want := []string{"LICENSE", "a.go", "go.mod"}; !slices.Equal(names, want) {
		t.Errorf("zip holds %v, want %v", names, want)
	}
	other := t.TempDir()
	if code := run([]string{"-work", work, "-o", other, "-version", "v0.3.0"}, &bytes.Buffer{}); code != 0 {
		t.Fatalf("run again = %d", code)
	}
	first, err1 := os.ReadFile(filepath.Join(at, "v0.3.0.zip"))
	second, err2 := os.ReadFile(filepath.Join(other, "example.org/!up/a/@v/v0.3.0.zip"))
	if err1 != nil || err2 != nil || !bytes.Equal(first, second) {
		t.Errorf("two runs differ: %v, %v", err1, err2)
	}
}

func TestRefusals(t *testing.T) {
	work, out := tree(t), t.TempDir()
	empty := filepath.Join(out, "empty.work")
	if err := os.WriteFile(empty, []byte("go 1.26.5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
	}{
		{[]string{"-h"}, 0},
		{nil, 2},
		{[]string{"-o", out, "more"}, 2},
		{[]string{"-x"}, 2},
		{[]string{"-o", out, "-work", out + "/none"}, 1},
		{[]string{"-o", out, "-work", empty}, 1},
		{[]string{"-o", out, "-work", work, "-version", "0.3"}, 1},
	} {
		var stderr bytes.Buffer
		if code := run(tt.args, &stderr); code != tt.code || stderr.Len() == 0 {
			t.Errorf("run(%v) = %d with %q, want %d and a reason", tt.args, code, stderr.String(), tt.code)
		}
	}
}
