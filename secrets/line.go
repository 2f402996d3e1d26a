package secrets

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// content returns what b holds under the rules, or what is wrong with it.
func (r Rules) content(b []byte) (text []byte, reason string) {
	switch {
	case len(b) == 0:
		return nil, "it is empty"
	case r.Binary:
		return b, ""
	}
	return oneLine(b)
}

// oneLine returns b without its one trailing newline, or what is wrong with it.
func oneLine(b []byte) (line []byte, reason string) {
	line = trimNewline(b)
	switch {
	case len(line) == 0:
		return nil, "it is empty"
	case bytes.HasPrefix(line, []byte("\ufeff")):
		return nil, "it begins with a byte order mark; save it as plain UTF-8"
	case !utf8.Valid(line):
		return nil, "it is not valid UTF-8"
	case bytes.ContainsFunc(line, unicode.IsControl):
		return nil, "it holds a control character or more than one line"
	}
	first, _ := utf8.DecodeRune(line)
	last, _ := utf8.DecodeLastRune(line)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return nil, "it begins or ends with a blank"
	}
	return line, ""
}

// trimNewline removes one LF or CRLF.
func trimNewline(b []byte) []byte {
	if rest, ok := bytes.CutSuffix(b, []byte("\r\n")); ok {
		return rest
	}
	return bytes.TrimSuffix(b, []byte("\n"))
}
