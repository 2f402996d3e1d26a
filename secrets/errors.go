package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Conditions that callers branch on, with errors.Is.
var (
	ErrNotFound   = errors.New("not found")
	ErrAmbiguous  = errors.New("ambiguous")
	ErrPermission = errors.New("unsafe permissions")
	ErrFormat     = errors.New("bad format")
	ErrWeakKey    = errors.New("weak key")
	ErrDestroyed  = errors.New("destroyed")
	ErrMAC        = errors.New("MAC mismatch")
)

// Error says what went wrong with which secret. It names variables, paths and
// modes, never content.
type Error struct {
	Op     string      // read, parse, create, load, derive, mac, ...
	Name   string      // variable or parameter, "" if none
	Path   string      // file, "" if none
	Reason string      // what is wrong and, where possible, how to mend it
	Mode   fs.FileMode // of the file or directory, where that is the fault
	Owner  int         // uid, where the owner is the fault; else -1
	kind   error
}

// Error joins operation, name, path and reason.
func (e *Error) Error() string {
	// A name right before a colon would read as if its value followed.
	text := strings.TrimSuffix(fmt.Sprintf("%s secret (%s)", e.Op, e.Name), " ()")
	if e.Path != "" {
		text += fmt.Sprintf(" %q", e.Path)
	}
	return text + ": " + e.Reason
}

// Unwrap returns one of the sentinels, or the error of the operating system.
func (e *Error) Unwrap() error { return e.kind }

func fault(op string, kind error, reason string) *Error {
	return &Error{Op: op, Reason: reason, Owner: -1, kind: kind}
}

// at adds the path of a file.
func (e *Error) at(path string) *Error { e.Path = path; return e }

// system wraps an error of the operating system. Its text would repeat the path,
// so only the errno is kept. Readers meet errors without one where a handle
// refuses to be left or a directory is none.
func system(op, path string, err error) *Error {
	e := fault(op, err, "input/output error").at(path)
	no, ok := errors.AsType[syscall.Errno](err)
	if ok {
		e.Reason = no.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.kind, e.Reason = ErrNotFound, "no such file"
	case errors.Is(err, fs.ErrPermission):
		e.kind, e.Reason = ErrPermission, "this user may not "+op+" it"
	case (!ok || no == syscall.ENOTDIR) && op == "read":
		e.kind, e.Reason = ErrPermission, fmt.Sprintf("there is no safe way to it: %v", errors.Unwrap(err))
	}
	return e
}

// wrong returns the fault of a configuration, if there is one.
func wrong(is bool, op, reason string) error {
	if !is {
		return nil
	}
	return fault(op, ErrFormat, reason)
}
