package inputvalidation

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

const (
	// maxJSONDepth bounds nested arrays and objects. It is the suite's one
	// limit, far below the 10,000 at which encoding/json gives up.
	maxJSONDepth = 64
	// maxJSONNames bounds the member names of all open objects together.
	maxJSONNames = 10_000
	// fewJSONNames is the number of members up to which an object's names are
	// compared one by one; a longer object gets a map.
	fewJSONNames = 16
)

// CheckJSON refuses, before decoding, what encoding/json would silently
// change or accept: invalid UTF-8 and unpaired surrogate escapes (RuleUTF8),
// two members of one object with the same name after unescaping
// (RuleDuplicate), nesting deeper than 64 (RuleDepth), a byte order mark or
// bytes after the value (RuleSyntax), more than maxBytes bytes or more than
// 10,000 member names in open objects (RuleTooLong). maxBytes 0 means 8 MiB;
// below 0 is RuleBounds. What passes is exactly one valid JSON value. Beside
// the names of open objects it needs a few KiB, whatever the size of raw.
//
// Names are compared exactly: objects whose names are data, such as a schema's,
// may hold "id" and "ID". encoding/json folds case when it fills a struct, so
// who decides by a member and passes raw on compares names itself.
func CheckJSON(field string, raw []byte, maxBytes int) error {
	if maxBytes == 0 {
		maxBytes = 8 << 20
	}
	switch {
	case maxBytes < 0:
		return refuse(field, RuleBounds)
	case len(raw) == 0:
		return refuse(field, RuleEmpty)
	case len(raw) > maxBytes:
		return refuseLong(field, -1, maxBytes, len(raw))
	case !utf8.Valid(raw):
		return refuseAt(field, RuleUTF8, invalidUTF8Bytes(raw))
	}
	c := jsonChecker{field: field, raw: raw}
	if err := c.value(0); err != nil {
		return err
	}
	c.space()
	if c.pos < len(raw) {
		return c.bad()
	}
	return nil
}

func invalidUTF8Bytes(raw []byte) int {
	for i := 0; i < len(raw); {
		r, n := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

// jsonChecker walks one JSON text from left to right. Recursion is bounded by
// maxJSONDepth.
type jsonChecker struct {
	field string
	raw   []byte
	pos   int
	names [][]byte // member names of all open objects, unescaped, innermost last
}

func (c *jsonChecker) bad() error { return refuseAt(c.field, RuleSyntax, c.pos) }

// peek returns the byte at pos, 0 at the end; no JSON token begins with NUL.
func (c *jsonChecker) peek() byte {
	if c.pos < len(c.raw) {
		return c.raw[c.pos]
	}
	return 0
}

func (c *jsonChecker) space() {
	for c.pos < len(c.raw) {
		switch c.raw[c.pos] {
		case ' ', '\t', '\n', '\r':
			c.pos++
		default:
			return
		}
	}
}

// value accepts one value inside depth open arrays and objects.
func (c *jsonChecker) value(depth int) error {
	c.space()
	switch b := c.peek(); {
	case b == '{' || b == '[':
		if depth == maxJSONDepth {
			return &Error{Field: c.field, Rule: RuleDepth, Offset: c.pos, Limit: maxJSONDepth, Actual: -1}
		}
		c.pos++
		if b == '{' {
			return c.object(depth + 1)
		}
		return c.array(depth + 1)
	case b == '"':
		_, err := c.text()
		return err
	case b == '-' || b >= '0' && b <= '9':
		return c.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(c.raw[c.pos:], []byte(word)) {
			c.pos += len(word)
			return nil
		}
	}
	return c.bad()
}

func (c *jsonChecker) array(depth int) error {
	c.space()
	if c.peek() == ']' {
		c.pos++
		return nil
	}
	for {
		if err := c.value(depth); err != nil {
			return err
		}
		if done, err := c.separator(']'); done || err != nil {
			return err
		}
	}
}

func (c *jsonChecker) object(depth int) error {
	c.space()
	if c.peek() == '}' {
		c.pos++
		return nil
	}
	first := len(c.names)
	defer func() { c.names = c.names[:first] }()
	var seen map[string]struct{}
	for {
		c.space()
		start := c.pos
		name, err := c.name()
		if err != nil {
			return err
		}
		if seen, err = c.remember(name, start, first, seen); err != nil {
			return err
		}
		c.space()
		if c.peek() != ':' {
			return c.bad()
		}
		c.pos++
		if err := c.value(depth); err != nil {
			return err
		}
		if done, err := c.separator('}'); done || err != nil {
			return err
		}
	}
}

// separator accepts a comma, or the closing byte and then reports done.
func (c *jsonChecker) separator(closing byte) (done bool, err error) {
	c.space()
	switch c.peek() {
	case ',':
		c.pos++
		return false, nil
	case closing:
		c.pos++
		return true, nil
	}
	return false, c.bad()
}

// remember refuses a name that the object, whose names begin at first, has
// already; it returns the object's set, which exists once the object is long.
func (c *jsonChecker) remember(name []byte, start, first int, seen map[string]struct{}) (map[string]struct{}, error) {
	if len(c.names) == maxJSONNames {
		return nil, refuseLong(c.field, start, maxJSONNames, maxJSONNames+1)
	}
	if seen == nil {
		for _, other := range c.names[first:] {
			if bytes.Equal(other, name) {
				return nil, refuseAt(c.field, RuleDuplicate, start)
			}
		}
		if len(c.names)-first == fewJSONNames {
			seen = make(map[string]struct{}, 4*fewJSONNames)
			for _, other := range c.names[first:] {
				seen[string(other)] = struct{}{}
			}
		}
	}
	if seen != nil {
		if _, dup := seen[string(name)]; dup {
			return nil, refuseAt(c.field, RuleDuplicate, start)
		}
		seen[string(name)] = struct{}{}
	}
	c.names = append(c.names, name)
	return seen, nil
}

// name accepts a member name and returns it unescaped.
func (c *jsonChecker) name() ([]byte, error) {
	if c.peek() != '"' {
		return nil, c.bad()
	}
	start := c.pos
	escaped, err := c.text()
	if err != nil {
		return nil, err
	}
	if !escaped {
		return c.raw[start+1 : c.pos-1], nil
	}
	var s string
	if err := json.Unmarshal(c.raw[start:c.pos], &s); err != nil {
		return nil, refuseAt(c.field, RuleSyntax, start)
	}
	return []byte(s), nil
}

// text accepts a string and reports whether it holds an escape.
func (c *jsonChecker) text() (escaped bool, err error) {
	c.pos++
	for c.pos < len(c.raw) {
		switch b := c.raw[c.pos]; {
		case b == '"':
			c.pos++
			return escaped, nil
		case b == '\\':
			escaped = true
			if err := c.escape(); err != nil {
				return true, err
			}
		case b < ' ':
			return escaped, c.bad()
		default:
			c.pos++
		}
	}
	return escaped, c.bad()
}

// escape accepts one escape, or the two of a surrogate pair.
func (c *jsonChecker) escape() error {
	start := c.pos
	c.pos++
	switch c.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.pos++
		return nil
	case 'u':
		c.pos++
	default:
		return c.bad()
	}
	unit, err := c.fourHex()
	if err != nil || unit < 0xd800 || unit > 0xdfff {
		return err
	}
	if unit < 0xdc00 && bytes.HasPrefix(c.raw[c.pos:], []byte(`\u`)) {
		c.pos += 2
		low, err := c.fourHex()
		if err != nil || low >= 0xdc00 && low <= 0xdfff {
			return err
		}
	}
	return refuseAt(c.field, RuleUTF8, start)
}

func (c *jsonChecker) fourHex() (unit int, err error) {
	for range 4 {
		b := c.peek()
		switch {
		case b >= '0' && b <= '9':
			unit = unit<<4 | int(b-'0')
		case isHex(b):
			unit = unit<<4 | int(b|0x20-'a'+10)
		default:
			return 0, c.bad()
		}
		c.pos++
	}
	return unit, nil
}

func (c *jsonChecker) number() error {
	if c.peek() == '-' {
		c.pos++
	}
	if c.peek() == '0' {
		c.pos++
	} else if err := c.digits(); err != nil {
		return err
	}
	if c.peek() == '.' {
		c.pos++
		if err := c.digits(); err != nil {
			return err
		}
	}
	if c.peek()|0x20 == 'e' {
		c.pos++
		if b := c.peek(); b == '+' || b == '-' {
			c.pos++
		}
		return c.digits()
	}
	return nil
}

// digits accepts one digit or more.
func (c *jsonChecker) digits() error {
	start := c.pos
	for b := c.peek(); b >= '0' && b <= '9'; b = c.peek() {
		c.pos++
	}
	if c.pos == start {
		return c.bad()
	}
	return nil
}
