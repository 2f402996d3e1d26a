package fetch_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/fetch"
)

// TestLocalFile proves PCO-68 for files: only regular files below the allowed
// folders, reached without a link; copied, and hashed like any other.
func TestLocalFile(t *testing.T) {
	allowed, second, outside := t.TempDir(), t.TempDir(), t.TempDir()
	b := content(1, 3<<20)
	for name, data := range map[string][]byte{
		filepath.Join(allowed, "sub", "m.gguf"):           b,
		filepath.Join(second, "n-00001-of-00002.gguf"):    b[:10],
		filepath.Join(second, "n-00002-of-00002.gguf"):    b[:20],
		filepath.Join(second, "lone-00001-of-2.gguf"):     b[:5],
		filepath.Join(second, "miss-00001-of-00002.gguf"): b[:5],
		filepath.Join(outside, "secret.gguf"):             b,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range [][2]string{{filepath.Join(outside, "secret.gguf"), filepath.Join(allowed, "link.gguf")}, {outside, filepath.Join(allowed, "dir")}} {
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	s := fetch.Sources{File: fetch.LocalFile(fetch.LocalFileConfig{AllowedDirs: []string{allowed, second}})}
	for _, c := range []struct {
		ref   string
		files int
		code  fetch.Code
	}{
		{"file:sub/m.gguf", 1, ""},
		{"file:sub/m.gguf#sha256=" + sum(b), 1, ""},
		{"file:n-00001-of-00002.gguf", 2, ""},
		{"file:lone-00001-of-2.gguf", 1, ""},
		{"file:miss-00001-of-00002.gguf", 0, fetch.EntryNotFound},
		{"file:sub/m.gguf#sha256=" + sum(nil), 0, fetch.DigestMismatch},
		{"file:secret.gguf", 0, fetch.EntryNotFound},
		{"file:link.gguf", 0, fetch.HostNotAllowed},
		{"file:dir/secret.gguf", 0, fetch.HostNotAllowed},
		{"file:sub", 0, fetch.HostNotAllowed},
	} {
		root, got, err := download(t, s, c.ref, fetch.Options{})
		if c.code != "" {
			refused(t, err, c.code)
			continue
		}
		if err != nil || len(got) != c.files {
			t.Errorf("%s: %v %v", c.ref, got, err)
			continue
		}
		for _, g := range got {
			if data, err := root.ReadFile(g.Part.String()); err != nil || sum(data) != g.SHA256 || int64(len(data)) != g.Size {
				t.Errorf("%s: %+v %v", c.ref, g, err)
			}
		}
	}
	_, _, err := download(t, fetch.Sources{File: fetch.LocalFile(fetch.LocalFileConfig{})}, "file:sub/m.gguf", fetch.Options{})
	refused(t, err, fetch.EntryNotFound)
	_, _, err = download(t, fetch.Sources{File: fetch.LocalFile(fetch.LocalFileConfig{AllowedDirs: []string{"relative"}})}, "file:sub/m.gguf", fetch.Options{})
	refused(t, err, fetch.Storage)
}

// TestLocalFileChanges: a file that is written while it is taken is taken again.
func TestLocalFileChanges(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "m.gguf")
	if err := os.WriteFile(name, content(1, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := fetch.Sources{File: fetch.LocalFile(fetch.LocalFileConfig{AllowedDirs: []string{dir}})}
	plan, err := s.Resolve(t.Context(), ref(t, "file:m.gguf"), fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := content(2, 2000)
	if err := os.WriteFile(name, now, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s = s.Waiting(func(context.Context, time.Duration) error { return nil })
	got, err := s.Download(t.Context(), plan, root, nil)
	if err != nil || got[0].SHA256 != sum(now) {
		t.Errorf("%v %v", got, err)
	}
	meta, err := root.ReadFile(strings.Replace(got[0].Part.String(), fetch.PartSuffix, fetch.MetaSuffix, 1))
	if err != nil || !strings.Contains(string(meta), `"size":2000`) {
		t.Errorf("the new bytes are described as %s, %v", meta, err)
	}
}
