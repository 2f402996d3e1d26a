package events

import (
	"regexp"
	"time"

	"github.com/llorch/llorch/audit"
)

// AuthSuccess: a caller proved who they are.
type AuthSuccess struct {
	Path string `json:"path"`
}

// AuthFailure: a caller failed to. The event's Reason is invalid_token,
// expired_token, missing_header, malformed_header, rate_limited, other, or a
// word of your own of a-z and _.
type AuthFailure struct {
	AttemptedUser string `json:"attempted_user,omitzero"`
	Path          string `json:"path"`
}

var word = regexp.MustCompile(`^[a-z_]{1,64}$`)

// ValidateEvent refuses reasons that are not one word.
func (AuthFailure) ValidateEvent(e *audit.Event) error {
	if !word.MatchString(e.Reason) {
		return &audit.FieldError{Field: "reason", Rule: "must match " + word.String()}
	}
	return nil
}

// TokenCreated: a bearer token came into being.
type TokenCreated struct {
	ExpiresAt time.Time   `json:"expires_at,omitzero"`
	Scope     []string    `json:"scope"`
	TokenFP   Fingerprint `json:"token_fp"`
}

// Validate implements the check of [audit.TypeInfo].
func (t TokenCreated) Validate() error { return t.TokenFP.check("token_fp") }

// TokenRevoked: a bearer token is refused from now on.
type TokenRevoked struct {
	TokenFP Fingerprint `json:"token_fp"`
}

// Validate implements the check of [audit.TypeInfo].
func (t TokenRevoked) Validate() error { return t.TokenFP.check("token_fp") }
