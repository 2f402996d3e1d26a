package narration

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// escape writes what may not appear in a log as in a Go string literal. It is
// injective; clean input comes back as the same string. With multiline, LF and
// TAB stay.
func escape(s string, multiline bool) string {
	i := 0
	for i < len(s) {
		if c := s[i]; c >= ' ' && c < 0x7f && c != '\\' {
			i++
			continue
		}
		n, ok := plain(s[i:], multiline)
		if !ok {
			break
		}
		i += n
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	b.WriteString(s[:i])
	var buf [12]byte
	for i < len(s) {
		n, ok := plain(s[i:], multiline)
		switch {
		case ok:
			b.WriteString(s[i : i+n])
		case s[i] == '\\':
			b.WriteString(`\\`)
		default:
			r, _ := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				const hex = "0123456789abcdef"
				b.Write(append(buf[:0], '\\', 'x', hex[s[i]>>4], hex[s[i]&15]))
				break
			}
			quoted := strconv.AppendQuoteRuneToASCII(buf[:0], r)
			b.Write(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// plain reports whether the first rune of s may stand as it is, and its length.
func plain(s string, multiline bool) (n int, ok bool) {
	c := s[0]
	if c < utf8.RuneSelf {
		return 1, c >= ' ' && c < 0x7f && c != '\\' || multiline && (c == '\n' || c == '\t')
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return 1, false
	}
	return n, strconv.IsPrint(r) && !invisible(r)
}

// invisible reports whether r is one of the letters and marks that are printable
// by their category and show nothing.
func invisible(r rune) bool {
	switch {
	case r < 0x034f:
		return false
	case r >= 0xfe00 && r <= 0xfe0f, r >= 0xe0100 && r <= 0xe01ef, r >= 0x180b && r <= 0x180f: // variation selectors
		return true
	}
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0, 0x1d159:
		return true
	}
	return false
}

// cut shortens s to at most limit bytes, on a rune boundary, and says by how much.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	i := limit
	for i > 0 && !utf8.RuneStart(s[i]) {
		i--
	}
	return s[:i] + "…(+" + strconv.Itoa(len(s)-i) + ")"
}
