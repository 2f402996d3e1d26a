package taskapi

import "time"

// Artifact describes the bytes that a caller keeps beside its tasks. The bytes
// themselves are the body of POST /v2/artifacts?kind= and GET /v2/artifacts/{id}.
type Artifact struct {
	ID        string    `json:"id"` // SHA-256 of the bytes, lower-case hexadecimal
	Kind      string    `json:"kind"`
	Bytes     int       `json:"bytes"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	URL       string    `json:"url"`
}

// ArtifactKinds lists what Artifact.Kind may be.
func ArtifactKinds() []string { return []string{"plan", "summary", "diff", "trace", "logs", "other"} }

// ExportLine is one line of GET /gdpr/export. A line with an error ends an export
// that is not whole; a whole one ends with the section manifest.
type ExportLine struct {
	Section string       `json:"section,omitempty"` // tasks, sessions, artifacts, outputs, usage, consents, manifest
	Data    any          `json:"data,omitempty"`
	Error   *ErrorDetail `json:"error,omitempty"`
}

// EraseRequest is the body of POST /gdpr/delete; all of it may be absent.
type EraseRequest struct {
	Subject string `json:"subject,omitempty"` // tenant/user, or user; absent: the caller
	Reason  string `json:"reason,omitempty"`  // one word of a-z and _, for the audit log
}

// Erasure is the receipt of an erasure. It names nobody.
type Erasure struct {
	KeyID     string    `json:"key_id"` // of the destroyed key; empty: there was none
	AuditSeq  uint64    `json:"audit_seq,omitempty"`
	At        time.Time `json:"at"`
	Tasks     int       `json:"tasks"`
	Outputs   int       `json:"outputs"`
	Documents int       `json:"documents"`
	Cancelled int       `json:"cancelled"`
}

// Consent is one person's word about one purpose; without subject, at and by also
// the body of POST /gdpr/consent.
type Consent struct {
	Subject string    `json:"subject,omitempty"` // absent in a request: the caller
	Purpose string    `json:"purpose"`
	Granted bool      `json:"granted"`
	At      time.Time `json:"at,omitzero"`
	By      string    `json:"by,omitempty"`
}

// ConsentList is the body of GET and POST /gdpr/consent.
type ConsentList struct {
	Consents []Consent `json:"consents"`
}

// maxSubject is two names and the stroke between them.
const maxSubject = 513

// DecodeErase reads the body of POST /gdpr/delete.
func DecodeErase(body []byte) (e EraseRequest, err error) {
	m := readBody(body)
	m.subject(&e.Subject)
	m.ident("reason", &e.Reason, word)
	return e, m.done()
}

// DecodeConsent reads the body of POST /gdpr/consent.
func DecodeConsent(body []byte) (c Consent, err error) {
	m := readBody(body)
	m.require("purpose", "granted")
	m.subject(&c.Subject)
	m.ident("purpose", &c.Purpose, word)
	take(m, "granted", &c.Granted)
	return c, m.done()
}

func (m *members) subject(dst *string) {
	if take(m, "subject", dst); m.err == nil && m.has("subject") {
		if why := SubjectFault(*dst); why != "" {
			m.fail("subject", why)
		}
	}
}

// SubjectFault says what keeps s from being a subject; "" if nothing does.
func SubjectFault(s string) string {
	switch {
	case s == "" || len(s) > maxSubject:
		return "length"
	case !printable(s):
		return "charset"
	}
	return ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
