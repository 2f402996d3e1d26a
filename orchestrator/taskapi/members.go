package taskapi

import (
	"encoding/json"
	"slices"

	"github.com/llorch/llorch/inputvalidation"
)

// members is one JSON object while it is read. Names are matched exactly:
// decoding into a struct would also take Model or MODEL for model, past the
// check for doubled members. The first fault is kept, later calls do nothing.
type members struct {
	prefix string // "" or "placement."
	raw    map[string]json.RawMessage
	err    *Error
}

// readBody reads a whole body, which must be one clean JSON object.
func readBody(body []byte) *members {
	if err := inputvalidation.CheckJSON("body", body, max(len(body), 1)); err != nil {
		return &members{err: fieldFault("body", err)}
	}
	m := new(members)
	if err := json.Unmarshal(body, &m.raw); err != nil || m.raw == nil {
		m.err = InvalidField("body", "type")
	}
	return m
}

// object reads a member that is an object itself; nil if it is absent.
func (m *members) object(name string) *members {
	if m.err != nil || !m.has(name) {
		return nil
	}
	p := &members{prefix: m.prefix + name + "."}
	if json.Unmarshal(m.raw[name], &p.raw) != nil {
		m.fail(name, "type")
		p.err = m.err
	}
	return p
}

// The forms of identifiers.
const (
	word    = iota // letters, digits and ._- ; 64 bytes
	session        // the same; MaxSession bytes
	place          // as the registry names nodes, pools and workers
)

func identRules(form int) inputvalidation.IdentRules {
	return [...]inputvalidation.IdentRules{{Max: 64, Extra: "._-"}, {Max: MaxSession, Extra: "._-"}, {Extra: "._-:@+"}}[form]
}

// ident reads an identifier.
func (m *members) ident(name string, dst *string, form int) {
	if take(m, name, dst); m.err == nil && m.has(name) {
		m.adopt(name, inputvalidation.CheckIdentifier(name, *dst, identRules(form)))
	}
}

// idents reads a list of at most most identifiers.
func (m *members) idents(name string, dst *[]string, most, form int) {
	if take(m, name, dst); len(*dst) > most {
		m.fail(name, "too_many")
	}
	for _, id := range *dst {
		m.adopt(name, inputvalidation.CheckIdentifier(name, id, identRules(form)))
	}
}

// done returns the first fault as an error.
func (m *members) done() error {
	if m.err != nil {
		return m.err
	}
	return nil
}

func (m *members) has(name string) bool {
	raw, ok := m.raw[name]
	return ok && string(raw) != "null"
}

func (m *members) fail(name, reason string) {
	if m.err == nil {
		m.err = InvalidField(m.prefix+name, reason)
	}
}

// adopt keeps a fault found by inputvalidation or by another object.
func (m *members) adopt(name string, err error) {
	if err != nil && m.err == nil {
		m.err = fieldFault(m.prefix+name, err)
	}
}

func (m *members) require(names ...string) {
	for _, name := range names {
		if !m.has(name) {
			m.fail(name, "required")
		}
	}
}

// take reads one member; null counts as absent.
func take[T any](m *members, name string, dst *T) {
	if m.err != nil || !m.has(name) {
		return
	}
	if err := json.Unmarshal(m.raw[name], dst); err != nil {
		m.fail(name, "type")
	}
}

// enum reads one of a closed set of words; absent leaves dst as it is.
func (m *members) enum(name string, dst *string, values ...string) {
	if take(m, name, dst); m.err == nil && m.has(name) && !slices.Contains(values, *dst) {
		m.fail(name, "unknown_value")
	}
}

// between checks a number that was read; both ends are allowed.
func between[T int | int64 | float64](m *members, name string, v, low, high T) {
	if m.err == nil && m.has(name) && (v < low || v > high) {
		m.fail(name, "range")
		m.err.With("min", low).With("max", high)
	}
}

// fieldFault turns a refusal of inputvalidation into ours.
func fieldFault(field string, err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	e, ok := err.(*inputvalidation.Error)
	if !ok {
		return InvalidField(field, "syntax")
	}
	out := InvalidField(field, string(e.Rule))
	if e.Offset >= 0 {
		out.With("offset", e.Offset)
	}
	if e.Limit >= 0 {
		out.With("limit", e.Limit)
	}
	return out
}
