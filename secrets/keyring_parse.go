package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// ParseKeyring reads a keyring from at most 256 lines
//
//	<id> <key>
//
// with one space between them. id is decimal, 1 to 4294967295, without zeros in
// front, and unique; key is 64 hex or 43 or 44 base64 digits, see [ParseKey]. The
// first key is the primary. A line that begins with # is a comment and counts as a
// line. Lines end in LF or CRLF, the last one perhaps in nothing. Errors,
// [ErrFormat] and [ErrWeakKey], carry the number of the line and nothing of it.
//
// A file with a keyring is read with Rules.Binary, which takes several lines.
func ParseKeyring(s Secret) (*Keyring, error) {
	var primary uint32
	keys := make(map[uint32]Key)
	defer func() { // the keyring has key schedules of its own
		for _, k := range keys {
			k.Destroy()
		}
	}()
	err := s.Use(func(b []byte) error {
		number := 0
		for line := range bytes.Lines(b) {
			if number++; number > maxKeys {
				return fault("parse", ErrFormat, "a keyring has at most 256 lines")
			}
			if line[0] == '#' {
				continue
			}
			id, key, err := keyLine(trimNewline(line))
			if err != nil {
				return atLine(number, err)
			}
			if _, twice := keys[id]; twice {
				key.Destroy()
				return atLine(number, fault("parse", ErrFormat, "the id occurs twice"))
			}
			if keys[id] = key; primary == 0 {
				primary = id
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if primary == 0 {
		return nil, fault("parse", ErrFormat, "the keyring has no key")
	}
	return NewKeyring(primary, keys)
}

// keyLine reads one line, without its end.
func keyLine(line []byte) (uint32, Key, error) {
	left, right, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return 0, Key{}, fault("parse", ErrFormat, "it does not read like id, one space, key")
	}
	id, err := strconv.ParseUint(string(left), 10, 32)
	if err != nil || left[0] == '0' {
		return 0, Key{}, fault("parse", ErrFormat, "the id is not a number from 1 to 4294967295")
	}
	if len(right) == keyLen { // ParseKey would take it for raw bytes
		return 0, Key{}, fault("parse", ErrFormat, "the key is neither hex nor base64")
	}
	text := New(bytes.Clone(right))
	defer text.Destroy()
	key, err := ParseKey(text)
	return uint32(id), key, err
}

// atLine puts the number of the line before the reason of err.
func atLine(number int, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Reason = fmt.Sprintf("line %d: %s", number, e.Reason)
	}
	return err
}
