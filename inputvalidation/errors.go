package inputvalidation

import (
	"encoding/json"
	"io/fs"
	"strconv"
	"strings"
)

// Rule names the rule that an input broke. A Rule is an error, so that callers
// branch with errors.Is(err, inputvalidation.RuleTooLong). Its text is fixed
// and part of the wire contract.
type Rule string

// The rules. Four more occur in errors of [Tree] and have no constant, because
// errors.Is with the sentinels of package io/fs tells them apart: "not_exist",
// "exists", "permission" and "io".
const (
	RuleEmpty      Rule = "empty"
	RuleTooLong    Rule = "too_long"
	RuleCharset    Rule = "charset"
	RuleUTF8       Rule = "utf8"
	RuleSyntax     Rule = "syntax"
	RuleScheme     Rule = "scheme"
	RuleRange      Rule = "range"
	RuleNaN        Rule = "nan"
	RuleBounds     Rule = "bounds" // the rules given by the program are wrong, not the input
	RuleTraversal  Rule = "traversal"
	RuleSymlink    Rule = "symlink"
	RuleOutside    Rule = "outside"
	RuleNotRegular Rule = "not_regular"
	RuleDuplicate  Rule = "duplicate"
	RuleDepth      Rule = "depth"
	RuleAddress    Rule = "address"

	ruleNotExist   Rule = "not_exist"
	ruleExists     Rule = "exists"
	rulePermission Rule = "permission"
	ruleIO         Rule = "io"
)

// Error returns the fixed words of the rule.
func (r Rule) Error() string {
	switch r {
	case RuleEmpty:
		return "is empty"
	case RuleTooLong:
		return "is too long"
	case RuleCharset:
		return "has a character that is not allowed"
	case RuleUTF8:
		return "is not valid UTF-8"
	case RuleSyntax:
		return "does not have the required form"
	case RuleScheme:
		return "has an unknown scheme"
	case RuleRange:
		return "is out of range"
	case RuleNaN:
		return "is not a number"
	case RuleBounds:
		return "is checked against impossible bounds"
	case RuleTraversal:
		return "leaves its directory"
	case RuleSymlink:
		return "passes through a symbolic link"
	case RuleOutside:
		return "resolves outside its directory"
	case RuleNotRegular:
		return "is not of the required file kind"
	case RuleDuplicate:
		return "repeats a member name"
	case RuleDepth:
		return "is nested too deep"
	case RuleAddress:
		return "is an address that is not allowed"
	case ruleNotExist:
		return "does not exist"
	case ruleExists:
		return "exists already"
	case rulePermission:
		return "is not permitted"
	case ruleIO:
		return "could not be read or written"
	}
	return "is refused"
}

// Error says which field broke which rule and where. It holds nothing of the
// input itself.
type Error struct {
	Field  string // as given by the program; shown as "input" unless it is 1..64 of A-Z a-z 0-9 _ . [ ] -
	Rule   Rule
	Offset int // byte offset of the offence in the input, -1 = unknown
	Limit  int // the limit that was exceeded, -1 = none
	Actual int // a length or count, never a value; -1 = unknown
}

// Error returns "<field>: <words of the rule>", then " at byte N" and
// " limit L" where known.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(shownField(e.Field))
	b.WriteString(": ")
	b.WriteString(e.Rule.Error())
	if e.Offset >= 0 {
		b.WriteString(" at byte ")
		b.WriteString(strconv.Itoa(e.Offset))
	}
	if e.Limit >= 0 {
		b.WriteString(" limit ")
		b.WriteString(strconv.Itoa(e.Limit))
	}
	return b.String()
}

// Is reports whether target is the rule, or the sentinel of package io/fs that
// stands for it.
func (e *Error) Is(target error) bool {
	if r, ok := target.(Rule); ok {
		return e.Rule == r
	}
	switch e.Rule {
	case ruleNotExist:
		return target == fs.ErrNotExist
	case ruleExists:
		return target == fs.ErrExist
	case rulePermission:
		return target == fs.ErrPermission
	}
	return false
}

// MarshalJSON returns {"field","rule","offset","limit"} for the details of an
// API answer; unknown offsets and limits are left out.
func (e *Error) MarshalJSON() ([]byte, error) {
	wire := struct {
		Field  string `json:"field"`
		Rule   Rule   `json:"rule"`
		Offset *int   `json:"offset,omitempty"`
		Limit  *int   `json:"limit,omitempty"`
	}{Field: shownField(e.Field), Rule: e.Rule}
	if e.Offset >= 0 {
		wire.Offset = &e.Offset
	}
	if e.Limit >= 0 {
		wire.Limit = &e.Limit
	}
	return json.Marshal(wire)
}

// refuse builds an error about the whole input.
func refuse(field string, r Rule) error {
	return &Error{Field: field, Rule: r, Offset: -1, Limit: -1, Actual: -1}
}

// refuseAt builds an error about one position.
func refuseAt(field string, r Rule, offset int) error {
	return &Error{Field: field, Rule: r, Offset: offset, Limit: -1, Actual: -1}
}

// refuseLong builds the error of an input or part that exceeds limit; offset
// is where the part begins, -1 for the whole input.
func refuseLong(field string, offset, limit, actual int) error {
	return &Error{Field: field, Rule: RuleTooLong, Offset: offset, Limit: limit, Actual: actual}
}

// shownField returns field if it is safe to show. A field name may come from
// decoded input, so it is not trusted either.
func shownField(field string) string {
	if len(field) == 0 || len(field) > 64 {
		return "input"
	}
	for i := range len(field) {
		if c := field[i]; !isAlnum(c) && !strings.ContainsRune("_.[]-", rune(c)) {
			return "input"
		}
	}
	return field
}
