package poolregistry

import (
	"strings"
	"time"
)

// A Code is a condition that callers branch on; its text is the wire code.
// errors.Is(err, NodeUnknown) works for every error of this module, also for
// one that came back over HTTP through package nodeagent.
type Code string

// The conditions. Package nodehttp maps each to one HTTP status.
const (
	InvalidNode       Code = "INVALID_NODE"        // a registration or id is malformed; Fields say where
	InvalidBeat       Code = "INVALID_BEAT"        // a beat's content is malformed; it still proved that the node lives
	AddressNotAllowed Code = "ADDRESS_NOT_ALLOWED" // outside the AddressPolicy
	Forbidden         Code = "FORBIDDEN"           // the caller may not act on that node
	LeaseInvalid      Code = "LEASE_INVALID"       // the lease token is unknown: register again
	LeaseFenced       Code = "LEASE_FENCED"        // a newer incarnation holds the id: stop
	NodeUnknown       Code = "NODE_UNKNOWN"        // no such node: register again
	NodeIDTaken       Code = "NODE_ID_TAKEN"       // another live incarnation holds the id; RetryAfter says how long at most
	BeatReplayed      Code = "BEAT_REPLAYED"       // the sequence number did not rise; nothing was refreshed
	TooManyBeats      Code = "TOO_MANY_BEATS"      // content was ignored, life was noted
	IllegalTransition Code = "ILLEGAL_TRANSITION"  // the node is in a state that does not allow it; nothing changed
	NodeLimit         Code = "NODE_LIMIT"          // Limits.Nodes is reached
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// An Error is a refusal. It names fields and never repeats what they held.
type Error struct {
	Code       Code
	Fields     []string      // "path: fault code"; at most 32, in the order of the message
	RetryAfter time.Duration // when trying again makes sense; 0 = not stated
}

// Error returns the code and the faulty fields.
func (e *Error) Error() string {
	if len(e.Fields) == 0 {
		return string(e.Code)
	}
	return string(e.Code) + ": " + strings.Join(e.Fields, ", ")
}

// Is reports whether target is e's Code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}
