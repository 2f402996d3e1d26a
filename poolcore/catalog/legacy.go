package catalog

import (
	"encoding/json"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"

	"github.com/llorch/llorch/inputvalidation"
)

const maxLegacy = 16 << 20

// legacyForm is a catalog.json of version "1.0". What it says of sizes, digests,
// formats and checks is not believed and not read.
type legacyForm struct {
	Version string `json:"version"`
	Models  []struct {
		ID         string   `json:"id"`
		Path       string   `json:"path"`
		Downloaded bool     `json:"downloaded"`
		Backends   []string `json:"backends"`
	} `json:"models"`
}

// ImportLegacy reads a catalog.json of version "1.0" and returns what
// [Catalog.Put] has to be called with for each model that lies on this disk.
// Models that were not downloaded are left out. A model whose id is no reference
// with a place is found as file:<name of its file> afterwards. The error is an
// inputvalidation.Error that names the member.
func ImportLegacy(r io.Reader) ([]Put, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxLegacy+1))
	if err == nil {
		err = inputvalidation.CheckJSON("catalog.json", raw, maxLegacy)
	}
	if err != nil {
		return nil, fmt.Errorf("read legacy catalogue: %w", err)
	}
	var form legacyForm
	switch err := json.Unmarshal(raw, &form); {
	case err != nil:
		return nil, fault("catalog.json", inputvalidation.RuleSyntax)
	case form.Version != "1.0":
		return nil, fault("version", inputvalidation.RuleRange)
	case len(form.Models) > maxModels:
		return nil, fault("models", inputvalidation.RuleTooLong)
	}
	var puts []Put
	for i, m := range form.Models {
		if !m.Downloaded {
			continue
		}
		field := fmt.Sprintf("models[%d].", i)
		ref, _, err := parseRef(m.ID)
		if err != nil {
			ref, err = inputvalidation.ParseModelRef(field+"path", "file:"+path.Base(filepath.ToSlash(m.Path)))
		}
		switch {
		case !filepath.IsAbs(m.Path):
			return nil, fault(field+"path", inputvalidation.RuleSyntax)
		case err != nil:
			return nil, err
		case slices.ContainsFunc(puts, func(p Put) bool { return p.Ref == ref.String() }):
			return nil, fault(field+"id", inputvalidation.RuleDuplicate)
		}
		puts = append(puts, Put{Ref: ref.String(), From: m.Path, Backends: m.Backends})
	}
	return puts, nil
}
