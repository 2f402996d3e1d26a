package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/catalog"
)

// PCO-61, PCO-63: the models of a catalog.json come in by their bytes; what it says
// of checks and formats is not believed.
func TestImportLegacy(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "catalog-1.0.json"))
	must(t, err)
	at := write(t, "old.gguf", tiny(1))
	puts, err := catalog.ImportLegacy(strings.NewReader(strings.ReplaceAll(string(raw), "/srv/old.gguf", at)))
	must(t, err)
	if len(puts) != 2 || puts[0].Ref != "hf:acme/old::file=old.gguf" || puts[0].From != at || !slices.Equal(puts[0].Backends, []string{"llamacpp"}) ||
		puts[0].SHA256 != "" || puts[1].Ref != "file:second.gguf" {
		t.Fatalf("ImportLegacy = %+v", puts)
	}
	c := open(t, catalog.Config{Dir: t.TempDir()})
	m, err := c.Put(t.Context(), puts[0])
	if err != nil || m.Verification != catalog.Warn || m.Quant != "Q4_K_M" {
		t.Errorf("Put = %+v, %v, want a warning: nobody stated a digest", m, err)
	}
}

func TestImportLegacyRefused(t *testing.T) {
	model := func(id, path string) string {
		return `{"version":"1.0","models":[{"id":"` + id + `","path":"` + path + `","downloaded":true}]}`
	}
	for _, c := range []struct{ raw, field string }{
		{"", "catalog.json"},
		{`{"version":"2.0","models":[]}`, "version"},
		{`{"version":"1.0","models":3}`, "catalog.json"},
		{model("a/b", "models/x.gguf"), "models[0].path"},
		{model("x", "/srv/..."), "models[0].path"},
		{strings.Replace(model("a/b", "/srv/x.gguf"), "]", `,{"id":"hf:a/b","path":"/srv/y.gguf","downloaded":true}]`, 1), "models[1].id"},
	} {
		_, err := catalog.ImportLegacy(strings.NewReader(c.raw))
		if e, ok := errors.AsType[*inputvalidation.Error](err); !ok || e.Field != c.field {
			t.Errorf("ImportLegacy(%q) = %v, want an error of %s", c.raw, err, c.field)
		}
	}
}

func FuzzImportLegacy(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join("testdata", "catalog-1.0.json"))
	must(f, err)
	f.Add(string(raw))
	f.Add(`{"version":"1.0","models":[{"id":"x","path":"/","downloaded":true}]}`)
	f.Fuzz(func(t *testing.T, raw string) {
		puts, err := catalog.ImportLegacy(strings.NewReader(raw))
		if _, ok := errors.AsType[*inputvalidation.Error](err); err != nil && !ok {
			t.Fatalf("untyped error %v", err)
		}
		for _, p := range puts {
			if _, err := inputvalidation.ParseModelRef("ref", p.Ref); err != nil || !filepath.IsAbs(p.From) {
				t.Fatalf("%+v: %v", p, err)
			}
		}
	})
}
