package inputvalidation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// VAL-9
func TestCheckIdentifier(t *testing.T) {
	dots := inputvalidation.IdentRules{Max: 63, Extra: "._-"}
	all := inputvalidation.IdentRules{Extra: "._-:@+"}
	for _, c := range []struct {
		s      string
		r      inputvalidation.IdentRules
		rule   inputvalidation.Rule // "" = accepted
		offset int
	}{
		{s: "a"},
		{s: "Pool-1_b"},
		{s: strings.Repeat("a", 255)},
		{s: strings.Repeat("a", 256)},
		{s: strings.Repeat("a", 257), rule: inputvalidation.RuleTooLong, offset: -1},
		{s: "n1.lab", r: dots},
		{s: "n1.lab", rule: inputvalidation.RuleCharset, offset: 2},
		{s: "a:b@c+d", r: all},
		{s: "a b", rule: inputvalidation.RuleCharset, offset: 1},
		{s: "a\nb", rule: inputvalidation.RuleCharset, offset: 1},
		{s: "a/b", r: all, rule: inputvalidation.RuleCharset, offset: 1},
		{s: "\u0430dmin", rule: inputvalidation.RuleCharset, offset: 0}, // VAL-12: a Cyrillic letter
		{s: "-a", rule: inputvalidation.RuleSyntax, offset: 0},
		{s: "a-", rule: inputvalidation.RuleSyntax, offset: 1},
		{s: "a..b", r: dots, rule: inputvalidation.RuleTraversal, offset: 1},
		{s: "nul", rule: inputvalidation.RuleSyntax, offset: 0},
		{s: "CoM9.txt", r: dots, rule: inputvalidation.RuleSyntax, offset: 0},
		{s: "com0", r: dots},
		{s: "null"},
		{s: "Admin", r: inputvalidation.IdentRules{Reserved: []string{"admin"}}, rule: inputvalidation.RuleSyntax, offset: 0},
		{s: "a", r: inputvalidation.IdentRules{Max: 4097}, rule: inputvalidation.RuleBounds, offset: -1},
		{s: "a", r: inputvalidation.IdentRules{Max: -1}, rule: inputvalidation.RuleBounds, offset: -1},
		{s: "a", r: inputvalidation.IdentRules{Max: 4096}},
		{s: "a", r: inputvalidation.IdentRules{Extra: "-/"}, rule: inputvalidation.RuleBounds, offset: -1},
	} {
		err := inputvalidation.CheckIdentifier("id", c.s, c.r)
		what := fmt.Sprintf("CheckIdentifier(%q, %+v)", c.s, c.r)
		if c.rule == "" {
			if err != nil {
				t.Errorf("%s = %v, want nil", what, err)
			}
			continue
		}
		if e := wantRule(t, what, err, c.rule); e.Offset != c.offset {
			t.Errorf("%s offset = %d, want %d", what, e.Offset, c.offset)
		}
	}
}

// VAL-10
func TestParseUUID(t *testing.T) {
	const canonical = "0198f3a2-7b1c-7def-8abc-0123456789ab"
	for _, s := range []string{canonical, strings.ToUpper(canonical)} {
		if got, err := inputvalidation.ParseUUID("id", s); got != canonical || err != nil {
			t.Errorf("ParseUUID(%q) = %q, %v", s, got, err)
		}
	}
	for s, rule := range map[string]inputvalidation.Rule{
		"{" + canonical + "}":                   inputvalidation.RuleTooLong,
		"urn:uuid:" + canonical:                 inputvalidation.RuleTooLong,
		canonical[:35]:                          inputvalidation.RuleSyntax,
		canonical + "0":                         inputvalidation.RuleTooLong,
		strings.ReplaceAll(canonical, "-", ""):  inputvalidation.RuleSyntax,
		strings.ReplaceAll(canonical, "-", "_"): inputvalidation.RuleSyntax,
		canonical[:35] + "g":                    inputvalidation.RuleCharset,
		canonical[:35] + "\n":                   inputvalidation.RuleCharset,
	} {
		got, err := inputvalidation.ParseUUID("id", s)
		wantRule(t, fmt.Sprintf("ParseUUID(%q)", s), err, rule)
		if got != "" {
			t.Errorf("ParseUUID(%q) returns %q beside its error", s, got)
		}
	}
}

// VAL-10: the common digest lengths, each one digit short, exact and long.
func TestParseHex(t *testing.T) {
	for _, n := range []int{1, 16, 20, 28, 32, 48, 64, 4096} {
		exact := strings.Repeat("aB", n)
		if got, err := inputvalidation.ParseHex("sum", exact, n); got != strings.ToLower(exact) || err != nil {
			t.Errorf("ParseHex(%d bytes) = %q, %v", n, got, err)
		}
		_, err := inputvalidation.ParseHex("sum", exact[1:], n)
		wantRule(t, "ParseHex(short)", err, inputvalidation.RuleSyntax)
		_, err = inputvalidation.ParseHex("sum", exact+"0", n)
		wantRule(t, "ParseHex(long)", err, inputvalidation.RuleTooLong)
		_, err = inputvalidation.ParseHex("sum", exact[1:]+"g", n)
		if e := wantRule(t, "ParseHex(bad digit)", err, inputvalidation.RuleCharset); e.Offset != 2*n-1 {
			t.Errorf("ParseHex(bad digit) offset = %d, want %d", e.Offset, 2*n-1)
		}
	}
	for _, n := range []int{0, -1, 4097} {
		_, err := inputvalidation.ParseHex("sum", "00", n)
		wantRule(t, fmt.Sprintf("ParseHex(bytes %d)", n), err, inputvalidation.RuleBounds)
	}
}

func FuzzIdentifier(f *testing.F) {
	for _, s := range []string{"a", "a-b", "..", "con", "\xff", "a:b@c+d", "-"} {
		f.Add(s, "._-", 63)
	}
	f.Fuzz(func(t *testing.T, s, extra string, limit int) {
		r := inputvalidation.IdentRules{Max: limit, Extra: extra}
		if inputvalidation.CheckIdentifier("f", s, r) != nil {
			return
		}
		if s == "" || len(s) > 4096 || inputvalidation.Escape(s) != s || strings.Contains(s, "..") || strings.ContainsAny(s, "/\\ \n%") {
			t.Errorf("CheckIdentifier accepts %q", s)
		}
	})
}

func FuzzUUID(f *testing.F) {
	f.Add("0198f3a2-7b1c-7def-8abc-0123456789AB")
	f.Add("0198f3a27b1c7def8abc0123456789ab")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := inputvalidation.ParseUUID("f", s)
		if err == nil && (got != strings.ToLower(s) || len(got) != 36 || strings.Trim(got, "0123456789abcdef-") != "" || strings.Count(got, "-") != 4) {
			t.Errorf("ParseUUID(%q) = %q", s, got)
		}
	})
}

func FuzzHex(f *testing.F) {
	f.Add("00ff", 2)
	f.Add("\xff", 1)
	f.Fuzz(func(t *testing.T, s string, n int) {
		got, err := inputvalidation.ParseHex("f", s, n)
		if err == nil && (got != strings.ToLower(s) || len(got) != 2*n || strings.Trim(got, "0123456789abcdef") != "") {
			t.Errorf("ParseHex(%q, %d) = %q", s, n, got)
		}
	})
}
