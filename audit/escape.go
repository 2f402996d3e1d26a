package audit

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Escape returns s with everything that a terminal or viewer could misread
// written as in a Go string literal: runes that [strconv.IsPrint] refuses,
// blank letters, variation selectors, invalid bytes and the backslash. Clean
// text comes back as it is. The mapping is injective; [Unescape] reverses it.
func Escape(s string) string {
	i := firstUnclean(s)
	if i < 0 {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	b = append(b, s[:i]...)
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		raw := s[i : i+size]
		if r != '\\' && plain(r) && !(r == utf8.RuneError && size == 1) {
			b = append(b, raw...)
		} else {
			quoted := strconv.AppendQuoteToASCII(nil, raw)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		i += size
	}
	return string(b)
}

func firstUnclean(s string) int {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf {
			for j, r := range s[i:] {
				if r == '\\' || !plain(r) || r == utf8.RuneError && !strings.HasPrefix(s[i+j:], "\uFFFD") {
					return i + j
				}
			}
			return -1
		} else if c < ' ' || c > '~' || c == '\\' {
			return i
		}
	}
	return -1
}

// plain reports whether r shows as itself.
func plain(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r >= ' ' && r <= '~'
	case !strconv.IsPrint(r):
		return false
	}
	switch r { // letters and marks that print as nothing
	case 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0x1D159:
		return false
	}
	selector := 0x180B <= r && r <= 0x180F || 0xFE00 <= r && r <= 0xFE0F || 0xE0100 <= r && r <= 0xE01EF
	return !selector
}

var errEscape = errors.New("audit: malformed escape")

// Unescape restores the exact bytes of a text as it was given to the log, up
// to the place where the log cut it. It refuses what the log never writes.
func Unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b = append(b, s[i])
			i++
			continue
		}
		r, multibyte, tail, err := strconv.UnquoteChar(s[i:], 0)
		if err != nil || s[i+1] >= '0' && s[i+1] <= '7' { // octal is never written
			return "", errEscape
		}
		if multibyte {
			b = utf8.AppendRune(b, r)
		} else {
			b = append(b, byte(r))
		}
		i = len(s) - len(tail)
	}
	return string(b), nil
}
