package catalog_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/catalog"
)

// PCO-56, PCO-57: the layout on the disk, and every member of the index.
func TestPutLayout(t *testing.T) {
	dir := t.TempDir()
	c := open(t, catalog.Config{Dir: dir})
	data := tiny(1)
	m, err := c.Put(t.Context(), catalog.Put{
		Ref: ref, From: write(t, "tiny.gguf", data), SHA256: sum(data), Tags: []string{"chat"}, Backends: []string{"llamacpp"},
		Source: catalog.Source{Repo: "acme/tiny", Revision: "0123456789abcdef0123456789abcdef01234567"},
	})
	must(t, err)
	at, err := c.Locate(ref)
	must(t, err)
	want := filepath.Join(dir, "models", "hf_3aacme_2ftiny_400123456789abcdef0123456789abcdef01234567_3a_3afile_3dtiny.gguf", m.Source.Revision, "tiny.gguf")
	if at.Path != want {
		t.Errorf("Path = %s, want %s", at.Path, want)
	}
	shape := catalog.Shape{
		Architecture: "llama", Layers: 2, KVHeads: 2, KeyLength: 32, ValueLength: 32, CtxMax: 2048, TensorBytes: 5184, Known: true, OffloadLayers: 3,
	}
	if at.Shape != shape {
		t.Errorf("Shape = %+v, want %+v", at.Shape, shape)
	}
	if m.State != catalog.Active || m.Format != "gguf" || m.Architecture != "llama" || m.Quant != "Q4_K_M" || m.CtxMax != 2048 ||
		m.SizeBytes != int64(len(data)) || m.Verification != catalog.Pass || m.AddedAt.IsZero() || m.LastVerifiedAt.IsZero() {
		t.Errorf("entry = %+v", m)
	}
	wantDigest := "sha256:" + sum([]byte("tiny.gguf\x00"+itoa(len(data))+"\x00"+sum(data)+"\n"))
	if m.Digest != wantDigest {
		t.Errorf("Digest = %s, want %s", m.Digest, wantDigest)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	var index struct {
		Schema  int              `json:"schema"`
		Updated time.Time        `json:"updated_at"`
		Models  []map[string]any `json:"models"`
	}
	must(t, json.Unmarshal(raw, &index))
	if index.Schema != 1 || index.Updated.IsZero() || len(index.Models) != 1 {
		t.Fatalf("index = %s", raw)
	}
	for member := range strings.FieldsSeq("id ref state format architecture quant ctx_max size_bytes digest files source tags backends verification added_at last_verified_at") {
		if _, ok := index.Models[0][member]; !ok {
			t.Errorf("index has no member %s", member)
		}
	}
	file := index.Models[0]["files"].([]any)[0].(map[string]any)
	for member := range strings.FieldsSeq("path size_bytes sha256 mtime_ns inode verified_at") {
		if file[member] == nil {
			t.Errorf("index has no member files.%s", member)
		}
	}
	for _, name := range []string{"lock", "models", "partial", "quarantine"} {
		if !exists(filepath.Join(dir, name)) {
			t.Errorf("no %s", name)
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) } // a number always encodes

// PCO-57: other people's tools agree with the digests of the files.
func TestSHA256SumAgrees(t *testing.T) {
	tool, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Skip("sha256sum is not installed: the digests are not compared with it")
	}
	c := open(t, catalog.Config{Dir: t.TempDir()})
	from := filepath.Dir(write(t, "model.safetensors", safetensors(5<<20)))
	must(t, os.WriteFile(filepath.Join(from, "tokenizer.json"), []byte("{}"), 0o600))
	must(t, os.WriteFile(filepath.Join(from, "config.json"), []byte(`{"model_type":"llama"}`), 0o600))
	m, err := c.Put(t.Context(), catalog.Put{Ref: "hf:acme/dir", From: from})
	must(t, err)
	var lines strings.Builder
	for _, f := range m.Files {
		lines.WriteString(f.SHA256 + "  " + f.Path + "\n")
	}
	check := func() error {
		cmd := exec.CommandContext(t.Context(), tool, "-c", "--strict", "--quiet", "-")
		cmd.Dir, cmd.Stdin = located(t, c, "hf:acme/dir"), strings.NewReader(lines.String())
		return cmd.Run()
	}
	if len(m.Files) != 3 {
		t.Errorf("files = %v, want 3", m.Files)
	}
	if err := check(); err != nil {
		t.Errorf("sha256sum -c = %v", err)
	}
	must(t, os.WriteFile(filepath.Join(located(t, c, "hf:acme/dir"), "config.json"), []byte(`{"model_type":"lama."}`), 0o600))
	if check() == nil {
		t.Error("sha256sum -c finds no difference: the comparison is not one")
	}
}

// PCO-56: a model's id cannot name anything outside, nor another model's place.
func TestDeleteStaysInside(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "x")
	must(t, os.MkdirAll(outside, 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "keep"), []byte("k"), 0o600))
	c := open(t, catalog.Config{Dir: filepath.Join(top, "models-dir")})
	for _, id := range []string{"../x", "..", "", ".", "/", "models/../../x", "hf:acme/tiny/../../x", "\x00"} {
		wantCode(t, "Remove("+id+")", c.Remove(t.Context(), id, true), catalog.ModelUnknown)
		if _, err := c.Put(t.Context(), catalog.Put{Ref: id, From: write(t, "tiny.gguf", tiny(1))}); err == nil {
			t.Errorf("Put(%q) was accepted", id)
		}
	}
	// A link that somebody put in the place of the model's directories is removed;
	// what it leads to stays.
	for _, up := range []int{0, 1} {
		add(t, c, ref, tiny(1))
		dir := filepath.Dir(located(t, c, ref))
		if up == 1 {
			dir = filepath.Dir(dir)
		}
		must(t, os.RemoveAll(dir))
		must(t, os.Symlink(outside, dir))
		if err := c.Remove(t.Context(), ref, false); err != nil {
			t.Errorf("Remove over a link = %v", err)
		}
		if !exists(filepath.Join(outside, "keep")) || exists(dir) {
			t.Errorf("level %d: outside %v, link %v, want true, false", up, exists(filepath.Join(outside, "keep")), exists(dir))
		}
	}
}

// PCO-56: two ids never share a directory, also where letter case does not count,
// and every name is one that all systems take.
func TestSlugsAreInjective(t *testing.T) {
	c := open(t, catalog.Config{Dir: t.TempDir()})
	long := strings.Repeat("L", 90) + "/" + strings.Repeat("M", 90)
	seen := map[string]string{}
	for _, r := range []string{
		"hf:a/b", "hf:A/b", "hf:a/b@con", "hf:a/b@CON", "hf:a_2f/b", "hf:a/b::file=_2f.gguf", "hf:a/b::file=x.gguf", "hf:a/b::file=X.gguf",
		"https://h.example/x.", "hf:" + long, "hf:" + strings.ToLower(long),
	} {
		if _, err := inputvalidation.ParseModelRef("ref", r); err != nil {
			continue // a name that no reference can have
		}
		add(t, c, r, tiny(1))
		at, err := filepath.Rel(filepath.Dir(filepath.Dir(filepath.Dir(located(t, c, r)))), located(t, c, r))
		must(t, err)
		slug := strings.ToLower(strings.Split(filepath.ToSlash(at), "/")[0])
		if other, ok := seen[slug]; ok {
			t.Errorf("%s and %s share %s", r, other, slug)
		}
		if _, err := inputvalidation.ParseRelPath("slug", slug); err != nil {
			t.Errorf("directory of %s: %v", r, err)
		}
		seen[slug] = r
	}
	if len(seen) < 8 {
		t.Errorf("only %d references were tried", len(seen))
	}
}

// PCO-56: neither a name that leaves nor something that is no file gets in, and
// nothing waits for a FIFO.
func TestHostileFilesRefused(t *testing.T) {
	c := open(t, catalog.Config{Dir: t.TempDir()})
	put := func(from string) error {
		_, err := c.Put(t.Context(), catalog.Put{Ref: ref, From: from})
		return err
	}
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo.gguf")
	must(t, syscall.Mkfifo(fifo, 0o600))
	wantCode(t, "Put(fifo)", put(fifo), catalog.InvalidParams)
	wantCode(t, "Put(relative)", put("tiny.gguf"), catalog.InvalidParams)
	wantCode(t, "Put(none)", put(""), catalog.InvalidParams)
	if err := put(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Put(missing) = %v", err)
	}
	wantCode(t, "Put(directory with a fifo only)", put(dir), catalog.Untrusted)
	dash := write(t, "-rf.gguf", tiny(1))
	if err := put(dash); !errors.Is(err, inputvalidation.RuleSyntax) {
		t.Errorf("Put(-rf.gguf) = %v, want syntax", err)
	}
	wantCode(t, "Put(no GGUF inside)", put(write(t, "x.gguf", []byte("PK\x03\x04 pickle"))), catalog.ModelIncompatible)
	wantCode(t, "Put(no safetensors inside)", put(write(t, "x.safetensors", []byte("PK\x03\x04 pickle"))), catalog.ModelIncompatible)
	if len(c.List()) != 0 {
		t.Errorf("entries = %v, want none", c.List())
	}
}

// PCO-61: only canonical references with a place are found; reading takes no lock
// that a writer holds.
func TestLocate(t *testing.T) {
	c := open(t, catalog.Config{Dir: t.TempDir()})
	data := tiny(1)
	add(t, c, "acme/tiny@v1/tiny.gguf", data)
	for _, r := range []string{
		"hf:acme/tiny@v1::file=tiny.gguf", "acme/tiny@v1/tiny.gguf", "hf://acme/tiny@v1/tiny.gguf",
		"hf:acme/tiny@v1::file=tiny.gguf#sha256=" + sum(data),
	} {
		if at, err := c.Locate(r); err != nil || at.ID != "hf:acme/tiny@v1::file=tiny.gguf" {
			t.Errorf("Locate(%s) = %v, %v", r, at.ID, err)
		}
	}
	_, err := c.Locate("hf:acme/tiny@v1::file=tiny.gguf#sha256=" + sum(tiny(2)))
	wantCode(t, "Locate(other digest)", err, catalog.DigestMismatch)
	for _, alias := range []string{"llama3", "llama3:8b"} {
		_, err = c.Locate(alias)
		wantCode(t, "Locate("+alias+")", err, catalog.AliasNotAllowed)
	}
	for _, r := range []string{"hf:acme/tiny@v2::file=tiny.gguf", "hf:acme/tiny", "https://h.example/tiny.gguf", "file:tiny.gguf"} {
		_, err = c.Locate(r)
		wantCode(t, "Locate("+r+")", err, catalog.ModelUnknown)
	}
	for _, r := range []string{"", "file:../x", "ftp://h.example/x"} {
		if e, ok := errors.AsType[*inputvalidation.Error](second(c.Locate(r))); !ok || e.Field != "model_ref" {
			t.Errorf("Locate(%q) = %v, want an error that names the field", r, e)
		}
	}
	m, _ := c.Get("hf:acme/tiny@v1::file=tiny.gguf")
	m.Files[0].SHA256, m.Tags = "changed", append(m.Tags, "x")
	if again, _ := c.Get(m.ID); again.Files[0].SHA256 == "changed" {
		t.Error("a caller can change the index through what Get returned")
	}
}

func second[T any](_ T, err error) error { return err }
