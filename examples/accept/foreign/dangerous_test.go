package foreign

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// dangerous is what must not stand raw in a log or on a terminal: categories and
// properties of package unicode, said without a look at the rule of our escaper.
var dangerous = []*unicode.RangeTable{
	unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Zs, unicode.Cs,
	unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point,
}

// raw counts the dangerous code points and invalid bytes of s, but for blanks and
// for those that allowed holds.
func raw(s, allowed string) (n int) {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				n++
				continue
			}
		}
		if r != ' ' && unicode.In(r, dangerous...) && !strings.ContainsRune(allowed, r) {
			n++
		}
	}
	return n
}

// The measure itself measures.
func TestRaw(t *testing.T) {
	for s, want := range map[string]int{
		"": 0, "plain text, say \"hi\" \\": 0, "日本 é ❤ \ufffd": 0, "a\nb": 1, "\x1b[31m": 1, "\u009b": 1, "\u202e\u2066": 2, "\u00a0": 1, "\u2028\u2029": 2,
		"\u200b\ufeff\u00ad": 3, "\ufe0f\U000e0100": 2, "\U000e0041": 1, "\ue000": 1, "\uffff\ufdd0": 2, "\u3164\u034f": 2, "\xff\xc0\xaf": 3, "\xed\xa0\x80": 3,
	} {
		if got := raw(s, ""); got != want {
			t.Errorf("raw(%+q) = %d, want %d", s, got, want)
		}
	}
	if raw("a\tb\nc\r", "\t\n") != 1 {
		t.Error("allowed characters are counted, or more")
	}
	if n := len(naughty(t)); n < 3000 {
		t.Errorf("%d strings", n)
	}
	total := 0
	for _, s := range naughty(t) {
		if raw(s, "") > 0 {
			total++
		}
	}
	if total < 2000 {
		t.Errorf("only %d strings are dangerous", total)
	}
}
