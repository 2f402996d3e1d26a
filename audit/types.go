package audit

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// TypeInfo declares an event type. The types of this suite are in the package
// events; an application declares its own in the same way.
type TypeInfo struct {
	// Name is dotted, ^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){1,3}$, and
	// does not begin with "audit.".
	Name  string
	Class Class
	// Data is the zero value of the payload struct. Its exported fields carry
	// JSON names and are: string, []string, bool, integers of at most 2^53-1 in
	// magnitude, [time.Time], text marshalers, and structs, slices and
	// string-keyed maps of these, at most 4 deep. A string, list, map, time or
	// text marshaler without omitzero must not be empty. A method
	// Validate() error, or ValidateEvent(*Event) error to see the whole event,
	// may refuse it; of a [*FieldError] from it Field and Rule are passed on.
	Data any
	// Actor, Resource and Reason say what an event of this type must have.
	Actor, Resource, Reason bool
	// Personal names the members that hold personal data, and for each the
	// member that holds the person it belongs to; "" means the actor. The log
	// checks the names and writes the members in clear.
	Personal map[string]string
}

// declared is a TypeInfo after checking, with the plan to encode its payload.
type declared struct {
	TypeInfo
	goType reflect.Type
	plan   *plan
}

// registry finds a declared type by name or by Go type. It is immutable.
type registry struct {
	byName map[string]*declared
	byType map[reflect.Type]*declared // nil value: declared more than once
}

var typeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){1,3}$`)

const ownPrefix = "audit." // types that only the log itself writes

// newRegistry checks all declarations and reports every fault.
func newRegistry(types []TypeInfo) (*registry, []error) {
	r := &registry{byName: make(map[string]*declared), byType: make(map[reflect.Type]*declared)}
	var faults []error
	for i, t := range types {
		fault := func(field, rule string) {
			faults = append(faults, &FieldError{Field: "Types[" + strconv.Itoa(i) + "]." + field, Rule: rule})
		}
		switch {
		case !typeName.MatchString(t.Name):
			fault("Name", "must be two to four dotted words of a-z, 0-9 and _")
			continue
		case strings.HasPrefix(t.Name, ownPrefix):
			fault("Name", "must not begin with audit.")
			continue
		case r.byName[t.Name] != nil:
			fault("Name", "is declared twice")
			continue
		case t.Class > Critical:
			fault("Class", "must be Routine or Critical")
			continue
		}
		d, err := declare(t)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		r.byName[t.Name] = d
		if _, twice := r.byType[d.goType]; twice {
			r.byType[d.goType] = nil
		} else {
			r.byType[d.goType] = d
		}
	}
	return r, faults
}
