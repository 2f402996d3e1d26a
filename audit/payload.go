package audit

import (
	"encoding"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// timeForm is how every time in a record is written: UTC, 30 characters.
const timeForm = "2006-01-02T15:04:05.000000000Z"

// formatTime writes t, which must lie in the years 0 to 9999.
func formatTime(t time.Time) string { return t.UTC().Format(timeForm) }

// payload encodes a payload after the plan of its type. It has an error only
// for what is wrong beyond free text.
func (d *declared) payload(c *cleaner, ev *Event) ([]byte, error) {
	v := reflect.ValueOf(ev.Data)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, &FieldError{Type: d.Name, Field: "data", Rule: "must not be nil"}
		}
		v = v.Elem()
	}
	if !v.IsValid() || v.Type() != d.goType {
		return nil, &FieldError{Type: d.Name, Field: "data", Rule: "must be the declared Go type"}
	}
	if val, ok := ev.Data.(interface{ Validate() error }); ok {
		if err := val.Validate(); err != nil {
			return nil, d.refused(err)
		}
	}
	if val, ok := ev.Data.(interface{ ValidateEvent(*Event) error }); ok {
		if err := val.ValidateEvent(ev); err != nil {
			return nil, d.refused(err)
		}
	}
	b, err := c.value(nil, d.plan, v, "")
	if err != nil {
		return nil, d.refused(err)
	}
	return b, nil
}

// refused makes sure that a complaint about a payload carries no content.
func (d *declared) refused(err error) error {
	if fe, ok := errors.AsType[*FieldError](err); ok {
		return &FieldError{Type: d.Name, Field: fe.Field, Rule: fe.Rule}
	}
	return &FieldError{Type: d.Name, Field: "data", Rule: "is refused by its Validate method"}
}

func (c *cleaner) value(b []byte, p *plan, v reflect.Value, path string) ([]byte, error) {
	switch p.kind {
	case kText:
		return appendText(b, c.text(v.String())), nil
	case kBool:
		return strconv.AppendBool(b, v.Bool()), nil
	case kInt:
		if n := v.Int(); n > maxInt || n < -maxInt {
			return nil, &FieldError{Field: path, Rule: "must be at most 2^53-1 in magnitude"}
		}
		return strconv.AppendInt(b, v.Int(), 10), nil
	case kUint:
		if v.Uint() > maxInt {
			return nil, &FieldError{Field: path, Rule: "must be at most 2^53-1"}
		}
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case kTime:
		t, _ := v.Interface().(time.Time)
		if y := t.UTC().Year(); y < 0 || y > 9999 {
			return nil, &FieldError{Field: path, Rule: "must lie in the years 0 to 9999"}
		}
		return appendText(b, formatTime(t)), nil
	case kMarshal:
		m, _ := v.Interface().(encoding.TextMarshaler)
		if given := reflect.ValueOf(m); m == nil || given.Kind() == reflect.Pointer && given.IsNil() {
			return appendText(b, ""), nil
		}
		text, err := m.MarshalText()
		if err != nil {
			return nil, &FieldError{Field: path, Rule: "has no text form"}
		}
		return appendText(b, c.text(string(text))), nil
	case kList:
		return c.slice(b, p, v, path)
	case kMap:
		return c.mapping(b, p, v, path)
	default:
		return c.object(b, p, v, path)
	}
}

func (c *cleaner) object(b []byte, p *plan, v reflect.Value, path string) ([]byte, error) {
	b = append(b, '{')
	for _, m := range p.members {
		f := v.Field(m.index)
		name := m.name
		if path != "" {
			name = path + "." + name
		}
		switch none := empty(m.plan, f); {
		case none && m.optional:
			continue
		case none && m.plan.kind != kStruct:
			return nil, &FieldError{Field: name, Rule: "is required"}
		}
		b = append(append(append(comma(b), '"'), m.name...), '"', ':')
		var err error
		if b, err = c.value(b, m.plan, f, name); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// empty reports whether a member counts as absent. Numbers and bools never do:
// they are always written.
func empty(p *plan, v reflect.Value) bool {
	switch p.kind {
	case kBool, kInt, kUint:
		return false
	case kText, kList, kMap:
		return v.Len() == 0
	case kTime:
		t, _ := v.Interface().(time.Time)
		return t.IsZero()
	default:
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
			return z.IsZero()
		}
		return v.IsZero()
	}
}

func (c *cleaner) slice(b []byte, p *plan, v reflect.Value, path string) ([]byte, error) {
	n := v.Len()
	b = append(b, '[')
	if p.elem.kind == kText {
		items := make([]string, n)
		for i := range items {
			items[i] = v.Index(i).String()
		}
		for _, s := range c.list(items) {
			b = appendText(comma(b), s)
		}
		return append(b, ']'), nil
	}
	if n > maxList {
		return nil, &FieldError{Field: path, Rule: "must have at most 64 items"}
	}
	for i := range n {
		var err error
		if b, err = c.value(comma(b), p.elem, v.Index(i), path+"."+strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// mapping writes a map with its keys sorted as they are stored.
func (c *cleaner) mapping(b []byte, p *plan, v reflect.Value, path string) ([]byte, error) {
	if v.Len() > maxList {
		return nil, &FieldError{Field: path, Rule: "must have at most 64 members"}
	}
	stored := make(map[string]reflect.Value, v.Len())
	for it := v.MapRange(); it.Next(); {
		stored[c.cut(it.Key().String(), maxKey)] = it.Value()
	}
	if len(stored) != v.Len() {
		return nil, &FieldError{Field: path, Rule: "must have keys that stay distinct when cut"}
	}
	b = append(b, '{')
	for _, k := range slices.Sorted(maps.Keys(stored)) {
		b = append(appendText(comma(b), k), ':')
		var err error
		if b, err = c.value(b, p.elem, stored[k], path+".*"); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendText writes a cleaned string as JSON: only the quote and the backslash
// are left to escape.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
