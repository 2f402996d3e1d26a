package inputvalidation

import "strings"

const (
	maxRelPath   = 4096 // bytes; PATH_MAX of Linux
	maxComponent = 255  // bytes; NAME_MAX of every file system in use
)

// RelPath is a path below some directory, with single slashes between its
// components. It is comparable; the zero RelPath is none. Two different paths
// may still be the same file on a file system that ignores letter case.
type RelPath struct{ text string }

// ParseRelPath accepts 1..4096 bytes of components of 1..255 bytes between
// single slashes. It refuses an absolute path, a trailing slash, the components
// "." and "..", a component with a leading '-' or a trailing dot or space,
// Windows device names, '\\', ':' and everything that [Escape] would change.
// Other letters are kept as they stand, without normalisation.
func ParseRelPath(field, s string) (RelPath, error) {
	if err := checkText(field, s, maxRelPath); err != nil {
		return RelPath{}, err
	}
	for i := 0; i < len(s); {
		n, clean := unit(s[i:], false)
		if !clean || s[i] == ':' { // a backslash is never clean
			return RelPath{}, refuseAt(field, RuleCharset, i)
		}
		i += n
	}
	if s[0] == '/' {
		return RelPath{}, refuseAt(field, RuleTraversal, 0)
	}
	start := 0
	for part := range strings.SplitSeq(s, "/") {
		if err := checkComponent(field, part, start); err != nil {
			return RelPath{}, err
		}
		start += len(part) + 1
	}
	return RelPath{text: s}, nil
}

// checkComponent checks the structure of one component that begins at start.
func checkComponent(field, part string, start int) error {
	switch {
	case part == "":
		return refuseAt(field, RuleSyntax, start)
	case len(part) > maxComponent:
		return refuseLong(field, start, maxComponent, len(part))
	case part == "." || part == "..":
		return refuseAt(field, RuleTraversal, start)
	case part[0] == '-' || isDeviceName(part):
		return refuseAt(field, RuleSyntax, start)
	case part[len(part)-1] == '.' || part[len(part)-1] == ' ':
		return refuseAt(field, RuleSyntax, start+len(part)-1)
	}
	return nil
}

// String returns the path with forward slashes.
func (p RelPath) String() string { return p.text }

// IsZero reports whether p is none.
func (p RelPath) IsZero() bool { return p.text == "" }

// Base returns the last component, "" for the zero path.
func (p RelPath) Base() string { return p.text[strings.LastIndexByte(p.text, '/')+1:] }

// Join returns q below p. A zero p or q is RuleEmpty, a result over 4096 bytes
// RuleTooLong.
func (p RelPath) Join(q RelPath) (RelPath, error) {
	if p.IsZero() || q.IsZero() {
		return RelPath{}, refuse("path", RuleEmpty)
	}
	if n := len(p.text) + 1 + len(q.text); n > maxRelPath {
		return RelPath{}, refuseLong("path", -1, maxRelPath, n)
	}
	return RelPath{text: p.text + "/" + q.text}, nil
}

// MarshalText returns the text; the zero path is empty text.
func (p RelPath) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText calls [ParseRelPath], so empty text is refused.
func (p *RelPath) UnmarshalText(text []byte) error {
	parsed, err := ParseRelPath("path", string(text))
	if err == nil {
		*p = parsed
	}
	return err
}
