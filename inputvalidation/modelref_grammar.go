package inputvalidation

import (
	"strconv"
	"strings"
)

const (
	digestMark = "#sha256="
	dotDash    = "._-"
	maxSegment = 96 // bytes of a name, tag, owner or repository
)

// cutDigest separates the optional digest from the reference.
func cutDigest(field, s string) (body, digest string, err error) {
	at := strings.IndexByte(s, '#')
	if at < 0 {
		return s, "", nil
	}
	digest, ok := strings.CutPrefix(s[at:], digestMark)
	if !ok {
		return "", "", refuseAt(field, RuleSyntax, at)
	}
	start := at + len(digestMark)
	lower, err := ParseHex(field, digest, 32)
	if err != nil || lower != digest {
		return "", "", refuseAt(field, RuleSyntax, start)
	}
	return s[:at], digest, nil
}

// parseName accepts seg[:tag].
func parseName(field, s string) (ModelRef, error) {
	name, tag, tagged := strings.Cut(s, ":")
	for _, word := range [...]string{"hf", "file", "http", "https", "s3", "oci"} {
		if strings.EqualFold(word, name) {
			return ModelRef{}, refuseAt(field, RuleScheme, 0)
		}
	}
	if err := checkSegment(field, name, 0, maxSegment, dotDash); err != nil {
		return ModelRef{}, err
	}
	if !isAlnum(name[0]) {
		return ModelRef{}, refuseAt(field, RuleSyntax, 0)
	}
	if tagged {
		at := len(name) + 1
		if err := checkSegment(field, tag, at, maxSegment, dotDash); err != nil {
			return ModelRef{}, err
		}
		if !isAlnum(tag[0]) {
			return ModelRef{}, refuseAt(field, RuleSyntax, at)
		}
	}
	return ModelRef{scheme: SchemeName, name: name, tag: tag}, nil
}

// parseHF accepts owner/repo[@rev][:variant] and a path in one of two forms,
// from s[at:] on.
func parseHF(field, s string, at int) (ModelRef, error) {
	m := ModelRef{scheme: SchemeHF}
	pos := at
	next := func(stops string) string { // the part up to a byte of stops
		part := s[pos:]
		if i := strings.IndexAny(part, stops); i >= 0 {
			part = part[:i]
		}
		pos += len(part)
		return part
	}
	m.owner = next("/")
	if err := checkRepoWord(field, m.owner, at); err != nil {
		return ModelRef{}, err
	}
	if pos == len(s) {
		return ModelRef{}, refuseAt(field, RuleSyntax, pos)
	}
	pos++
	start := pos
	m.repo = next("@:/")
	if err := checkRepoWord(field, m.repo, start); err != nil {
		return ModelRef{}, err
	}
	if low := strings.ToLower(m.repo); strings.HasSuffix(low, ".git") || strings.HasSuffix(low, ".ipynb") {
		return ModelRef{}, refuseAt(field, RuleSyntax, start)
	}
	if strings.HasPrefix(s[pos:], "@") {
		pos++
		start = pos
		m.revision = next(":/")
		if err := checkSegment(field, m.revision, start, 128, dotDash); err != nil {
			return ModelRef{}, err
		}
	}
	if strings.HasPrefix(s[pos:], ":") && !strings.HasPrefix(s[pos:], fileMark) {
		pos++
		start = pos
		m.variant = next(":/")
		if err := checkSegment(field, m.variant, start, 32, dotDash); err != nil {
			return ModelRef{}, err
		}
	}
	return parseHFPath(field, s, pos, m)
}

const fileMark = "::file="

// parseHFPath accepts the end of a repository reference, from s[pos:] on.
func parseHFPath(field, s string, pos int, m ModelRef) (ModelRef, error) {
	switch {
	case pos == len(s):
		return m, nil
	case strings.HasPrefix(s[pos:], fileMark):
		pos += len(fileMark)
	case s[pos] == '/':
		pos++
	default:
		return ModelRef{}, refuseAt(field, RuleSyntax, pos)
	}
	p, err := parseRefPath(field, s, pos)
	m.path = p
	return m, err
}

// parseFile accepts a relative path from s[at:] on.
func parseFile(field, s string, at int) (ModelRef, error) {
	p, err := parseRefPath(field, s, at)
	if err != nil {
		return ModelRef{}, err
	}
	return ModelRef{scheme: SchemeFile, path: p}, nil
}

// parseRefPath accepts s[at:] as a RelPath.
func parseRefPath(field, s string, at int) (string, error) {
	if at == len(s) {
		return "", refuseAt(field, RuleSyntax, at)
	}
	p, err := ParseRelPath(field, s[at:])
	return p.String(), shift(err, at)
}

// parseHTTPS accepts //host[:port]/path from s[at:] on.
func parseHTTPS(field, s string, at int) (ModelRef, error) {
	rest, ok := strings.CutPrefix(s[at:], "//")
	if !ok {
		return ModelRef{}, refuseAt(field, RuleSyntax, at)
	}
	at += 2
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return ModelRef{}, refuseAt(field, RuleSyntax, len(s))
	}
	host, port, hasPort := strings.Cut(rest[:slash], ":")
	host = strings.ToLower(host)
	if err := checkHost(field, host, at); err != nil {
		return ModelRef{}, err
	}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return ModelRef{}, refuseAt(field, RuleSyntax, at+len(host)+1)
		}
		if n == 443 {
			port = ""
		}
	}
	path := rest[slash+1:]
	start := at + slash + 1
	for part := range strings.SplitSeq(path, "/") {
		if err := checkSegment(field, part, start, maxComponent, "._~+=@-"); err != nil {
			return ModelRef{}, err
		}
		start += len(part) + 1
	}
	return ModelRef{scheme: SchemeHTTPS, host: host, port: port, path: path}, nil
}

// checkHost accepts a lower-case DNS name of two labels or more whose last
// label is no number, so that no spelling of an IP address passes.
func checkHost(field, host string, at int) error {
	if len(host) > 253 {
		return refuseLong(field, at, 253, len(host))
	}
	last, labels, pos := "", 0, at
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return refuseAt(field, RuleSyntax, pos)
		case len(label) > 63:
			return refuseLong(field, pos, 63, len(label))
		}
		for i := range len(label) {
			edge := i == 0 || i == len(label)-1
			if !isAlnum(label[i]) && (label[i] != '-' || edge) {
				return refuseAt(field, RuleCharset, pos+i)
			}
		}
		last, labels, pos = label, labels+1, pos+len(label)+1
	}
	if labels < 2 || isNumber(last) {
		return refuseAt(field, RuleAddress, at)
	}
	return nil
}

// isNumber reports whether resolvers may read a label as a part of an IPv4
// address: decimal, octal, or hexadecimal with 0x.
func isNumber(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	for i := range len(digits) {
		if c := digits[i]; !(c >= '0' && c <= '9') && !(hex && isHex(c)) {
			return false
		}
	}
	return true
}

// checkRepoWord accepts an owner or a repository.
func checkRepoWord(field, s string, at int) error {
	if err := checkSegment(field, s, at, maxSegment, dotDash); err != nil {
		return err
	}
	if !isAlnum(s[0]) && s[0] != '_' {
		return refuseAt(field, RuleSyntax, at)
	}
	if c := s[len(s)-1]; !isAlnum(c) && c != '_' {
		return refuseAt(field, RuleSyntax, at+len(s)-1)
	}
	if i := strings.Index(s, "--"); i >= 0 {
		return refuseAt(field, RuleSyntax, at+i)
	}
	if i := strings.Index(s, ".."); i >= 0 {
		return refuseAt(field, RuleTraversal, at+i)
	}
	return nil
}

// checkSegment accepts 1..limit bytes of letters, digits and extra that are
// neither "." nor ".." nor an option nor a device name.
func checkSegment(field, s string, at, limit int, extra string) error {
	if s == "" {
		return refuseAt(field, RuleSyntax, at)
	}
	if len(s) > limit {
		return refuseLong(field, at, limit, len(s))
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(extra, s[i]) < 0 {
			return refuseAt(field, RuleCharset, at+i)
		}
	}
	switch {
	case s == "." || s == "..":
		return refuseAt(field, RuleTraversal, at)
	case s[0] == '-' || isDeviceName(s):
		return refuseAt(field, RuleSyntax, at)
	}
	return nil
}
