package catalog

import "fmt"

// Code is a condition that callers branch on with errors.Is; its text is the code
// of the HTTP API.
type Code string

// Codes of this package. The last three are refusals of [Open].
const (
	ModelUnknown      Code = "MODEL_NOT_FOUND"
	ModelUnverified   Code = "MODEL_UNVERIFIED"   // its files are not those whose digest was computed here
	ModelRetired      Code = "MODEL_RETIRED"      // no new start with it
	ModelInUse        Code = "MODEL_IN_USE"       // a release of [Catalog.Use] is due, or it is being verified
	ModelIncompatible Code = "MODEL_INCOMPATIBLE" // its files are not what their names say
	Untrusted         Code = "UNTRUSTED_ARTIFACT" // the detail names what is missing
	AliasNotAllowed   Code = "ALIAS_NOT_ALLOWED"  // a reference without a place that it comes from
	DigestMismatch    Code = "DIGEST_MISMATCH"
	InsufficientDisk  Code = "INSUFFICIENT_DISK"
	InvalidParams     Code = "INVALID_PARAMS"
	Closed            Code = "CATALOG_CLOSED"

	ErrLocked  Code = "CATALOG_LOCKED"  // another process owns the directory
	ErrDamaged Code = "CATALOG_DAMAGED" // the index is unreadable or gone; Config.Rebuild makes it anew
	ErrNewer   Code = "CATALOG_NEWER"   // written by a later release; left untouched
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// Error is a refusal of this package: errors.Is finds its Code and its cause.
type Error struct {
	Code   Code
	Detail string // a sentence of this package; sizes and counts, never names, paths or references
	Cause  error  // nil = none; not part of the text
}

// Error returns the code and the detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Detail
}

// Is reports whether target is the code.
func (e *Error) Is(target error) bool { return target == error(e.Code) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// refuse builds an Error with a formatted detail.
func refuse(c Code, format string, args ...any) error {
	return &Error{Code: c, Detail: fmt.Sprintf(format, args...)}
}

// because is refuse with a cause.
func because(c Code, cause error, detail string) error {
	return &Error{Code: c, Detail: detail, Cause: cause}
}
