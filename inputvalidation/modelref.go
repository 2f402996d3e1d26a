package inputvalidation

import (
	"errors"
	"strings"
)

// Scheme says where a model reference points. The zero value is no scheme.
type Scheme string

// The schemes of model references.
const (
	SchemeName  Scheme = "name"  // an alias of the catalogue: llama3:8b
	SchemeHF    Scheme = "hf"    // a repository of the model hub: hf:owner/repo@rev:variant::file=path
	SchemeFile  Scheme = "file"  // a path below the operator's model directory: file:dir/model.gguf
	SchemeHTTPS Scheme = "https" // one file on a web server: https://host/path
)

// maxModelRef bounds a reference and its canonical form, in bytes.
const maxModelRef = 512

// ModelRef is a parsed model reference. It is comparable: equal references
// compare equal with ==, because every field is canonical. The zero ModelRef is
// none. Methods for parts that a scheme does not have return "".
type ModelRef struct {
	scheme              Scheme
	name, tag           string // SchemeName
	owner, repo         string // SchemeHF
	revision, variant   string
	host, port          string // SchemeHTTPS
	path, digest, canon string // path: hf, file, https
}

// ParseModelRef parses a reference of at most 512 ASCII bytes:
//
//	name[:tag]
//	[hf:[//]]owner/repo[@rev][:variant][/path]   or ::file=path instead of /path
//	file:path
//	https://host[:port]/path
//
// each with an optional #sha256=<64 lower-case hexadecimal digits>. It looks at
// syntax only and never touches network or disk. A bare a/b is a repository,
// never a file; a path of scheme file is below a directory that the operator
// chose, so file:/… and file://… are RuleTraversal. ParseModelRef(m.String())
// gives m again.
func ParseModelRef(field, s string) (ModelRef, error) {
	if err := checkText(field, s, maxModelRef); err != nil {
		return ModelRef{}, err
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '%' || c == '\\' {
			return ModelRef{}, refuseAt(field, RuleCharset, i)
		}
	}
	body, digest, err := cutDigest(field, s)
	if err != nil {
		return ModelRef{}, err
	}
	m, err := parseSchemes(field, body)
	if err != nil {
		return ModelRef{}, err
	}
	m.digest = digest
	m.canon = m.canonical()
	if len(m.canon) > maxModelRef {
		return ModelRef{}, refuseLong(field, -1, maxModelRef, len(m.canon))
	}
	return m, nil
}

// parseSchemes chooses the grammar by the first colon or slash.
func parseSchemes(field, s string) (ModelRef, error) {
	at := strings.IndexAny(s, ":/")
	if at < 0 {
		return parseName(field, s)
	}
	if s[at] == '/' {
		return parseHF(field, s, 0)
	}
	switch s[:at] {
	case "hf":
		body := at + 1
		if strings.HasPrefix(s[body:], "//") {
			body += 2
		}
		return parseHF(field, s, body)
	case "file":
		return parseFile(field, s, at+1)
	case "https":
		return parseHTTPS(field, s, at+1)
	}
	m, err := parseName(field, s)
	if err != nil {
		return ModelRef{}, refuseAt(field, RuleScheme, 0)
	}
	return m, nil
}

// String returns the canonical text, "" for the zero reference.
func (m ModelRef) String() string { return m.canon }

func (m ModelRef) canonical() string {
	var b strings.Builder
	put := func(before, part string) {
		if part != "" {
			b.WriteString(before)
			b.WriteString(part)
		}
	}
	switch m.scheme {
	case SchemeName:
		put("", m.name)
		put(":", m.tag)
	case SchemeHF:
		put("hf:", m.owner)
		put("/", m.repo)
		put("@", m.revision)
		put(":", m.variant)
		put("::file=", m.path)
	case SchemeFile:
		put("file:", m.path)
	case SchemeHTTPS:
		put("https://", m.host)
		put(":", m.port)
		put("/", m.path)
	}
	put(digestMark, m.digest)
	return b.String()
}

// IsZero reports whether m is none.
func (m ModelRef) IsZero() bool { return m.scheme == "" }

// Scheme returns the scheme.
func (m ModelRef) Scheme() Scheme { return m.scheme }

// Name returns the alias of a SchemeName reference, without its tag.
func (m ModelRef) Name() string { return m.name }

// Tag returns what follows the colon of a SchemeName reference.
func (m ModelRef) Tag() string { return m.tag }

// Owner returns the user or organisation of a SchemeHF reference.
func (m ModelRef) Owner() string { return m.owner }

// Repo returns the repository of a SchemeHF reference, without its owner.
func (m ModelRef) Repo() string { return m.repo }

// Revision returns the branch, tag or commit of a SchemeHF reference.
func (m ModelRef) Revision() string { return m.revision }

// Variant returns the quantisation of a SchemeHF reference.
func (m ModelRef) Variant() string { return m.variant }

// Host returns the lower-case host name of a SchemeHTTPS reference.
func (m ModelRef) Host() string { return m.host }

// Port returns the port of a SchemeHTTPS reference, "" for 443.
func (m ModelRef) Port() string { return m.port }

// Path returns the path in the repository, below the model directory, or on
// the web server, without a leading slash.
func (m ModelRef) Path() string { return m.path }

// Digest returns the SHA-256 of the file as 64 lower-case hexadecimal digits.
func (m ModelRef) Digest() string { return m.digest }

// Pinned reports whether the reference names one content for ever: it carries
// a digest, or its revision is a full commit id.
func (m ModelRef) Pinned() bool {
	if m.digest != "" {
		return true
	}
	commit, err := ParseHex("revision", m.revision, 20)
	return err == nil && commit == m.revision
}

// HostAllowed reports whether the host of a SchemeHTTPS reference is in an
// egress allow-list. A pattern is a host name or "*." and a suffix of whole
// labels: "*.example.com" matches a.example.com, neither example.com nor
// badexample.com. An empty list, and any other scheme, allows nothing.
func (m ModelRef) HostAllowed(patterns []string) bool {
	if m.host == "" {
		return false
	}
	for _, p := range patterns {
		suffix, wild := strings.CutPrefix(strings.ToLower(p), "*")
		if !wild && suffix == m.host {
			return true
		}
		if wild && len(suffix) > 1 && suffix[0] == '.' && strings.HasSuffix(m.host, suffix) {
			return true
		}
	}
	return false
}

// MarshalText returns the canonical text; the zero reference is empty text.
func (m ModelRef) MarshalText() ([]byte, error) { return []byte(m.canon), nil }

// UnmarshalText calls [ParseModelRef], so empty text is refused.
func (m *ModelRef) UnmarshalText(text []byte) error {
	parsed, err := ParseModelRef("model", string(text))
	if err == nil {
		*m = parsed
	}
	return err
}

// shift moves the offset of an error about a part of the input to the input.
func shift(err error, by int) error {
	e, ok := errors.AsType[*Error](err)
	if ok && e.Offset >= 0 {
		e.Offset += by
	}
	return err
}
