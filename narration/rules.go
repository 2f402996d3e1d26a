package narration

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Redaction adds to the built-in rules. The zero value is those rules alone.
type Redaction struct {
	// Keys are further names whose values are hidden, NotKeys names that stay
	// visible. Case, "-", "." and "_" make no difference; a name counts also as
	// the end of a longer one, after a separator.
	Keys, NotKeys []string
	// Prefixes maps a further prefix of secrets to the shortest rest, in bytes.
	Prefixes map[string]int
	// Replacement stands for what was hidden. "" = [REDACTED].
	Replacement string
	// Off disables rules: key pair bearer jwt url pem prefix.
	Off []string
}

// Rule names of Redaction.Off. Literals cannot be turned off.
const (
	ruleKey    = "key"
	rulePair   = "pair"
	ruleBearer = "bearer"
	ruleJWT    = "jwt"
	ruleURL    = "url"
	rulePEM    = "pem"
	rulePrefix = "prefix"
)

const (
	secretNames = "password passwd passphrase secret token apikey api_key access_key secret_key private_key seal_key signing_key " +
		"encryption_key credential credentials authorization proxy_authorization cookie set_cookie"
	harmlessNames = "max_tokens tokens token_count token_fp token_type eos_token bos_token pad_token stop_token " +
		"first_token next_token page_token"
)

// builtinPrefixes lists prefixes with the shortest rest that makes a secret.
const builtinPrefixes = "AKIA:16 ASIA:16 ghp_:36 gho_:36 ghu_:36 ghs_:36 ghr_:36 npm_:36 hf_:30 AIza:35 github_pat_:20 glpat-:20 " +
	"xoxa-:20 xoxb-:20 xoxe-:20 xoxo-:20 xoxp-:20 xoxr-:20 xoxs-:20 sk-:20 sk-ant-:20 sk-proj-:20 ya29.:20 pypi-:20 dop_v1_:20 " +
	"SG.:20 llorch_:20 llj_:20 llk_:20 AGE-SECRET-KEY-1:40"

type prefix struct {
	text string
	rest int
}

// rules is a Redaction ready for use; it never changes.
type rules struct {
	repl             string
	off              map[string]bool
	secret, harmless map[string]bool // folded names
	prefixes         [256][]prefix   // by first byte, longest first
	starts           [256]uint8      // at which bytes to look: never, atEdge or always
}

const (
	atEdge = 1 // only where no name character stands before
	always = 2
)

func compile(r Redaction) (*rules, error) {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, &ConfigError{"Redact." + field, fmt.Sprintf(format, args...)})
	}
	c := &rules{repl: cmp.Or(r.Replacement, "[REDACTED]"), off: map[string]bool{}, secret: map[string]bool{}, harmless: map[string]bool{}}
	for _, name := range r.Off {
		if !slices.Contains([]string{ruleKey, rulePair, ruleBearer, ruleJWT, ruleURL, rulePEM, rulePrefix}, name) {
			fault("Off", "no such rule")
		}
		c.off[name] = true
	}
	for field, names := range map[string][]string{"Keys": r.Keys, "NotKeys": r.NotKeys} {
		for _, name := range names {
			if strings.Trim(name, "-._") == "" || len(name) > maxName {
				fault(field, "a name is empty or longer than %d bytes", maxName)
			}
		}
	}
	for _, name := range append(strings.Fields(secretNames), r.Keys...) {
		c.secret[fold(name)] = true
	}
	for _, name := range append(strings.Fields(harmlessNames), r.NotKeys...) {
		c.harmless[fold(name)] = true
	}
	prefixes := knownPrefixes()
	for text, rest := range r.Prefixes {
		if len(text) < 3 || rest < 1 {
			fault("Prefixes", "a prefix has 3 bytes or more and a rest of 1 or more")
		}
		prefixes = append(prefixes, prefix{text, rest})
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	slices.SortFunc(prefixes, func(a, b prefix) int {
		return cmp.Or(cmp.Compare(len(b.text), len(a.text)), cmp.Compare(a.text, b.text))
	})
	for _, b := range []byte("bBe") {
		c.starts[b] = atEdge
	}
	for _, p := range prefixes {
		c.starts[p.text[0]] = atEdge
		c.prefixes[p.text[0]] = append(c.prefixes[p.text[0]], p)
	}
	for _, b := range []byte("=:-") {
		c.starts[b] = always
	}
	edge := func(b byte) bool { return isIdent(b) || b == '-' || b == '.' }
	if escape(c.repl, false) != c.repl || strings.ContainsAny(c.repl, " \"'=:`") || edge(c.repl[0]) || edge(c.repl[len(c.repl)-1]) || c.redact(c.repl, nil) != c.repl {
		return nil, &ConfigError{"Redact.Replacement", "it holds a blank, a quote, a separator or something that a rule hides, or begins or ends like a name"}
	}
	return c, nil
}

// knownPrefixes reads builtinPrefixes.
func knownPrefixes() (out []prefix) {
	for p := range strings.FieldsSeq(builtinPrefixes) {
		i := strings.LastIndexByte(p, ':')
		rest, err := strconv.Atoi(p[i+1:])
		if err != nil {
			panic("narration: internal error: " + err.Error())
		}
		out = append(out, prefix{p[:i], rest})
	}
	return out
}

// maxName bounds the names that are looked up; of a longer one only the end counts.
const maxName = 64

// fold makes names comparable.
func fold(name string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
}

// sensitive reports whether name, or its end after a separator, is in the list.
func (c *rules) sensitive(name string) bool {
	whole := true
	if len(name) > maxName {
		name, whole = name[len(name)-maxName:], false
	}
	var buf [maxName]byte
	b := buf[:len(name)]
	for i := range len(name) {
		switch ch := name[i]; {
		case ch >= 'A' && ch <= 'Z':
			b[i] = ch | 0x20
		case ch == '-' || ch == '.':
			b[i] = '_'
		default:
			b[i] = ch
		}
	}
	return ends(b, whole, c.secret) && !ends(b, whole, c.harmless)
}

// ends reports whether name, if it is whole, or one of its ends after a separator
// is in the list.
func ends(name []byte, whole bool, list map[string]bool) bool {
	for i := range name {
		if (i == 0 && whole || i > 0 && name[i-1] == '_') && list[string(name[i:])] {
			return true
		}
	}
	return false
}

// wholeLine reports whether the whole line is hidden under this name: those are
// the headers whose values have blanks and semicolons inside.
func (c *rules) wholeLine(name string) bool {
	name = fold(name)
	return strings.HasSuffix(name, "authorization") || strings.HasSuffix(name, "cookie")
}
