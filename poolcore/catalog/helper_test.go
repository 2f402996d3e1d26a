package catalog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/llorch/llorch/poolcore/catalog"
)

const ref = "hf:acme/tiny@0123456789abcdef0123456789abcdef01234567::file=tiny.gguf"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, what string, err error, code catalog.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("%s = %v, want %s", what, err, code)
	}
}

// open opens a catalogue in dir and closes it with the test. Space is never short.
func open(t testing.TB, cfg catalog.Config) *catalog.Catalog {
	t.Helper()
	if cfg.FreeSpace == nil {
		cfg.FreeSpace = func(string) (uint64, error) { return 1 << 50, nil }
	}
	c, err := catalog.Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() }) // a test may have closed it already
	return c
}

// quickDir is t.TempDir in memory, where there is such a directory: for tests that
// are about many calls and not about durability.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "catalog")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // best effort: it is in memory
	return dir
}

// write makes a file in a new directory and returns its path.
func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	at := filepath.Join(quickDir(t), filepath.FromSlash(name))
	must(t, os.MkdirAll(filepath.Dir(at), 0o700))
	must(t, os.WriteFile(at, data, 0o600))
	return at
}

// add puts a small GGUF and returns its entry.
func add(t testing.TB, c *catalog.Catalog, ref string, data []byte) catalog.Model {
	t.Helper()
	m, err := c.Put(t.Context(), catalog.Put{Ref: ref, From: write(t, "tiny.gguf", data)})
	must(t, err)
	return m
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// located returns where a model's file lies.
func located(t testing.TB, c *catalog.Catalog, ref string) string {
	t.Helper()
	at, err := c.Locate(ref)
	must(t, err)
	return at.Path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// logged returns a logger and what it wrote.
func logged() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewJSONHandler(&b, nil)), &b
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

// gguf writes GGUF headers. Its zero value has no members.
type gguf struct {
	members, tensors bytes.Buffer
	nm, nt           uint64
	version          uint32 // 0 = 3
	data             int64  // bytes behind the header
}

func le(b *bytes.Buffer, v any) { _ = binary.Write(b, binary.LittleEndian, v) } // a Buffer takes everything

func text(b *bytes.Buffer, s string) {
	le(b, uint64(len(s)))
	b.WriteString(s)
}

func (g *gguf) key(name string, kind uint32) {
	g.nm++
	text(&g.members, name)
	le(&g.members, kind)
}

func (g *gguf) u32(name string, v uint32) *gguf { g.key(name, 4); le(&g.members, v); return g }

func (g *gguf) str(name, v string) *gguf { g.key(name, 8); text(&g.members, v); return g }

func (g *gguf) u32s(name string, v ...uint32) *gguf {
	g.key(name, 9)
	le(&g.members, uint32(4))
	le(&g.members, uint64(len(v)))
	le(&g.members, v)
	return g
}

func (g *gguf) strs(name string, v ...string) *gguf {
	g.key(name, 9)
	le(&g.members, uint32(8))
	le(&g.members, uint64(len(v)))
	for _, s := range v {
		text(&g.members, s)
	}
	return g
}

// tensor adds a tensor of so many bytes behind those before it.
func (g *gguf) tensor(kind uint32, size int64, dims ...uint64) *gguf {
	g.nt++
	text(&g.tensors, "blk.weight")
	le(&g.tensors, uint32(len(dims)))
	le(&g.tensors, dims)
	le(&g.tensors, kind)
	le(&g.tensors, uint64(g.data))
	g.data += (size + 31) / 32 * 32
	return g
}

func (g *gguf) bytes() []byte {
	var b bytes.Buffer
	b.WriteString("GGUF")
	le(&b, max(g.version, 3))
	if g.version == 2 {
		b.Truncate(4)
		le(&b, uint32(2))
	}
	le(&b, g.nt)
	le(&b, g.nm)
	b.Write(g.members.Bytes())
	b.Write(g.tensors.Bytes())
	b.Write(make([]byte, (32-b.Len()%32)%32+int(g.data)))
	return b.Bytes()
}

// tiny is a whole model of two layers; seed makes its weights differ.
func tiny(seed byte) []byte {
	g := llama()
	b := g.tensor(0, 4096, 32, 32).tensor(8, 1088, 32, 32).bytes()
	b[len(b)-1] = seed
	return b
}

func llama() *gguf {
	return new(gguf).str("general.architecture", "llama").u32("general.file_type", 15).
		u32("llama.block_count", 2).u32("llama.context_length", 2048).u32("llama.embedding_length", 256).
		u32("llama.attention.head_count", 8).u32("llama.attention.head_count_kv", 2)
}

// safetensors is a file with an empty table.
func safetensors(weights int) []byte {
	var b bytes.Buffer
	text(&b, "{}")
	b.Write(make([]byte, weights))
	return b.Bytes()
}
