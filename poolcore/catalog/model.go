package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// State says whether new workers may start with a model.
type State string

// The states of a model; there are no others.
const (
	Active  State = "Active"
	Retired State = "Retired" // new starts are refused; whoever uses it stops by RetireAt
)

// Verification is the outcome of comparing every byte of a model with the digests
// that are expected of it.
type Verification string

// The outcomes of a verification.
const (
	Pass Verification = "pass"
	Warn Verification = "warn" // nobody stated a digest; the computed one is recorded
	Fail Verification = "fail" // the files were moved to quarantine; no worker starts with it
)

// Model is one entry of the index.
type Model struct {
	ID             string       `json:"id"`  // the canonical reference without its digest
	Ref            string       `json:"ref"` // the canonical reference as it was asked for
	State          State        `json:"state"`
	RetireAt       time.Time    `json:"retire_at,omitzero"` // zero = none
	Format         string       `json:"format"`             // "gguf", "safetensors" or "pickle"
	Architecture   string       `json:"architecture"`       // as the files say, "" = unknown
	Quant          string       `json:"quant"`              // such as "Q4_K_M", "" = unknown
	CtxMax         int          `json:"ctx_max"`            // tokens, 0 = unknown
	SizeBytes      int64        `json:"size_bytes"`         // of all files
	Digest         string       `json:"digest"`             // "sha256:" and 64 hex, see digestOf
	Files          []File       `json:"files"`              // sorted by path
	Source         Source       `json:"source"`
	Tags           []string     `json:"tags"`
	Backends       []string     `json:"backends"`
	Verification   Verification `json:"verification"`
	AddedAt        time.Time    `json:"added_at"`
	LastUsedAt     time.Time    `json:"last_used_at,omitzero"`
	LastVerifiedAt time.Time    `json:"last_verified_at"`
}

// File is one file of a model as it was when its digest was computed.
type File struct {
	Path       string    `json:"path"` // below the model's directory
	SizeBytes  int64     `json:"size_bytes"`
	SHA256     string    `json:"sha256"` // 64 lower-case hexadecimal digits
	MtimeNS    int64     `json:"mtime_ns"`
	Inode      uint64    `json:"inode"` // 0 where the system has none
	VerifiedAt time.Time `json:"verified_at"`
}

// Source says where a model came from; "" = does not apply.
type Source struct {
	URL      string `json:"url,omitzero"` // without a query
	Repo     string `json:"repo,omitzero"`
	Revision string `json:"revision,omitzero"` // the commit
	ETag     string `json:"etag,omitzero"`
}

// Located is a model with the place of its files.
type Located struct {
	Model
	Path  string // absolute: the GGUF file (the first part of a split), else the directory
	Shape Shape
}

// Bounds of one entry.
const (
	maxFiles   = 4096
	maxWords   = 64   // tags, backends
	maxWord    = 128  // bytes of a tag, backend, architecture
	maxSource  = 2048 // bytes of a member of Source
	digestWord = "sha256:"
)

// clone returns a copy that shares nothing with m.
func (m Model) clone() Model {
	m.Files, m.Tags, m.Backends = slices.Clone(m.Files), slices.Clone(m.Tags), slices.Clone(m.Backends)
	return m
}

// paths returns the paths of the files.
func (m *Model) paths() []string {
	paths := make([]string, len(m.Files))
	for i, f := range m.Files {
		paths[i] = f.Path
	}
	return paths
}

// digestOf is the SHA-256 over the lines "path\0size\0sha256\n", sorted by path.
func digestOf(files []File) string {
	sorted := slices.SortedFunc(slices.Values(files), byPath)
	sum := sha256.New()
	for _, f := range sorted {
		fmt.Fprintf(sum, "%s\x00%d\x00%s\n", f.Path, f.SizeBytes, f.SHA256)
	}
	return digestWord + hex.EncodeToString(sum.Sum(nil))
}

func byPath(a, b File) int { return strings.Compare(a.Path, b.Path) }

// parseRef accepts a reference that names the place it comes from, and returns it
// with the id of its model.
func parseRef(text string) (ref inputvalidation.ModelRef, id string, err error) {
	ref, err = inputvalidation.ParseModelRef("model_ref", text)
	if err != nil {
		return ref, "", fmt.Errorf("parse model reference: %w", err)
	}
	if ref.Scheme() == inputvalidation.SchemeName {
		return ref, "", refuse(AliasNotAllowed, "write hf:, https: or file: before the place of the model")
	}
	id, _, _ = strings.Cut(ref.String(), "#")
	return ref, id, nil
}

// check reports the first member that no release writes.
func (m *Model) check() error {
	ref, id, err := parseRef(m.Ref)
	if err != nil {
		return err
	}
	for _, member := range []struct {
		name string
		ok   bool
	}{
		{"id", id == m.ID && ref.String() == m.Ref},
		{"state", m.State == Active || m.State == Retired},
		{"verification", m.Verification == Pass || m.Verification == Warn || m.Verification == Fail},
		{"format", m.Format == formatGGUF || m.Format == formatSafetensors || m.Format == formatPickle},
		{"ctx_max", m.CtxMax >= 0},
		{"architecture", clean(maxWord, m.Architecture, m.Quant)},
		{"source", clean(maxSource, m.Source.URL, m.Source.Repo, m.Source.Revision, m.Source.ETag)},
		{"tags", len(m.Tags) <= maxWords && clean(maxWord, m.Tags...)},
		{"backends", len(m.Backends) <= maxWords && clean(maxWord, m.Backends...)},
		{"files", len(m.Files) > 0 && len(m.Files) <= maxFiles},
	} {
		if !member.ok {
			return fault(member.name, inputvalidation.RuleSyntax)
		}
	}
	return m.checkFiles()
}

func (m *Model) checkFiles() error {
	var total int64
	for i, f := range m.Files {
		if _, err := inputvalidation.ParseRelPath("files", f.Path); err != nil {
			return err
		}
		sum, err := inputvalidation.ParseHex("files", f.SHA256, sha256.Size)
		unsorted := i > 0 && m.Files[i-1].Path >= f.Path
		if err != nil || sum != f.SHA256 || f.SizeBytes < 0 || total+f.SizeBytes < total || unsorted {
			return fault("files", inputvalidation.RuleSyntax)
		}
		total += f.SizeBytes
	}
	if total != m.SizeBytes || digestOf(m.Files) != m.Digest {
		return fault("digest", inputvalidation.RuleSyntax)
	}
	return nil
}

// clean reports whether the words are printable as they stand and not too long.
func clean(limit int, words ...string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return len(w) > limit || inputvalidation.Escape(w) != w })
}

func fault(field string, rule inputvalidation.Rule) error {
	return &inputvalidation.Error{Field: field, Rule: rule, Offset: -1, Limit: -1, Actual: -1}
}

// dir returns the model's directory below the catalogue: models/<slug>/<revision>.
func (m *Model) dir() string { return slugDir(m.ID) + "/" + m.revisionDir() }

func slugDir(id string) string { return modelsDir + "/" + slug(id) }

// revisionDir names one content: the commit, or else the digest.
func (m *Model) revisionDir() string {
	if m.Source.Revision != "" {
		return slug(m.Source.Revision)
	}
	return strings.Replace(m.Digest, ":", "-", 1)
}

// entryFile returns the file that an engine is started with, "" for a directory:
// the one that the reference names, else the first GGUF.
func (m *Model) entryFile() string {
	ref, _, err := parseRef(m.Ref)
	if err != nil || m.Format != formatGGUF {
		return ""
	}
	first := ""
	for _, f := range m.Files {
		switch parts := fetch.SplitParts(f.Path); {
		case !isGGUF(f.Path) || f.Path != parts[0]:
		case f.Path == ref.Path() || len(parts) > 1:
			return f.Path
		case first == "":
			first = f.Path
		}
	}
	return first
}

// hasDigest reports whether the file that the model's reference names, or the
// model as a whole, has that SHA-256.
func (m *Model) hasDigest(sum string) bool {
	entry := m.entryFile()
	named := func(f File) bool { return (f.Path == entry || len(m.Files) == 1) && f.SHA256 == sum }
	return m.Digest == digestWord+sum || slices.ContainsFunc(m.Files, named)
}
