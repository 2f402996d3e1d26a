// Package fetch brings model files onto this machine: from a model hub, from a
// web server, or from a folder of the operator.
//
// [Sources.Resolve] turns a reference into a [Plan]: which files, how large, and
// what they must hash to. [Sources.Download] brings a plan's files into one
// folder, two at a time, and continues what an earlier run left there. What it
// returns was hashed here, over every byte that lies on the disk; giving it a
// final name is the caller's part (package catalog).
//
// # The folder
//
// Each file is `<hash>.part` beside `<hash>.json`, which says what the bytes
// belong to. A cancelled or killed download leaves both for the next run.
// [Discard] removes them. A folder belongs to one download at a time: its caller
// sees to that (package catalog gives each reference its own, and lets later
// callers join the one that runs).
//
// # Whom it talks to
//
// Only hosts of an [Egress], which by default has none, over https, and only
// addresses of an allowed kind, judged when they are connected. Tokens go to the
// first host only. No error shows a token or the query of a URL.
//
// Functions and sources are safe for concurrent use.
package fetch

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// Bounds of a plan.
const (
	maxFiles = 10_000
	maxSize  = 4 << 40 // bytes of one file
)

// File is one file of a plan.
type File struct {
	Path    string `json:"path"`     // below the model's folder; passes inputvalidation.ParseRelPath
	Size    int64  `json:"size"`     // bytes; -1 = not known before the download
	SHA256  string `json:"sha256"`   // expected, 64 lower-case hexadecimal digits; "" = not known
	GitSHA1 string `json:"git_sha1"` // expected id of a git blob, used when SHA256 is not known; "" = not known
	ETag    string `json:"etag"`     // what the source calls this content; a change discards a partial; "" = not known
	URL     string `json:"url"`      // where the source finds it, without query
}

// Plan is what a reference stands for at the moment of its resolution.
type Plan struct {
	Ref      string // canonical
	Repo     string // owner/name at a hub, else ""
	Revision string // the commit at a hub, else ""
	URL      string // of the model, without query
	Files    []File // 1 to 10,000, by path
}

// Options says what a caller demands of a model.
type Options struct {
	// SHA256 is the digest that the caller pins, 64 lower-case hexadecimal
	// digits; "" = none. It is the digest of the one file; for a model of several
	// files only the caller can compare it.
	SHA256 string
	// Strict refuses a model without a digest pinned by its reference or by SHA256.
	Strict bool
	// AllowPickle admits files that can run code when they are loaded (.bin .pt
	// .pth .pkl .ckpt) if the reference names one.
	AllowPickle bool
}

// Source finds and opens the files of one kind of reference. Its methods are
// called concurrently.
type Source interface {
	// Resolve finds out what ref stands for. An error that is an [*Error] with
	// Retriable makes [Sources.Resolve] ask again.
	Resolve(ctx context.Context, ref inputvalidation.ModelRef, o Options) (Plan, error)
	// Open opens a file of a plan of this source from the byte from on, if its
	// content still has the tag; a source may send the whole file instead and
	// says so in Body. With from 0 the tag is "".
	Open(ctx context.Context, f File, from int64, tag string) (*Body, error)
}

// Body is the content of a file from Start on.
type Body struct {
	io.ReadCloser
	Start int64  // position of the first byte: what was asked for, or 0
	Total int64  // size of the whole file; -1 = not stated
	Tag   string // names exactly these bytes, for the next Open; "" = nothing does
	Ended bool   // the end of the content is marked, so that a cut is an error of Read
}

// Got is a file that was brought completely.
type Got struct {
	Path   string                  // of [File]
	Part   inputvalidation.RelPath // in the folder
	Size   int64                   // bytes
	SHA256 string                  // computed here, 64 lower-case hexadecimal digits
}

// Sources knows a source for each scheme. The zero value fetches nothing.
type Sources struct {
	HF, HTTPS, File Source // nil: references of this scheme are refused

	wait func(ctx context.Context, pause time.Duration) error // tests look at the pauses; nil = it is waited
}

// source returns the source for a reference.
func (s Sources) source(ref inputvalidation.ModelRef) (Source, error) {
	if ref.Scheme() == inputvalidation.SchemeName {
		return nil, &Error{Code: AliasNotAllowed, Hint: "name a repository, a file or an https address"}
	}
	byScheme := map[inputvalidation.Scheme]Source{
		inputvalidation.SchemeHF: s.HF, inputvalidation.SchemeHTTPS: s.HTTPS, inputvalidation.SchemeFile: s.File,
	}
	if src := byScheme[ref.Scheme()]; src != nil {
		return src, nil
	}
	return nil, &Error{Code: HostNotAllowed, Hint: "references of this scheme are not allowed here"}
}

// Resolve finds out what ref stands for. It tries again as Download does.
func (s Sources) Resolve(ctx context.Context, ref inputvalidation.ModelRef, o Options) (Plan, error) {
	src, err := s.source(ref)
	if err != nil {
		return Plan{}, err
	}
	pin, err := o.Pin(ref)
	if err != nil {
		return Plan{}, err
	}
	if !o.AllowPickle && IsPickle(ref.Path()) {
		return Plan{}, &Error{Code: HostNotAllowed, File: path.Base(ref.Path()), Hint: "the format can run code when it is loaded: allow it or choose safetensors or gguf"}
	}
	var plan Plan
	for tries := new(retries); ; {
		plan, err = src.Resolve(ctx, ref, o)
		if err == nil {
			break
		}
		if err := s.again(ctx, tries, err); err != nil {
			return Plan{}, fmt.Errorf("resolve model: %w", err)
		}
	}
	plan.Ref = ref.String()
	if err := plan.check(); err != nil {
		return Plan{}, fmt.Errorf("resolve model: %w", err)
	}
	return plan, plan.pin(pin)
}

// Pin returns the digest that the reference or the caller demands, "" = none. It
// is InvalidParams for what is no digest, DigestMismatch when they demand two, and
// HostNotAllowed when the strict policy misses one.
func (o Options) Pin(ref inputvalidation.ModelRef) (string, error) {
	stated := ref.Digest()
	switch {
	case o.SHA256 != "" && !isHex(o.SHA256, 32):
		return "", &Error{Code: InvalidParams, Hint: "sha256 is 64 lower-case hexadecimal digits"}
	case stated != "" && o.SHA256 != "" && stated != o.SHA256:
		return "", &Error{Code: DigestMismatch, Hint: "the reference and the caller state different digests"}
	case stated == "" && o.SHA256 == "" && o.Strict:
		return "", &Error{Code: HostNotAllowed, Hint: "the strict policy needs a digest: add #sha256=… to the reference or state sha256"}
	}
	return cmp.Or(stated, o.SHA256), nil
}

// pin makes the digest what the one file must hash to.
func (p *Plan) pin(digest string) error {
	if digest == "" || len(p.Files) != 1 {
		return nil
	}
	if stated := p.Files[0].SHA256; stated != "" && stated != digest {
		return &Error{Code: DigestMismatch, File: p.Files[0].Path, Hint: "the source states another digest than the pinned one"}
	}
	p.Files[0].SHA256 = digest
	return nil
}

// check refuses a plan that no source may give.
func (p *Plan) check() error {
	if len(p.Files) == 0 || len(p.Files) > maxFiles {
		return &Error{Code: SourceInvalid, Hint: "a model has 1 to 10000 files"}
	}
	seen := make(map[string]bool, len(p.Files))
	for _, f := range p.Files {
		if err := f.check(); err != nil {
			return err
		}
		if seen[f.Path] {
			return &Error{Code: SourceInvalid, Hint: "the name of a file stands there twice"}
		}
		seen[f.Path] = true
	}
	return nil
}

func (f File) check() error {
	switch _, err := inputvalidation.ParseRelPath("path", f.Path); {
	case err != nil:
		return &Error{Code: SourceInvalid, Hint: "the name of a file is refused"}
	case f.Size < -1 || f.Size > maxSize:
		return &Error{Code: SourceInvalid, File: f.Path, Hint: "the size of the file is refused"}
	case f.SHA256 != "" && !isHex(f.SHA256, 32) || f.GitSHA1 != "" && !isHex(f.GitSHA1, 20):
		return &Error{Code: SourceInvalid, File: f.Path, Hint: "the digest of the file is refused"}
	case len(f.ETag) > maxTag || len(f.URL) > maxURL:
		return &Error{Code: SourceInvalid, File: f.Path, Hint: "the address of the file is refused"}
	}
	return nil
}

func isHex(s string, bytes int) bool {
	d, err := inputvalidation.ParseHex("digest", s, bytes)
	return err == nil && d == s
}
