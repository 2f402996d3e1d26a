// Package events holds the event types of the llorch suite as plain structs,
// and their declarations as data: pass [Types] to audit.Config.
//
// A struct is named after its type, auth.success is [AuthSuccess], and its
// members stand in the alphabetical order of their JSON names. A member with
// omitzero may be empty; numbers and bools are always recorded.
package events

import (
	"encoding/hex"
	"errors"
	"regexp"

	"github.com/llorch/llorch/audit"
)

// Types returns the declarations of all types of this package. The slice
// belongs to the caller.
func Types() []audit.TypeInfo {
	return []audit.TypeInfo{
		{
			Name: "auth.failure", Class: audit.Critical, Data: AuthFailure{}, Reason: true,
			Personal: map[string]string{"attempted_user": "attempted_user"},
		},
		{Name: "auth.success", Data: AuthSuccess{}, Actor: true},
		{Name: "node.deregistered", Data: NodeDeregistered{}, Actor: true, Reason: true},
		{Name: "node.registered", Data: NodeRegistered{}, Actor: true},
		{Name: "task.canceled", Data: TaskCanceled{}, Actor: true, Reason: true},
		{Name: "task.completed", Data: TaskCompleted{}},
		{
			Name: "task.submitted", Data: TaskSubmitted{}, Actor: true,
			Personal: map[string]string{"customer_id": "customer_id", "prompt_sha256": "customer_id"},
		},
		{Name: "token.created", Class: audit.Critical, Data: TokenCreated{}, Actor: true},
		{Name: "token.revoked", Class: audit.Critical, Data: TokenRevoked{}, Actor: true, Reason: true},
	}
}

// Digest is a SHA-256, written as 64 hex digits. The zero Digest is absent.
type Digest [32]byte

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) {
		return errors.New("events: a digest is 64 hex digits")
	}
	copy(d[:], b)
	return nil
}

// Fingerprint is what logs show of a token: 6 to 24 lower-case hex digits of a
// digest of it, never a part of it.
type Fingerprint string

var fingerprint = regexp.MustCompile(`^[0-9a-f]{6,24}$`)

// check refuses what could be the token itself.
func (f Fingerprint) check(field string) error {
	if !fingerprint.MatchString(string(f)) {
		return &audit.FieldError{Field: field, Rule: "must match " + fingerprint.String()}
	}
	return nil
}
