package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llorch/llorch/poolcore/catalog"
)

// A model file of the machine is added, found for a start, and found out when
// somebody changes it.
func Example() {
	dir, err := os.MkdirTemp("", "catalog")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "tiny.gguf"), tiny(1), 0o600); err != nil {
		panic(err)
	}
	ctx := context.Background()
	cat, err := catalog.Open(ctx, catalog.Config{
		Dir:       filepath.Join(dir, "models"),
		FreeSpace: func(string) (uint64, error) { return 1 << 40, nil }, // so that the example runs on any disk
	})
	if err != nil {
		panic(err)
	}
	defer cat.Close()

	m, err := cat.Put(ctx, catalog.Put{Ref: "hf:acme/tiny@v1::file=tiny.gguf", From: filepath.Join(dir, "tiny.gguf")})
	if err != nil {
		panic(err)
	}
	fmt.Println(m.ID, m.Architecture, m.Quant, m.Verification)

	at, err := cat.Ready(ctx, "acme/tiny@v1/tiny.gguf") // the canonical form counts
	fmt.Println(filepath.Base(at.Path), at.Shape.Layers, "layers", err)

	if err := os.WriteFile(at.Path, tiny(2), 0o600); err != nil {
		panic(err)
	}
	_, err = cat.Ready(ctx, m.Ref)
	fmt.Println(err, errors.Is(err, catalog.ModelUnverified))
	// Output:
	// hf:acme/tiny@v1::file=tiny.gguf llama Q4_K_M warn
	// tiny.gguf 2 layers <nil>
	// MODEL_UNVERIFIED: a file has other bytes true
}

// What an older program left behind comes in by its bytes.
func ExampleImportLegacy() {
	file, err := os.Open(filepath.Join("testdata", "catalog-1.0.json"))
	if err != nil {
		panic(err)
	}
	defer file.Close()
	puts, err := catalog.ImportLegacy(file)
	for _, p := range puts {
		fmt.Println(p.Ref, "from", p.From)
	}
	fmt.Println(err)
	// Output:
	// hf:acme/old::file=old.gguf from /srv/old.gguf
	// file:second.gguf from /srv/second.gguf
	// <nil>
}

// ReadGGUF answers what a model needs before any of it is loaded.
func ExampleReadGGUF() {
	file, err := os.CreateTemp("", "*.gguf")
	if err != nil {
		panic(err)
	}
	defer os.Remove(file.Name())
	size, err := file.Write(tiny(1))
	if err != nil {
		panic(err)
	}
	h, err := catalog.ReadGGUF(file, int64(size))
	fmt.Println(h.Architecture, h.Blocks, h.KVHeads, h.TensorBytes, err)
	// Output:
	// llama 2 2 5184 <nil>
}
