package fetch

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Code is a condition that callers branch on with errors.Is.
type Code string

// The codes.
const (
	InvalidParams    Code = "INVALID_PARAMS" // what the caller demands is malformed
	GatedRepo        Code = "GATED_REPO"
	RepoNotFound     Code = "REPO_NOT_FOUND"
	RevisionNotFound Code = "REVISION_NOT_FOUND"
	EntryNotFound    Code = "ENTRY_NOT_FOUND" // no such file
	DigestMismatch   Code = "DIGEST_MISMATCH" // wrong bytes, twice
	InsufficientDisk Code = "INSUFFICIENT_DISK"
	HostNotAllowed   Code = "UNTRUSTED_ARTIFACT" // a host, address, folder, format or missing digest that the policy refuses
	AliasNotAllowed  Code = "ALIAS_NOT_ALLOWED"
	Stalled          Code = "FETCH_STALLED"            // no byte for 30 s, again and again
	Refused          Code = "FETCH_REFUSED"            // the server said no
	Unreachable      Code = "FETCH_FAILED"             // connections and servers failed, again and again
	RangeRefused     Code = "RANGE_NOT_SATISFIABLE"    // the file ends before the byte asked for
	Changed          Code = "SOURCE_CHANGED"           // the source has another content than it had
	SourceInvalid    Code = "SOURCE_INVALID"           // an answer that breaks the source's protocol
	Storage          Code = "MODEL_FOLDER_UNAVAILABLE" // the folder can not be read or written
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// Error says what stopped a fetch. errors.Is finds its Code. It holds no token,
// no query of a URL and no text of a server.
type Error struct {
	Code       Code
	File       string        // path in the model; "" = the whole
	Host       string        // that answered or was refused; "" = none
	Status     int           // HTTP; 0 = none
	Hint       string        // a sentence of this package: what happened or what helps
	Retriable  bool          // a further try may help
	RetryAfter time.Duration // what the server asked for, 0 = nothing
}

// Error returns the code, the hint, and what is known of file, host and status.
func (e *Error) Error() string {
	text, status := string(e.Code), ""
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	if e.Status != 0 {
		status = strconv.Itoa(e.Status)
	}
	var known []string
	for _, k := range [][2]string{{"file ", e.File}, {"host ", e.Host}, {"status ", status}} {
		if k[1] != "" {
			known = append(known, k[0]+k[1])
		}
	}
	if len(known) > 0 {
		text += " (" + strings.Join(known, ", ") + ")"
	}
	return text
}

// Is reports whether target is the code.
func (e *Error) Is(target error) bool { return target == error(e.Code) }

// at names the file that an error is about.
func at(err error, file string) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.File != "" {
		return err
	}
	named := *e
	named.File = file
	return &named
}

// storageError hides the text of a local error, which shows paths.
func storageError(err error) error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &Error{Code: InsufficientDisk, Hint: "the disk is full"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: Storage, Hint: "the folder is not permitted"}
	}
	return &Error{Code: Storage, Hint: "the folder can not be read or written"}
}
