package handoff

import "strings"

// A Code says why a file is not believed.
type Code string

// The codes.
const (
	// Unreadable: not a whole JSON object (yet), or it cannot be read. It is tried
	// again.
	Unreadable Code = "HANDOFF_UNREADABLE"
	// Invalid: a member is missing or malformed.
	Invalid Code = "HANDOFF_INVALID"
	// AddressNotAllowed: the URL is outside the address policy.
	AddressNotAllowed Code = "ADDRESS_NOT_ALLOWED"
	// Refused: a link, no regular file, too large, or owned by somebody else.
	Refused Code = "HANDOFF_REFUSED"
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// An Error says what is wrong with a file. It never repeats its content.
type Error struct {
	Code  Code
	Field string // the member at fault; empty where the file as a whole is
	Rule  string // the rule it breaks, in a few fixed words
}

// Error returns code, field and rule.
func (e *Error) Error() string {
	var s strings.Builder
	s.WriteString(string(e.Code))
	for _, part := range []string{e.Field, e.Rule} {
		if part != "" {
			s.WriteString(": " + part)
		}
	}
	return s.String()
}

// Is reports whether target is e's Code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

func invalid(field, rule string) error { return &Error{Code: Invalid, Field: field, Rule: rule} }

func refused(rule string) error { return &Error{Code: Refused, Rule: rule} }
