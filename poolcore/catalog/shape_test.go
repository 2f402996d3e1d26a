package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore/catalog"
)

// PCO-61: a split is one model with all parts, and none of them may be missing.
func TestSplit(t *testing.T) {
	c := open(t, catalog.Config{Dir: t.TempDir()})
	one := llama().u32("split.count", 3).tensor(0, 4096, 32, 32).bytes()
	more := new(gguf).u32("split.count", 3).tensor(0, 4096, 32, 32).bytes()
	first := write(t, "big-00001-of-00003.gguf", one)
	for _, n := range []string{"big-00002-of-00003.gguf", "big-00003-of-00003.gguf"} {
		_, err := c.Put(t.Context(), catalog.Put{Ref: "file:big-00001-of-00003.gguf", From: first})
		wantCode(t, "Put(a part missing)", err, catalog.ModelIncompatible)
		must(t, os.WriteFile(filepath.Join(filepath.Dir(first), n), more, 0o600))
	}
	m, err := c.Put(t.Context(), catalog.Put{Ref: "file:big-00001-of-00003.gguf", From: first})
	must(t, err)
	at, err := c.Ready(t.Context(), "file:big-00001-of-00003.gguf")
	must(t, err)
	if len(m.Files) != 3 || m.SizeBytes != int64(len(one)+2*len(more)) || at.Shape.TensorBytes != 3*4096 ||
		filepath.Base(at.Path) != "big-00001-of-00003.gguf" {
		t.Errorf("split = %d files, %d bytes, %+v at %s", len(m.Files), m.SizeBytes, at.Shape, at.Path)
	}
	must(t, os.Remove(filepath.Join(filepath.Dir(at.Path), "big-00002-of-00003.gguf")))
	_, err = c.Ready(t.Context(), "file:big-00001-of-00003.gguf")
	wantCode(t, "Ready(a part removed)", err, catalog.ModelUnverified)
	whole := write(t, "m-00001-of-00002.gguf", llama().u32("split.count", 5).bytes())
	must(t, os.WriteFile(filepath.Join(filepath.Dir(whole), "m-00002-of-00002.gguf"), more, 0o600))
	_, err = c.Put(t.Context(), catalog.Put{Ref: "file:m.gguf", From: whole})
	wantCode(t, "Put(header says 5 parts)", err, catalog.ModelIncompatible)
}

// PCO-14's numbers of a safetensors directory come from config.json.
func TestSafetensorsShape(t *testing.T) {
	c := open(t, catalog.Config{Dir: t.TempDir()})
	put := func(name, config string) catalog.Located {
		t.Helper()
		from := filepath.Dir(write(t, "model-00001-of-00002.safetensors", safetensors(100)))
		must(t, os.WriteFile(filepath.Join(from, "model-00002-of-00002.safetensors"), safetensors(50), 0o600))
		must(t, os.WriteFile(filepath.Join(from, "training.bin"), []byte("pickle"), 0o600))
		must(t, os.WriteFile(filepath.Join(from, "config.json"), []byte(config), 0o600))
		_, err := c.Put(t.Context(), catalog.Put{Ref: "hf:acme/" + name, From: from})
		must(t, err)
		at, err := c.Locate("hf:acme/" + name)
		must(t, err)
		return at
	}
	at := put("plain", `{"model_type":"qwen3","num_hidden_layers":4,"num_attention_heads":16,"num_key_value_heads":8,"hidden_size":2048,"head_dim":128,"max_position_embeddings":40960,"torch_dtype":"bfloat16"}`)
	want := catalog.Shape{Architecture: "qwen3", Layers: 4, KVHeads: 8, KeyLength: 128, ValueLength: 128, CtxMax: 40960, TensorBytes: 170, Known: true, OffloadLayers: 5}
	if at.Shape != want || at.Quant != "bfloat16" || at.CtxMax != 40960 || len(at.Files) != 3 || filepath.Base(filepath.Dir(at.Path)) == "models" {
		t.Errorf("plain = %+v %q, files %v", at.Shape, at.Quant, at.Files)
	}
	at = put("inner", `{"model_type":"llava","text_config":{"num_hidden_layers":2,"num_attention_heads":4,"hidden_size":64},"quantization_config":{"quant_method":"awq"}}`)
	if at.Shape.Layers != 2 || at.Shape.KVHeads != 4 || at.Shape.KeyLength != 16 || at.Quant != "awq" || at.Architecture != "llava" {
		t.Errorf("inner = %+v %q", at.Shape, at.Quant)
	}
	at = put("odd", `{"num_hidden_layers":"many","model_type":"../x"}`)
	if at.Shape.Known || at.Shape.TensorBytes != 170 || at.Architecture != "" {
		t.Errorf("odd = %+v %q, want no knowledge but the size", at.Shape, at.Architecture)
	}
}

// PCO-63: formats, pickles, and in strict mode a digest that somebody stated.
func TestTrust(t *testing.T) {
	pickle := write(t, "pytorch_model.bin", []byte("PK"))
	data := tiny(1)
	model := write(t, "tiny.gguf", data)
	lax, strict := open(t, catalog.Config{Dir: t.TempDir()}), open(t, catalog.Config{Dir: t.TempDir(), Trust: catalog.Trust{Strict: true}})
	dir := t.TempDir()
	loose := open(t, catalog.Config{Dir: dir, Trust: catalog.Trust{AllowPickle: true}})
	put := func(c *catalog.Catalog, p catalog.Put) error { return second(c.Put(t.Context(), p)) }
	wantCode(t, "pickle", put(lax, catalog.Put{Ref: "hf:a/p", From: pickle}), catalog.Untrusted)
	must(t, put(loose, catalog.Put{Ref: "hf:a/p", From: pickle}))
	must(t, loose.Close())
	_, err := open(t, catalog.Config{Dir: dir}).Ready(t.Context(), "hf:a/p")
	wantCode(t, "Ready(pickle, no longer allowed)", err, catalog.Untrusted)
	wantCode(t, "no weights", put(lax, catalog.Put{Ref: "hf:a/p", From: write(t, "readme.md", nil)}), catalog.Untrusted)
	mixed := filepath.Dir(write(t, "a.gguf", data))
	must(t, os.WriteFile(filepath.Join(mixed, "b.safetensors"), safetensors(1), 0o600))
	wantCode(t, "two formats", put(lax, catalog.Put{Ref: "hf:a/p", From: mixed}), catalog.ModelIncompatible)

	err = put(strict, catalog.Put{Ref: ref, From: model})
	wantCode(t, "strict without a digest", err, catalog.Untrusted)
	if !strings.Contains(err.Error(), "sha256") {
		t.Errorf("%v does not name what is missing", err)
	}
	must(t, put(strict, catalog.Put{Ref: ref, From: model, SHA256: sum(data)}))
	must(t, put(strict, catalog.Put{Ref: ref + "#sha256=" + sum(data), From: model}))
	for _, p := range []catalog.Put{
		{Ref: ref, SHA256: sum(tiny(2))}, {Ref: ref + "#sha256=" + sum(tiny(2))}, {Ref: ref + "#sha256=" + sum(data), SHA256: sum(tiny(2))},
	} {
		p.From = model
		wantCode(t, "wrong digest", put(lax, p), catalog.DigestMismatch)
	}
	wantCode(t, "no digest", put(lax, catalog.Put{Ref: ref, From: model, SHA256: strings.ToUpper(sum(data))}), catalog.InvalidParams)
	// Of several files the model's digest is the one that covers them all.
	split := write(t, "m-00001-of-00002.gguf", data)
	must(t, os.WriteFile(filepath.Join(filepath.Dir(split), "m-00002-of-00002.gguf"), new(gguf).bytes(), 0o600))
	m, err := lax.Put(t.Context(), catalog.Put{Ref: "file:m.gguf", From: split, SHA256: sum(data)})
	if err != nil || m.Verification != catalog.Warn {
		t.Errorf("Put(split, first part's digest) = %v, %v, want a warning", m.Verification, err)
	}
	wantCode(t, "strict split", put(strict, catalog.Put{Ref: "file:m.gguf", From: split, SHA256: sum(data)}), catalog.DigestMismatch)
	must(t, put(strict, catalog.Put{Ref: "file:m.gguf", From: split, SHA256: strings.TrimPrefix(m.Digest, "sha256:")}))
}
