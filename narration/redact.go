package narration

import (
	"strings"
)

// redact hides what the rules find, in one scan from left to right. Clean input
// comes back as the same string; redacting twice changes nothing.
func (c *rules) redact(s string, lits *literals) string {
	var out strings.Builder
	kept := 0 // everything before is in out
	starts := &c.starts
	if lits != nil {
		starts = &lits.starts
	}
	for i := 0; i < len(s); {
		if at := starts[s[i]]; at == 0 || at == atEdge && i > kept && isIdent(s[i-1]) {
			i++
			continue
		}
		from, to := c.find(s, i, kept, lits)
		if to <= from {
			i++
			continue
		}
		if hidden := s[from:to]; hidden != c.repl {
			out.WriteString(s[kept:from])
			out.WriteString(c.repl)
			kept = to
		}
		i = max(to, i+1)
	}
	if kept == 0 {
		return s
	}
	out.WriteString(s[kept:])
	return out.String()
}

// find returns what to hide of the match that begins at i, -1 if there is none.
// What lies before kept is hidden or done with; a replacement ends in a byte that
// no name holds, so it is an edge.
func (c *rules) find(s string, i, kept int, lits *literals) (from, to int) {
	if n := lits.match(s[i:]); n > 0 {
		return i, i + n
	}
	edge := i == kept || !isIdent(s[i-1])
	switch s[i] {
	case ':', '=':
		if s[i] == ':' && !c.off[ruleURL] {
			if from, to := urlPassword(s, i, kept); from >= 0 {
				return from, to
			}
		}
		if !c.off[rulePair] {
			if from, to := c.pair(s, i, kept); from >= 0 {
				return from, to
			}
		}
	case '-':
		if !c.off[rulePEM] {
			if from, to := pemBody(s, i); from >= 0 {
				return from, to
			}
		}
	case 'b', 'B':
		if edge && !c.off[ruleBearer] {
			if from, to := bearerRun(s, i); from >= 0 {
				return from, to
			}
		}
	case 'e':
		if edge && (i == kept || s[i-1] != '-') && !c.off[ruleJWT] { // a dash continues a part: no second look inside
			if n := jwtLen(s[i:]); n > 0 {
				return i, i + n
			}
		}
	}
	if edge && !c.off[rulePrefix] {
		for _, p := range c.prefixes[s[i]] {
			if strings.HasPrefix(s[i:], p.text) {
				at := i + len(p.text)
				if n := run(s[at:], func(b byte) bool { return isIdent(b) || b == '-' || b == '.' && p.text[len(p.text)-1] == '.' }); n >= p.rest {
					return at, at + n
				}
			}
		}
	}
	return -1, -1
}

func isIdent(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_'
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// run counts the bytes at the start of s that ok accepts.
func run(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

// pair hides the value of name=value, name: value, "name": "value" and the like;
// i is the separator.
func (c *rules) pair(s string, i, kept int) (from, to int) {
	name := nameBefore(s[kept:i])
	if name == "" || !c.sensitive(name) {
		return -1, -1
	}
	v := i + 1
	if v < len(s) && (s[i] == '=' && s[v] == '=' || s[i] == ':' && (s[v] == '=' || s[v] == '/' || s[v] == ':')) {
		return -1, -1 // a comparison, an assignment in a program, a URL
	}
	if s[i] == '=' && v < len(s) && s[v] == '>' {
		v++
	}
	blanks := run(s[v:], func(b byte) bool { return b == ' ' || b == '\t' })
	prose := blanks > 0 && v == i+1 // "password: wrong"; nobody writes prose with =>
	v += blanks
	if v == len(s) {
		return -1, -1
	}
	if open := opener(s[v:]); open != "" {
		from = v + len(open)
		return from, from + quotedLen(s[from:], open)
	}
	if strings.HasPrefix(s[v:], c.repl) {
		return -1, -1
	}
	line := c.wholeLine(name)
	n := run(s[v:], func(b byte) bool {
		if line {
			return b != '\n' && b != '\r'
		}
		return !isBlank(b) && !strings.ContainsRune(",;&)]}", rune(b))
	})
	if scheme := strings.ToLower(s[v : v+min(n, 8)]); !line && (scheme == "bearer" || scheme == "basic" || scheme == "digest") {
		gap := run(s[v+n:], func(b byte) bool { return b == ' ' || b == '\t' })
		n += gap + run(s[v+n+gap:], func(b byte) bool { return !isBlank(b) })
	}
	authorization := line && strings.HasSuffix(strings.ToLower(name), "authorization")
	if prose && n < 16 && !authorization {
		return -1, -1
	}
	if n <= 6 && strings.Trim(s[v:v+n], "0123456789") == "" {
		return -1, -1 // a count
	}
	if s[i:v] == ":" && name == "token" && isLabel(s[v:v+n]) {
		return -1, -1
	}
	return v, v + n
}

// isLabel reports whether s has the form that stands for a token in logs: the first
// six hexadecimal digits of its SHA-256, as in token:9f86d0.
func isLabel(s string) bool { return len(s) == 6 && strings.Trim(s, "0123456789abcdef") == "" }

// nameBefore returns the name that s ends with, without quotes and at most a little
// longer than any name that is looked up.
func nameBefore(s string) string {
	i := len(s)
	if i > 0 && (s[i-1] == ' ' || s[i-1] == '\t') {
		if i--; i > 0 && isBlank(s[i-1]) {
			return "" // more than one blank: a table, not a pair
		}
	}
	if i > 0 && (s[i-1] == '"' || s[i-1] == '\'' || s[i-1] == '`') {
		i--
		for k := 0; k < 8 && i > 0 && s[i-1] == '\\'; k++ {
			i--
		}
	}
	from := i
	for from > 0 && i-from <= maxName && (isIdent(s[from-1]) || s[from-1] == '-' || s[from-1] == '.') {
		from--
	}
	return s[from:i]
}

// opener returns the quote that s begins with, with the backslashes before it.
func opener(s string) string {
	n := run(s[:min(len(s), 8)], func(b byte) bool { return b == '\\' })
	if n < len(s) && (s[n] == '"' || s[n] == '\'' || s[n] == '`') {
		return s[:n+1]
	}
	return ""
}

// quotedLen returns the length of what stands in quotes: to the same quote with as
// many backslashes as open has, or to the end.
func quotedLen(s, open string) int {
	quote, depth, slashes := open[len(open)-1], len(open)-1, 0
	for i := range len(s) {
		switch {
		case s[i] == '\\':
			slashes++
			continue
		case s[i] == quote && depth == 0 && slashes%2 == 0, s[i] == quote && depth > 0 && slashes <= depth:
			return i - min(slashes, depth)
		}
		slashes = 0
	}
	return len(s)
}

// urlPassword hides pass of scheme://user:pass@host; i is the first colon.
func urlPassword(s string, i, kept int) (from, to int) {
	if i == kept || !isIdent(s[i-1]) || !strings.HasPrefix(s[i:], "://") {
		return -1, -1
	}
	from, to = -1, -1
	for j := i + len("://"); j < len(s); j++ {
		switch s[j] {
		case ' ', '\t', '\n', '\r', '/', '?', '#', '"', '\'', '<', '>':
			j = len(s)
		case ':':
			if from < 0 {
				from = j + 1
			}
		case '@':
			to = j
		}
	}
	if from < 0 || to <= from {
		return -1, -1
	}
	return from, to
}

// pemBody hides what stands between the BEGIN line of a private key and its END
// line, or the end of the text; i is the first dash.
func pemBody(s string, i int) (from, to int) {
	const begin, end, kind = "-----BEGIN ", "-----END ", "PRIVATE KEY-----"
	if !strings.HasPrefix(s[i:], begin) {
		return -1, -1
	}
	head := s[i:min(len(s), i+96)]
	n := strings.Index(head, kind)
	if n < 0 || strings.Contains(head[len(begin):n], "-----") {
		return -1, -1
	}
	from = i + n + len(kind)
	if n = strings.Index(s[from:], end); n < 0 {
		return from, len(s)
	}
	return from, from + n
}

// bearerRun hides the run of a bearer token; i is the b.
func bearerRun(s string, i int) (from, to int) {
	const word = "bearer"
	if len(s)-i <= len(word) || !strings.EqualFold(s[i:i+len(word)], word) {
		return -1, -1
	}
	from = i + len(word)
	blanks := run(s[from:], func(b byte) bool { return b == ' ' || b == '\t' })
	from += blanks
	n := run(s[from:], func(b byte) bool { return isIdent(b) || strings.IndexByte(".~+/=-", b) >= 0 })
	if blanks == 0 || n < 16 {
		return -1, -1
	}
	return from, from + n
}

// jwtLen returns the length of the JSON web token that s begins with, 0 if none.
func jwtLen(s string) int {
	if !strings.HasPrefix(s, "eyJ") {
		return 0
	}
	parts, n := 0, 0
	for parts < 5 {
		part := run(s[n:], func(b byte) bool { return isIdent(b) || b == '-' })
		if part == 0 {
			n-- // the dot before belongs to the text
			break
		}
		n += part
		if parts++; n == len(s) || s[n] != '.' || parts == 5 {
			break
		}
		n++
	}
	if parts < 2 || n < 16 {
		return 0
	}
	return n
}
