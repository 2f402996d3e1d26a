package inputvalidation

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Escape returns s in a form that is safe to show on one line of a log,
// terminal or page and from which [Unescape] restores every byte: a rune that
// strconv.IsPrint refuses, a blank letter, a variation selector, an invalid
// byte and the backslash are written as in a Go string literal (\n, \x1b,
// \u202e, \U000e0041, and \xff for an invalid byte); everything else is
// copied. Clean text is returned as it is. The result is at most 4 times as long.
func Escape(s string) string { return escape(s, false) }

// EscapeBlock is Escape for text of several lines: it keeps LF and TAB.
func EscapeBlock(s string) string { return escape(s, true) }

// EscapeMax is Escape with a result of at most max bytes. A longer result is
// cut between units and ends with `\+` and the number of bytes of s left out;
// Unescape refuses it. A max below 24 counts as 24.
func EscapeMax(s string, max int) string {
	if max < 24 {
		max = 24
	}
	if len(s) <= max && escapeEnd(s, false) == len(s) {
		return s
	}
	out := make([]byte, 0, min(max, len(s)+len(s)/4)+escapedRuneMax)
	keep, kept := 0, 0 // output and input bytes before the best cut so far
	for i := 0; i < len(s); {
		if len(out)+len(`\+`)+decimalLen(len(s)-i) <= max {
			keep, kept = len(out), i
		}
		n, clean := unit(s[i:], false)
		out = appendUnit(out, s[i:i+n], clean)
		if len(out) > max {
			out = append(out[:keep], `\+`...)
			return string(strconv.AppendInt(out, int64(len(s)-kept), 10))
		}
		i += n
	}
	return string(out)
}

// escapedRuneMax is the length of the longest escape, \U and eight digits.
const escapedRuneMax = 10

// Unescape undoes Escape and EscapeBlock. It reads every escape of a Go string
// literal except those of quotes, also one that Escape would not write, so that
// text of a release with other Unicode tables stays readable. Anything else
// after a backslash, and an invalid byte, is RuleSyntax with its offset.
func Unescape(s string) (string, error) {
	if i := invalidUTF8(s); i >= 0 {
		return "", refuseAt("text", RuleSyntax, i)
	}
	next := strings.IndexByte(s, '\\')
	if next < 0 {
		return s, nil
	}
	out := append(make([]byte, 0, len(s)), s[:next]...)
	for tail := s[next:]; tail != ""; {
		value, multibyte, rest, err := strconv.UnquoteChar(tail, 0)
		if err != nil {
			return "", refuseAt("text", RuleSyntax, len(s)-len(tail))
		}
		if multibyte {
			out = utf8.AppendRune(out, value)
		} else {
			out = append(out, byte(value))
		}
		tail = rest
	}
	return string(out), nil
}

func escape(s string, block bool) string {
	end := escapeEnd(s, block)
	if end == len(s) {
		return s
	}
	out := append(make([]byte, 0, len(s)+len(s)/4+escapedRuneMax), s[:end]...)
	for i := end; i < len(s); {
		n, clean := unit(s[i:], block)
		out = appendUnit(out, s[i:i+n], clean)
		i += n
	}
	return string(out)
}

// escapeEnd returns the length of the prefix that is copied as it is.
func escapeEnd(s string, block bool) int {
	for i := 0; i < len(s); {
		if c := s[i]; c >= ' ' && c < 0x7f && c != '\\' { // most text is only this
			i++
			continue
		}
		n, clean := unit(s[i:], block)
		if !clean {
			return i
		}
		i += n
	}
	return len(s)
}

// unit returns the length of the first rune or invalid byte of s, which is not
// empty, and whether it is copied.
func unit(s string, block bool) (size int, clean bool) {
	if c := s[0]; c < utf8.RuneSelf {
		return 1, c >= ' ' && c < 0x7f && c != '\\' || block && (c == '\n' || c == '\t')
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return 1, false
	}
	return n, strconv.IsPrint(r) && !isBlankLetter(r) && !isVariationSelector(r)
}

// appendUnit appends one unit of the input, escaped unless clean.
func appendUnit(out []byte, u string, clean bool) []byte {
	if clean {
		return append(out, u...)
	}
	const digits = "0123456789abcdef"
	if len(u) == 1 && u[0] >= utf8.RuneSelf {
		return append(out, '\\', 'x', digits[u[0]>>4], digits[u[0]&0xf])
	}
	r, _ := utf8.DecodeRuneInString(u)
	at := len(out)
	out = strconv.AppendQuoteRuneToASCII(out, r)
	copy(out[at:], out[at+1:len(out)-1]) // drop the two quotes
	return out[:len(out)-2]
}

// isBlankLetter reports whether r counts as printable and shows nothing.
func isBlankLetter(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0, 0x1d159:
		return true
	}
	return false
}

// isVariationSelector reports whether r changes only the look of the rune
// before it, and so can hide data in plain text.
func isVariationSelector(r rune) bool {
	return r >= 0x180b && r <= 0x180f || r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef
}

// decimalLen returns the number of decimal digits of n >= 0.
func decimalLen(n int) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}
