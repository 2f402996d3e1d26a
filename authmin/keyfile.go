package authmin

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	maxKeyFile  = 1 << 20 // bytes
	maxKeyLines = 1024
	maxFields   = 4  // of a line: name, token, time, tags
	maxFaults   = 20 // of a file that are reported: more help nobody

	tooManyInFile = "there are more than 1024 keys"
)

// ParseKeys reads a key file of at most 1 MiB and 1024 lines, which end in LF
// or CRLF. Blank lines and lines that begin with # are skipped; each other one
// is one of
//
//	token[,token…]
//	name token
//	name token not-after
//
// with single spaces, not-after as in RFC 3339, and perhaps a last field
// tags=a,b for all keys of the line. Tokens without a name get defaultName. By convention the first key
// is the one for outgoing requests. A file without keys is ErrNoKeys. Faults
// wrap ErrMalformed and name the line, counted from 1, never its content; the
// first 20 are reported. Whether a token is strong enough is for [NewKeySet] to
// say.
func ParseKeys(text []byte, defaultName string) ([]Key, error) {
	if len(text) > maxKeyFile {
		return nil, &keyFileError{reason: "it is larger than 1 MiB"}
	}
	var keys []Key
	var faults []error
	line := 0
	for raw := range bytes.Lines(text) {
		line++
		if line > maxKeyLines {
			faults = append(faults, &keyFileError{line, "there are more than 1024 lines"})
			break
		}
		found, fault := parseKeyLine(raw, defaultName)
		if len(keys)+len(found) > maxKeys {
			fault = tooManyInFile
		}
		if fault != "" {
			faults = append(faults, &keyFileError{line, fault})
			if len(faults) == maxFaults {
				break
			}
			continue
		}
		keys = append(keys, found...)
	}
	switch {
	case len(faults) > 0:
		return nil, errors.Join(faults...)
	case len(keys) == 0:
		return nil, fmt.Errorf("%w: the key file has none", ErrNoKeys)
	}
	return keys, nil
}

// keyFileError is a fault of a line, counted from 1, or of the whole file (0).
type keyFileError struct {
	line   int
	reason string
}

func (e *keyFileError) Error() string {
	if e.line == 0 {
		return "authmin: key file: " + e.reason
	}
	return "authmin: key file, line " + strconv.Itoa(e.line) + ": " + e.reason
}

func (e *keyFileError) Unwrap() error { return ErrMalformed }

// parseKeyLine returns the keys of one line with its end, or what is wrong
// with it.
func parseKeyLine(raw []byte, defaultName string) (keys []Key, fault string) {
	if body, ok := bytes.CutSuffix(raw, []byte("\n")); ok {
		raw = bytes.TrimSuffix(body, []byte("\r"))
	}
	if bytes.ContainsFunc(raw, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, "it holds a tab or another control character"
	}
	if len(raw) == 0 || raw[0] == '#' {
		return nil, ""
	}
	if bytes.HasPrefix(raw, []byte("\ufeff")) {
		return nil, "it begins with a byte order mark"
	}
	fields := strings.SplitN(string(raw), " ", maxFields+1) // one more is a fault; so below
	if slices.Contains(fields, "") {
		return nil, "it begins or ends with a space, or holds two in a row"
	}
	var tags []string
	if list, ok := strings.CutPrefix(fields[len(fields)-1], "tags="); ok {
		tags = strings.SplitN(strings.Clone(list), ",", maxTags+1)
		fields = fields[:len(fields)-1]
		if len(tags) > maxTags || !allTags(tags) {
			return nil, "its tags are not 1..32, each 1..128 of A-Z a-z 0-9 . _ @ : -"
		}
	}
	return parseKeyFields(fields, tags, defaultName)
}

// parseKeyFields makes the keys of a line without its tags. Nothing of a key
// holds on to the line: whoever keeps a name must not keep a token with it.
func parseKeyFields(fields, tags []string, name string) (keys []Key, fault string) {
	tokens, k := fields, Key{Tags: tags}
	switch len(fields) {
	case 0:
		return nil, "it has tags and no token"
	case 1:
		if tokens = strings.SplitN(fields[0], ",", maxKeys+1); len(tokens) > maxKeys {
			return nil, tooManyInFile
		}
	case 2, 3:
		name, tokens = strings.Clone(fields[0]), fields[1:2]
	default:
		return nil, "it has more fields than name, token, time and tags"
	}
	if k.Name = name; !isName(name) {
		return nil, "the name is not 1..64 of A-Z a-z 0-9 . _ -"
	}
	if len(fields) == 3 {
		// The zero time would be no end at all.
		if err := k.NotAfter.UnmarshalText([]byte(fields[2])); err != nil || k.NotAfter.IsZero() {
			return nil, "the time is not as in RFC 3339, such as 2006-01-02T15:04:05Z"
		}
		k.NotAfter = k.NotAfter.UTC()
	}
	for _, s := range tokens {
		tok, err := ParseToken(strings.Clone(s))
		if err != nil {
			return nil, "a token is not 1..8192 bytes of A-Z a-z 0-9 - . _ ~ + / and = at its end"
		}
		k.Token = tok
		keys = append(keys, k)
	}
	return keys, ""
}
