// Package wirecode holds the one table of this module: what becomes of a
// condition on the wire and in counters.
package wirecode

import "slices"

// A Row is what becomes of one condition.
type Row struct {
	Code      string
	Status    int    // of HTTP
	Outcome   string // for counters and logs; empty = not a refusal of the registry
	Retriable bool
	Message   string // for people; it never repeats what was sent
}

// Codes that only HTTP has.
const (
	Unauthorized = "UNAUTHORIZED"
	NotFound     = "NOT_FOUND"
	Method       = "METHOD_NOT_ALLOWED"
	TooLarge     = "BODY_TOO_LARGE"
	MediaType    = "UNSUPPORTED_MEDIA_TYPE"
	Internal     = "INTERNAL"
)

// Table returns all rows, by status.
func Table() []Row {
	return []Row{
		{"INVALID_NODE", 400, "invalid", false, "the registration or query is malformed; see details"},
		{"INVALID_BEAT", 400, "invalid", false, "the heartbeat is malformed; if its lease is right the node counts as alive"},
		{"ADDRESS_NOT_ALLOWED", 400, "invalid", false, "the address is outside this installation's policy"},
		{Unauthorized, 401, "unauthorized", false, "the caller is not accepted"},
		{"FORBIDDEN", 403, "unauthorized", false, "the caller may not do this"},
		{"LEASE_INVALID", 403, "unauthorized", true, "the lease token is unknown; register again"},
		{"NODE_UNKNOWN", 404, "unknown", true, "no such node; register first"},
		{NotFound, 404, "", false, "no such route"},
		{Method, 405, "", false, "this route has another method"},
		{"NODE_ID_TAKEN", 409, "fenced", true, "another live node has this id"},
		{"LEASE_FENCED", 409, "fenced", false, "a newer incarnation of this node holds its id; stop"},
		{"BEAT_REPLAYED", 409, "replayed", false, "the sequence number did not rise"},
		{"ILLEGAL_TRANSITION", 409, "invalid", false, "the node is in a state that does not allow this"},
		{TooLarge, 413, "", false, "the body is too large"},
		{MediaType, 415, "", false, "the body must be application/json"},
		{"TOO_MANY_BEATS", 429, "limited", true, "too many heartbeats; the node counts as alive"},
		{Internal, 500, "", true, "internal error"},
		{"NODE_LIMIT", 503, "limited", true, "no more nodes can be registered"},
	}
}

// Find returns the row of a code; a code without one is Internal.
func Find(code string) Row {
	rows := Table()
	at := func(code string) int { return slices.IndexFunc(rows, func(r Row) bool { return r.Code == code }) }
	if i := at(code); i >= 0 {
		return rows[i]
	}
	return rows[at(Internal)]
}
