package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Exit codes of the programs.
const (
	ExitOK          = 0  // done
	ExitFailed      = 1  // failed
	ExitUsage       = 2  // an argument that the program does not know
	ExitUnavailable = 75 // something needed at start is not available
	ExitPolicy      = 77 // refused by security policy
	ExitConfig      = 78 // bad configuration
)

// A Fault is one thing that is wrong with the configuration.
type Fault struct {
	Name    string // variable, flag or key, as the user wrote it
	Value   string // quoted and at most 64 runes of it; [REDACTED] for a secret; "" if there is none to show
	Source  string // flag, env NAME, FILE:LINE, FILE or default
	Allowed string // what would have been right
	Fix     string // what to do
	Usage   bool   // the command line is wrong, not a value
}

// Error is one line: name, value, source, what is allowed, and the fix.
func (f *Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.Name)
	if f.Value != "" {
		b.WriteString(" = " + f.Value)
	}
	if f.Source != "" {
		b.WriteString(" (" + f.Source + ")")
	}
	b.WriteString(": want " + f.Allowed)
	if f.Fix != "" {
		b.WriteString("; " + f.Fix)
	}
	return b.String()
}

// ExitCode is the exit code for an error of Load or Pools: 2 if all that is
// wrong is the command line, else 78.
func ExitCode(err error) int {
	var faults []*Fault
	var walk func(error)
	walk = func(err error) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e)
			}
			return
		}
		if f, ok := errors.AsType[*Fault](err); ok {
			faults = append(faults, f)
		}
	}
	walk(err)
	if len(faults) > 0 && !slices.ContainsFunc(faults, func(f *Fault) bool { return !f.Usage }) {
		return ExitUsage
	}
	return ExitConfig
}

// faults collects what is wrong; the zero value is ready to use.
type faults []error

func (fs *faults) add(f *Fault) { *fs = append(*fs, f) }

// show is what a fault tells of a value.
func (v *Var) show(parts []string) string {
	if v.Secret() {
		return "[REDACTED]"
	}
	return quote(redact(strings.Join(parts, ",")))
}

// quote makes a value safe for a terminal and short.
func quote(s string) string {
	const shown = 64
	n := 0
	for i := range s {
		if n++; n > shown {
			return fmt.Sprintf("%+q…", s[:i])
		}
	}
	return fmt.Sprintf("%+q", s)
}

// redact hides what stands between a scheme and an @, where people put passwords.
func redact(s string) string {
	var b strings.Builder
	for {
		scheme, rest, ok := strings.Cut(s, "://")
		b.WriteString(scheme)
		if !ok {
			return b.String()
		}
		b.WriteString("://")
		host := rest
		if end := strings.IndexAny(rest, "/,"); end >= 0 {
			host = rest[:end]
		}
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			b.WriteString("[REDACTED]")
			rest = rest[at:]
		}
		s = rest
	}
}
