package audit

import (
	"encoding"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxDepth = 4         // structs, lists and maps within one another
	maxInt   = 1<<53 - 1 // what every JSON reader keeps exactly
)

// kind is how a member is encoded.
type kind uint8

const (
	kText kind = iota
	kBool
	kInt
	kUint
	kTime
	kMarshal
	kStruct
	kList
	kMap
)

// plan says how to encode values of one Go type. It is immutable.
type plan struct {
	kind    kind
	members []member // kStruct
	elem    *plan    // kList, kMap
}

type member struct {
	index    int
	name     string
	optional bool
	plan     *plan
}

var (
	timeType    = reflect.TypeFor[time.Time]()
	marshalType = reflect.TypeFor[encoding.TextMarshaler]()
)

// declare checks one declaration and plans its payload.
func declare(t TypeInfo) (*declared, error) {
	gt := reflect.TypeOf(t.Data)
	if gt != nil && gt.Kind() == reflect.Pointer {
		gt = gt.Elem()
	}
	if gt == nil || gt.Kind() != reflect.Struct {
		return nil, &FieldError{Type: t.Name, Field: "data", Rule: "must be a struct"}
	}
	d := &declared{TypeInfo: t, goType: gt}
	var err error
	if d.plan, err = planOf(gt, 1); err != nil {
		return nil, d.refused(err)
	}
	names := func(want string) bool {
		return slices.ContainsFunc(d.plan.members, func(m member) bool { return m.name == want })
	}
	for m, owner := range t.Personal {
		if !names(m) || owner != "" && !names(owner) {
			return nil, &FieldError{Type: t.Name, Field: "Personal", Rule: "must name members of the payload"}
		}
	}
	return d, nil
}

func planOf(t reflect.Type, depth int) (*plan, error) {
	if depth > maxDepth+1 {
		return nil, &FieldError{Field: "data", Rule: "must not nest deeper than " + strconv.Itoa(maxDepth)}
	}
	switch {
	case t == timeType:
		return &plan{kind: kTime}, nil
	case t.Implements(marshalType):
		return &plan{kind: kMarshal}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return &plan{kind: kText}, nil
	case reflect.Bool:
		return &plan{kind: kBool}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &plan{kind: kInt}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &plan{kind: kUint}, nil
	case reflect.Slice:
		return planElem(kList, t, depth)
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return planElem(kMap, t, depth)
		}
	case reflect.Struct:
		return planStruct(t, depth)
	}
	return nil, &FieldError{Field: "data", Rule: "must not hold a " + t.Kind().String()}
}

func planElem(k kind, t reflect.Type, depth int) (*plan, error) {
	e, err := planOf(t.Elem(), depth+1)
	if err != nil {
		return nil, err
	}
	return &plan{kind: k, elem: e}, nil
}

func planStruct(t reflect.Type, depth int) (*plan, error) {
	p := &plan{kind: kStruct}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() && !f.Anonymous, name == "-" && options == "":
			continue
		case f.Anonymous:
			return nil, &FieldError{Field: f.Name, Rule: "must not be embedded"}
		case !memberName(name):
			return nil, &FieldError{Field: f.Name, Rule: "needs a JSON name of a-z, 0-9 and _"}
		case slices.ContainsFunc(p.members, func(m member) bool { return m.name == name }):
			return nil, &FieldError{Field: name, Rule: "is named twice"}
		}
		fp, err := planOf(f.Type, depth+1)
		if err != nil {
			if fe, ok := errors.AsType[*FieldError](err); ok && fe.Field == "data" {
				fe.Field = name
			}
			return nil, err
		}
		opts := strings.Split(options, ",")
		p.members = append(p.members, member{
			index: i, name: name, plan: fp,
			optional: slices.Contains(opts, "omitzero") || slices.Contains(opts, "omitempty"),
		})
	}
	return p, nil
}

func memberName(s string) bool {
	return s != "" && len(s) <= maxKey && only(s, letters+digits+"_") && !only(s[:1], digits)
}
