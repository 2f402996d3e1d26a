package inputvalidation

import (
	"strings"
	"unicode/utf8"
)

// IdentRules says what an identifier may look like. The zero value is 1..256
// bytes of letters, digits, '_' and '-'.
type IdentRules struct {
	Max      int      // bytes, 1..4096; 0 = 256
	Extra    string   // bytes allowed beside letters and digits, a subset of "._-:@+"; "" = "_-"
	Reserved []string // names refused whatever their letter case; nil = none
}

// maxIdentifier bounds IdentRules.Max; it is one page, far above any name in use.
const maxIdentifier = 4096

// CheckIdentifier reports whether s is an identifier under r: ASCII letters,
// digits and r.Extra, first and last byte a letter or digit, no "..", no
// Windows device name (CON, PRN, AUX, NUL, COM1..9, LPT1..9 in any case, also
// before a dot) and none of r.Reserved. The error is an [*Error]; RuleBounds
// means that r itself is wrong.
func CheckIdentifier(field, s string, r IdentRules) error {
	limit, extra := r.Max, r.Extra
	if limit == 0 {
		limit = 256
	}
	if extra == "" {
		extra = "_-"
	}
	if limit < 1 || limit > maxIdentifier || strings.Trim(extra, "._-:@+") != "" {
		return refuse(field, RuleBounds)
	}
	if err := checkText(field, s, limit); err != nil {
		return err
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(extra, s[i]) < 0 {
			return refuseAt(field, RuleCharset, i)
		}
	}
	return checkIdentifierForm(field, s, r.Reserved)
}

func checkIdentifierForm(field, s string, reserved []string) error {
	if !isAlnum(s[0]) {
		return refuseAt(field, RuleSyntax, 0)
	}
	if !isAlnum(s[len(s)-1]) {
		return refuseAt(field, RuleSyntax, len(s)-1)
	}
	if i := strings.Index(s, ".."); i >= 0 {
		return refuseAt(field, RuleTraversal, i)
	}
	if isDeviceName(s) {
		return refuseAt(field, RuleSyntax, 0)
	}
	for _, name := range reserved {
		if strings.EqualFold(name, s) {
			return refuseAt(field, RuleSyntax, 0)
		}
	}
	return nil
}

// ParseUUID returns the canonical lower-case form of a UUID written as
// 8-4-4-4-12 hexadecimal digits in any letter case. Braces, the URN form and
// missing hyphens are refused. The version is not checked.
func ParseUUID(field, s string) (string, error) {
	if err := checkText(field, s, 36); err != nil {
		return "", err
	}
	for i := range len(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return "", refuseAt(field, RuleSyntax, i)
			}
		} else if !isHex(s[i]) {
			return "", refuseAt(field, RuleCharset, i)
		}
	}
	if len(s) < 36 {
		return "", refuseAt(field, RuleSyntax, len(s))
	}
	return strings.ToLower(s), nil
}

// ParseHex returns the canonical lower-case form of exactly 2·bytes
// hexadecimal digits. bytes is 1..4096, else RuleBounds.
func ParseHex(field, s string, bytes int) (string, error) {
	if bytes < 1 || bytes > maxIdentifier {
		return "", refuse(field, RuleBounds)
	}
	if err := checkText(field, s, 2*bytes); err != nil {
		return "", err
	}
	if len(s) < 2*bytes {
		return "", &Error{Field: field, Rule: RuleSyntax, Offset: len(s), Limit: 2 * bytes, Actual: len(s)}
	}
	for i := range len(s) {
		if !isHex(s[i]) {
			return "", refuseAt(field, RuleCharset, i)
		}
	}
	return strings.ToLower(s), nil
}

// checkText applies the first three checks of every validator: empty, length
// in bytes, UTF-8.
func checkText(field, s string, limit int) error {
	if s == "" {
		return refuse(field, RuleEmpty)
	}
	if len(s) > limit {
		return refuseLong(field, -1, limit, len(s))
	}
	if i := invalidUTF8(s); i >= 0 {
		return refuseAt(field, RuleUTF8, i)
	}
	return nil
}

// invalidUTF8 returns the offset of the first byte that is not part of valid
// UTF-8, or -1.
func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

// isDeviceName reports whether Windows opens a device when asked for name.
// It is refused everywhere, because names travel between machines.
func isDeviceName(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	switch len(stem) {
	case 3:
		return strings.EqualFold(stem, "CON") || strings.EqualFold(stem, "PRN") ||
			strings.EqualFold(stem, "AUX") || strings.EqualFold(stem, "NUL")
	case 4:
		return stem[3] >= '1' && stem[3] <= '9' &&
			(strings.EqualFold(stem[:3], "COM") || strings.EqualFold(stem[:3], "LPT"))
	}
	return false
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
