package poolregistry

import (
	"fmt"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

// Fault codes of Error.Fields.
const (
	faultRequired  = "required"
	faultCharset   = "charset"
	faultTooLong   = "too_long"
	faultRange     = "range"
	faultDuplicate = "duplicate"
	faultMismatch  = "mismatch"
	faultSyntax    = "syntax"
	faultScheme    = "scheme"
	faultPort      = "port"
	faultAddress   = "address"
)

const maxFaults = 32

// checker collects the faults of one registration or beat. It knows where it is,
// so that a path is only spelled out for a fault.
type checker struct {
	limits  Limits
	policy  AddressPolicy
	lenient bool // clamp senseless numbers instead of refusing them
	clamped uint64
	known   []Pool // checked before: models that are still the same are not checked again
	at      []frame
	faults  []string
}

type frame struct {
	name  string
	index int // -1 = not an element
}

func (c *checker) enter(name string, index int) { c.at = append(c.at, frame{name, index}) }
func (c *checker) leave()                       { c.at = c.at[:len(c.at)-1] }

func (c *checker) fault(name, code string) {
	if len(c.faults) >= maxFaults {
		return
	}
	var b strings.Builder
	for _, f := range c.at {
		b.WriteString(f.name)
		if f.index >= 0 {
			fmt.Fprintf(&b, "[%d]", f.index)
		}
		b.WriteByte('.')
	}
	b.WriteString(name)
	c.faults = append(c.faults, b.String()+": "+code)
}

// err returns the faults as an error, or nil.
func (c *checker) err(code Code) error {
	if len(c.faults) == 0 {
		return nil
	}
	return &Error{Code: code, Fields: c.faults}
}

func (c *checker) id(name, s string, limit int) {
	if code := idFault(s, limit); code != "" {
		c.fault(name, code)
	}
}

// text checks pairs of a name and one line of display text; empty is fine.
func (c *checker) text(limit int, pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		switch name, s := pairs[i], pairs[i+1]; {
		case len(s) > limit:
			c.fault(name, faultTooLong)
		case !plainASCII(s) && inputvalidation.Escape(s) != s:
			c.fault(name, faultCharset)
		}
	}
}

// line checks one line of display text that must be there.
func (c *checker) line(name, s string, limit int) {
	if s == "" {
		c.fault(name, faultRequired)
	}
	c.text(limit, name, s)
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// texts checks a list of non-empty lines.
func (c *checker) texts(name string, list []string, most, limit int) {
	if len(list) > most {
		c.fault(name, faultTooLong)
		return
	}
	for i, s := range list {
		c.enter(name, i)
		c.line("value", s, limit)
		c.leave()
	}
}

// number checks lo <= *v <= hi, or makes it so.
func number[T ~int | ~int64 | ~uint64 | ~float64](c *checker, name string, v *T, lo, hi T) {
	if *v >= lo && *v <= hi { // false for NaN
		return
	}
	if !c.lenient {
		c.fault(name, faultRange)
		return
	}
	c.clamped++
	if *v > hi {
		*v = hi
	} else {
		*v = lo // also NaN
	}
}

func optional[T ~int | ~int64 | ~uint64 | ~float64](c *checker, name string, v **T, lo, hi T) {
	if *v != nil {
		*v = new(**v) // the caller's number is not ours to change
		number(c, name, *v, lo, hi)
	}
}

// enum checks that *v is empty or one of words, and writes it in lower case.
// "HalfOpen" is read as half_open.
func enum[T ~string](c *checker, name string, v *T, words string) {
	if *v == "" || inWords(string(*v), words) {
		return
	}
	if *v = T(snake(string(*v))); !inWords(string(*v), words) {
		c.fault(name, faultCharset)
	}
}

func inWords(s, words string) bool {
	for w := range strings.SplitSeq(words, " ") {
		if w == s {
			return true
		}
	}
	return false
}

func snake(s string) string {
	var b strings.Builder
	for i := range len(s) {
		up := s[i] >= 'A' && s[i] <= 'Z'
		if up && i > 0 && s[i-1] >= 'a' && s[i-1] <= 'z' {
			b.WriteByte('_')
		}
		if up {
			b.WriteByte(s[i] + 'a' - 'A')
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// uuid checks a UUID and returns its canonical form.
func (c *checker) uuid(name, s string) string {
	u, err := inputvalidation.ParseUUID(name, s)
	switch {
	case s == "":
		c.fault(name, faultRequired)
	case err != nil:
		c.fault(name, faultCharset)
	}
	return u
}
