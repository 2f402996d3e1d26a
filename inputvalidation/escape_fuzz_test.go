package inputvalidation_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
)

// failer is what *testing.T and *rapid.T have in common.
type failer interface{ Fatalf(string, ...any) }

// FuzzEscape: the laws of Escape, EscapeBlock and EscapeMax for two texts of
// any bytes (G4, VAL-14, VAL-16, VAL-17).
func FuzzEscape(f *testing.F) {
	all := vectors(f)
	for i, v := range all {
		f.Add(v[0], all[(i+1)%len(all)][0], i)
		f.Add(v[0], v[1], 24+i)
	}
	f.Fuzz(func(t *testing.T, a, b string, limit int) {
		escapeLaws(t, a)
		escapeLaws(t, b)
		escapeDiffers(t, a, b)
		escapeDiffers(t, a, inputvalidation.Escape(a))
		escapeDiffers(t, a, strings.ToValidUTF8(a, "\ufffd"))
		escapeMaxLaw(t, a, limit)
		escapeMaxLaw(t, a+b, 24+len(a))
	})
}

// toBlock turns what Escape writes into what EscapeBlock writes: of the escapes,
// only those of LF and TAB differ, and a doubled backslash begins none.
var toBlock = strings.NewReplacer(`\\`, `\\`, `\n`, "\n", `\t`, "\t")

// escapeLaws: the escaped text gives back the input, is at most four times as
// long, shows nothing that must be hidden and is a Go literal; the block form
// differs from it by raw LF and TAB only.
func escapeLaws(t failer, s string) {
	got := inputvalidation.Escape(s)
	if back, err := inputvalidation.Unescape(got); back != s || err != nil || len(got) > 4*len(s) {
		t.Fatalf("Escape(%+q) = %+q, back %+q, %v", s, got, back, err)
	}
	if lit, err := strconv.Unquote(`"` + strings.ReplaceAll(got, `"`, `\"`) + `"`); lit != s || err != nil {
		t.Fatalf("%s is not a Go literal of %+q: %v", got, s, err)
	}
	if i := dangerousAt(got); i >= 0 {
		t.Fatalf("Escape(%+q) = %+q is dangerous at byte %d", s, got, i)
	}
	block := inputvalidation.EscapeBlock(s)
	if back, err := inputvalidation.Unescape(block); back != s || err != nil {
		t.Fatalf("Unescape(EscapeBlock(%+q)) = %+q, %v", s, back, err)
	}
	if want := toBlock.Replace(got); block != want {
		t.Fatalf("EscapeBlock(%+q) = %+q, want %+q", s, block, want)
	}
}

// escapeDiffers: different inputs have different outputs, in one line, in a
// block, and where both are cut to the same length.
func escapeDiffers(t failer, a, b string) {
	if a == b {
		return
	}
	if inputvalidation.Escape(a) == inputvalidation.Escape(b) || inputvalidation.EscapeBlock(a) == inputvalidation.EscapeBlock(b) {
		t.Fatalf("%+q and %+q escape to the same text", a, b)
	}
}

// escapeMaxLaw: the result fits; a text that fits is whole; of a longer one
// there is a prefix that ends between units and is as long as possible, and
// the count of the bytes left out.
func escapeMaxLaw(t failer, s string, limit int) {
	got, full := inputvalidation.EscapeMax(s, limit), inputvalidation.Escape(s)
	limit = max(limit, 24)
	if len(full) <= limit {
		if got != full {
			t.Fatalf("EscapeMax(%+q, %d) = %+q, want all of %+q", s, limit, got, full)
		}
		return
	}
	at := strings.LastIndex(got, `\+`)
	if at < 0 || len(got) > limit || !strings.HasPrefix(full, got[:at]) {
		t.Fatalf("EscapeMax(%+q, %d) = %+q", s, limit, got)
	}
	head, err := inputvalidation.Unescape(got[:at])
	omitted, err2 := strconv.Atoi(got[at+2:])
	if err != nil || err2 != nil || len(head)+omitted != len(s) || !strings.HasPrefix(s, head) || inputvalidation.Escape(head) != got[:at] {
		t.Fatalf("EscapeMax(%+q, %d) = %+q: head %+q, %v", s, limit, got, head, err)
	}
	_, size := utf8.DecodeRuneInString(s[len(head):])
	longer := inputvalidation.Escape(s[:len(head)+size]) + `\+` + strconv.Itoa(omitted-size)
	if len(longer) <= limit {
		t.Fatalf("EscapeMax(%+q, %d) = %+q, although %+q fits", s, limit, got, longer)
	}
	if _, err := inputvalidation.Unescape(got); err == nil {
		t.Fatalf("Unescape(%+q) accepts a cut text", got)
	}
}

// mustHide reports whether a rune may never stand raw: by the tables of package
// unicode, which are not those of strconv.IsPrint, and by a list of the runes
// that have a mark there but show nothing.
func mustHide(r rune) bool {
	const blank = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159"
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return strings.ContainsRune(blank, r) || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Zs, unicode.Co, unicode.Cs,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point)
}

// dangerousAt returns the offset of the first byte of an escaped text that is
// not valid UTF-8 or begins a rune that must be hidden, -1 if there is none.
func dangerousAt(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || mustHide(r) {
			return i
		}
		i += n
	}
	return -1
}
