package catalog_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/catalog"
)

func read(b []byte) (catalog.Header, error) {
	return catalog.ReadGGUF(bytes.NewReader(b), int64(len(b)))
}

// PCO-62: what the header of a model says, in version 2 and 3.
func TestGGUFHeader(t *testing.T) {
	want := catalog.Header{
		Version: 3, Architecture: "llama", Quant: "Q4_K_M", Blocks: 2, Heads: 8, KVHeads: 2, KVLayers: 2, KeyLength: 32,
		ValueLength: 32, Embedding: 256, CtxMax: 2048, Tensors: 2, TensorBytes: 4096 + 1088,
	}
	for _, version := range []uint32{2, 3} {
		g := llama().tensor(0, 4096, 32, 32).tensor(8, 1088, 32, 32)
		g.version = version
		want.Version = int(version)
		if got, err := read(g.bytes()); err != nil || got != want {
			t.Errorf("ReadGGUF(v%d) = %+v, %v, want %+v", version, got, err, want)
		}
	}
}

// PCO-62: heads that differ by layer, lengths that are stated, parts of a split,
// vocabularies that are skipped, and types that this release does not know.
func TestGGUFHeaderShapes(t *testing.T) {
	g := new(gguf).strs("tokenizer.ggml.tokens", "a", "", strings.Repeat("b", 1000)).
		u32("jamba.block_count", 4).u32s("jamba.attention.head_count_kv", 0, 8, 0, 4).
		u32("jamba.attention.head_count", 32).u32("jamba.embedding_length", 4096).
		u32("jamba.attention.key_length", 192).u32("split.count", 3).str("general.architecture", "jamba")
	h, err := read(g.bytes())
	if err != nil || h.KVHeads != 8 || h.KVLayers != 2 || h.KeyLength != 192 || h.ValueLength != 128 || h.SplitCount != 3 {
		t.Errorf("ReadGGUF(jamba) = %+v, %v", h, err)
	}
	h, err = read(llama().tensor(200, 640, 20, 32).bytes())
	if err != nil || h.TensorBytes != 640 {
		t.Errorf("ReadGGUF(unknown type) = %+v, %v, want the 640 bytes that follow", h, err)
	}
	aligned := llama().u32("general.alignment", 64).tensor(0, 64, 16).bytes()
	if h, err = read(append(aligned, make([]byte, 64)...)); err != nil || h.TensorBytes != 64 {
		t.Errorf("ReadGGUF(aligned) = %+v, %v", h, err)
	}
}

// PCO-62: every length is bounded by the file, and the error names place and rule.
func TestGGUFHeaderRefused(t *testing.T) {
	good := tiny(1)
	nested := new(gguf)
	nested.key("deep", 9)
	for range 5 {
		le(&nested.members, uint32(9))
		le(&nested.members, uint64(1))
	}
	long := func(at int, v byte) []byte { b := bytes.Clone(good); b[at] = v; return b }
	manyElements := new(gguf)
	manyElements.key("a", 9)
	le(&manyElements.members, uint32(0))
	le(&manyElements.members, uint64(1<<20+1))
	for name, c := range map[string]struct {
		raw  []byte
		rule inputvalidation.Rule
	}{
		"empty":                  {nil, inputvalidation.RuleTooLong},
		"magic":                  {long(0, 'g'), inputvalidation.RuleSyntax},
		"version 1":              {long(4, 1), inputvalidation.RuleRange},
		"version 4":              {long(4, 4), inputvalidation.RuleRange},
		"big endian":             {append([]byte("GGUF\x00\x00\x00\x03"), make([]byte, 64)...), inputvalidation.RuleRange},
		"too many tensors":       {long(8+3, 1), inputvalidation.RuleTooLong},
		"too many members":       {long(16+3, 1), inputvalidation.RuleTooLong},
		"key beyond the file":    {long(24+1, 0xff), inputvalidation.RuleTooLong},
		"key of 2^63 bytes":      {long(24+7, 0x80), inputvalidation.RuleTooLong},
		"arrays in five arrays":  {nested.bytes(), inputvalidation.RuleDepth},
		"a million elements":     {append(manyElements.bytes(), make([]byte, 1<<20+1)...), inputvalidation.RuleTooLong},
		"cut in the header":      {good[:100], inputvalidation.RuleTooLong},
		"cut in the weights":     {good[:len(good)-32], inputvalidation.RuleRange},
		"architecture":           {new(gguf).str("general.architecture", "a/../b").bytes(), inputvalidation.RuleCharset},
		"a layer count of 2^32":  {llama().u32("llama.attention.key_length", 1<<32-1).bytes(), inputvalidation.RuleRange},
		"said twice":             {llama().u32("llama.block_count", 3).bytes(), inputvalidation.RuleDuplicate},
		"alignment":              {llama().u32("general.alignment", 3).tensor(0, 4, 1).bytes(), inputvalidation.RuleRange},
		"nine dimensions":        {llama().tensor(0, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1).bytes(), inputvalidation.RuleRange},
		"elements that overflow": {llama().tensor(0, 4, 1<<40, 1<<40).bytes(), inputvalidation.RuleRange},
		"larger than the file":   {llama().tensor(0, 4, 1<<20).bytes(), inputvalidation.RuleRange},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := read(c.raw)
			e, ok := errors.AsType[*inputvalidation.Error](err)
			if !ok || e.Rule != c.rule || !strings.HasPrefix(e.Field, "gguf") || e.Offset < 0 || h != (catalog.Header{}) {
				t.Errorf("ReadGGUF = %+v, %#v, want rule %q", h, err, c.rule)
			}
		})
	}
}

// endless has a header that never ends.
type endless struct{ head []byte }

func (e endless) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(e.head)) {
		copy(p, e.head[off:])
	}
	return len(p), nil
}

// PCO-62: at most 64 MiB are read, whatever the size of the file.
func TestGGUFHeaderBounded(t *testing.T) {
	g := new(gguf)
	g.key("big", 8)
	head := g.bytes()[:24+8+3+4]
	head = append(head, 0, 0, 0, 8, 0, 0, 0, 0) // a text of 128 MiB
	_, err := catalog.ReadGGUF(endless{head}, 1<<40)
	if !errors.Is(err, inputvalidation.RuleTooLong) {
		t.Errorf("ReadGGUF(128 MiB of text) = %v, want too long", err)
	}
	_, err = catalog.ReadGGUF(errorReader{}, 1<<20)
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("ReadGGUF(broken disk) = %v, want its error", err)
	}
}

// PCO-62: of a hostile header only what can count is kept: hundreds of keys of
// 64 KiB do not become memory.
func TestGGUFKeepsLittle(t *testing.T) {
	g := new(gguf)
	for i := range 500 {
		g.u32(strings.Repeat("k", 60_000+i)+".block_count", 1)
	}
	raw := g.bytes()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := read(raw); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were taken for a header of %d", n, len(raw))
	}
}

type errorReader struct{}

func (errorReader) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

func FuzzGGUFHeader(f *testing.F) {
	f.Add(tiny(1))
	f.Add(tiny(1)[:90])
	f.Add(llama().u32("general.alignment", 64).strs("tokens", "a", "b").u32s("x", 1, 2).tensor(12, 144, 256).bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := read(raw)
		if err != nil {
			e, ok := errors.AsType[*inputvalidation.Error](err)
			if !ok || e.Offset < 0 || e.Offset > len(raw) {
				t.Fatalf("error %v without a place in the file", err)
			}
			return
		}
		if h.TensorBytes < 0 || h.TensorBytes > int64(len(raw)) || h.Blocks < 0 || h.KVHeads < 0 || h.KeyLength < 0 ||
			h.ValueLength < 0 || h.CtxMax < 0 || h.KVLayers > h.Blocks {
			t.Fatalf("impossible header %+v of %d bytes", h, len(raw))
		}
	})
}
