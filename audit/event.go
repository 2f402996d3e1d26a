package audit

import (
	"net/netip"
	"strconv"
)

// Event is one thing that happened, as the caller tells it. The log adds the
// time, the id, the sequence number and the chain.
//
// Free text never makes an event fail: it is escaped reversibly, cut with a
// digest when it is too long, and flagged in the record.
type Event struct {
	// Type is the declared name, for example "task.submitted". It may be empty
	// when the Go type of Data is declared under exactly one name.
	Type string
	// Actor is who did it. The zero Actor stands for [System], unless the type
	// requires an actor.
	Actor Actor
	// Resource is what it was done to, if anything.
	Resource Resource
	// Outcome is Success unless set.
	Outcome Outcome
	// Reason says why, in one word or a short text.
	Reason string
	// Correlation ties the records of one request together. It must match
	// ^[A-Za-z0-9-]{1,64}$, else it is left out and the record is flagged.
	Correlation string
	// TraceID and SpanID are W3C ids: 32 and 16 lower-case hex digits. Anything
	// else is left out and the record is flagged.
	TraceID, SpanID string
	// Data is a struct, or a pointer to a struct, of the type declared in
	// [TypeInfo]. In a parsed [Record] it is a [encoding/json.RawMessage].
	Data any
}

// Actor is who did something. The helpers [User], [Service], [Token],
// [Anonymous] and [System] make the usual ones.
type Actor struct {
	// Kind is user, service, token, system or anonymous.
	Kind string
	// ID names the actor within its kind. A token's id is a fingerprint, never
	// the token or a part of it.
	ID string
	// IP is the address the request came from; the zero Addr is left out.
	IP netip.Addr
	// Auth is how the actor proved itself: bearer_token, api_key, mtls,
	// internal, none, or "" when that is not known.
	Auth string
	// Session is the caller's session id, if there is one.
	Session string
}

// User is a person, seen from an address. The zero Addr is left out.
func User(id string, ip netip.Addr) Actor { return Actor{Kind: "user", ID: id, IP: ip} }

// Service is a program that acts on its own authority.
func Service(name string) Actor { return Actor{Kind: "service", ID: name, Auth: "internal"} }

// Token is whoever holds a bearer token; fingerprint is what logs show of it.
func Token(fingerprint string, ip netip.Addr) Actor {
	return Actor{Kind: "token", ID: "token:" + fingerprint, IP: ip, Auth: "bearer_token"}
}

// Anonymous is a caller who showed no credentials.
func Anonymous(ip netip.Addr) Actor { return Actor{Kind: "anonymous", IP: ip, Auth: "none"} }

// System is the software itself, acting by a timer or a rule.
func System() Actor { return Actor{Kind: "system", ID: "system"} }

// Resource is a thing that an event is about.
type Resource struct {
	Kind, ID string
	// Parent is the id of the thing that contains it, if that matters.
	Parent string
}

// Outcome says how the thing ended. The zero value is [Success].
type Outcome uint8

// The outcomes.
const (
	Success Outcome = iota
	Failure
	Partial
	Denied
)

// String returns the word that records hold: success, failure, partial or denied.
func (o Outcome) String() string {
	if o > Denied {
		return "outcome(" + strconv.Itoa(int(o)) + ")"
	}
	return [...]string{"success", "failure", "partial", "denied"}[o]
}

func parseOutcome(s string) (Outcome, bool) {
	for o := Success; o <= Denied; o++ {
		if o.String() == s {
			return o, true
		}
	}
	return 0, false
}

// Class decides what happens to an event when the queue is full or the disk is
// failing. The zero value is [Routine].
type Class uint8

// The classes. A routine event that finds no room is dropped and counted; a
// critical one has reserved room and waits a bounded time for it.
const (
	Routine Class = iota
	Critical
)

// String returns the word that records hold: routine or critical.
func (c Class) String() string {
	if c == Critical {
		return "critical"
	}
	return "routine"
}
