package store

import "errors"

// Conditions that callers branch on (ORC-645).
var (
	// ErrNotFound reports that no such task or document exists.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict reports a task id or idempotency key that is taken by other content.
	ErrConflict = errors.New("store: conflict")
	// ErrVersion reports that a document changed since it was read.
	ErrVersion = errors.New("store: version changed")
	// ErrFenced reports a write of a void term; nothing was written.
	ErrFenced = errors.New("store: term is over")
	// ErrTransition reports a move that [CanMove] does not allow.
	ErrTransition = errors.New("store: transition not allowed")
	// ErrInvalid reports an argument out of its range; the text names the field, never its content.
	ErrInvalid = errors.New("store: invalid argument")
	// ErrTooLarge reports a body, output or document above the limit.
	ErrTooLarge = errors.New("store: too large")
	// ErrUnavailable reports that nothing was written and a later try may succeed.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrUnknown reports that the outcome is unknown: repeat the call, it is idempotent.
	ErrUnknown = errors.New("store: outcome unknown")
	// ErrClosed reports a call after Close.
	ErrClosed = errors.New("store: closed")
	// ErrInUse reports that another process has the store open.
	ErrInUse = errors.New("store: in use by another process")
	// ErrSchemaTooNew reports a database written by a newer program.
	ErrSchemaTooNew = errors.New("store: schema is newer than this program")
	// ErrRestored reports a store whose terms are behind what others have seen: it
	// is an old copy, and what was accepted since then is not in it.
	ErrRestored = errors.New("store: older than terms that were seen")
	// ErrCorrupt reports that the storage is damaged; nothing is repaired silently.
	ErrCorrupt = errors.New("store: corrupt")
)
