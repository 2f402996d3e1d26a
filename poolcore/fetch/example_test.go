package fetch_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

func Example() {
	ctx := context.Background()
	models, err := os.MkdirTemp("", "models")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(models)
	if err := os.WriteFile(filepath.Join(models, "tiny.gguf"), []byte("GGUF"), 0o600); err != nil {
		log.Fatal(err)
	}
	partial, err := os.OpenRoot(os.TempDir())
	if err != nil {
		log.Fatal(err)
	}
	defer partial.Close()

	s := fetch.Sources{
		HF:   fetch.HuggingFace(fetch.HuggingFaceConfig{Egress: fetch.Egress{Hosts: fetch.HuggingFaceHosts()}}),
		File: fetch.LocalFile(fetch.LocalFileConfig{AllowedDirs: []string{models}}),
	}
	ref, err := inputvalidation.ParseModelRef("model", "file:tiny.gguf")
	if err != nil {
		log.Fatal(err)
	}
	plan, err := s.Resolve(ctx, ref, fetch.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer fetch.Discard(partial, plan)
	got, err := s.Download(ctx, plan, partial, func(p fetch.Progress) { _ = p.Human })
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(got[0].Path, got[0].Size, got[0].SHA256[:16])
	// Output: tiny.gguf 4 b83633aa78534479
}

func ExampleSources_Resolve() {
	ref, err := inputvalidation.ParseModelRef("model", "https://models.example.com/tiny.gguf")
	if err != nil {
		log.Fatal(err)
	}
	s := fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{})} // an Egress that allows nothing
	_, err = s.Resolve(context.Background(), ref, fetch.Options{})
	fmt.Println(err)
	// Output: resolve model: UNTRUSTED_ARTIFACT: the host is not in the list of hosts to download from (file tiny.gguf, host models.example.com)
}
