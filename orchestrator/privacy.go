package orchestrator

import (
	"context"
	"iter"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// ExportItem is one thing that is stored about a person.
type ExportItem struct {
	Section string // tasks, sessions, artifacts, outputs, usage, consents, manifest
	Data    any    // encodes as JSON
}

// Export yields everything that is stored about a person, sorted, then a
// manifest with counts and digests. For the person and for role privacy.
func (o *Orchestrator) Export(ctx context.Context, p Principal, subject string) iter.Seq2[ExportItem, error] {
	return func(yield func(ExportItem, error) bool) { yield(ExportItem{}, taskapi.NewError(taskapi.Internal)) }
}

// Erasure is the receipt of an erasure. It names nobody.
type Erasure struct {
	KeyID     string    `json:"key_id"` // of the destroyed key; "" = there was none
	AuditSeq  uint64    `json:"audit_seq,omitempty"`
	At        time.Time `json:"at"`
	Tasks     int       `json:"tasks"`
	Outputs   int       `json:"outputs"`
	Documents int       `json:"documents"`
	Cancelled int       `json:"cancelled"`
}

// Erase forgets a person: live tasks are cancelled, records lose what names the
// person, documents go and the key is destroyed. It resumes after a crash, and
// repeating it gives the same receipt.
func (o *Orchestrator) Erase(ctx context.Context, p Principal, subject, reason string) (Erasure, error) {
	return Erasure{}, taskapi.NewError(taskapi.Internal)
}

// Consent is one person's word about one purpose.
type Consent struct {
	Subject string    `json:"subject,omitempty"`
	Purpose string    `json:"purpose"`
	Granted bool      `json:"granted"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`
}

// SetConsent records a consent or its revocation; a revocation also cancels what
// waits or runs on its strength.
func (o *Orchestrator) SetConsent(ctx context.Context, p Principal, c Consent) error {
	return taskapi.NewError(taskapi.Internal)
}

// Consents returns what a person has said.
func (o *Orchestrator) Consents(ctx context.Context, p Principal, subject string) ([]Consent, error) {
	return nil, taskapi.NewError(taskapi.Internal)
}

// Usage is what a person or tenant used on one UTC day.
type Usage struct {
	Day                 string `json:"day"` // yyyy-mm-dd
	Tasks               int    `json:"tasks"`
	TokensIn, TokensOut int64
}

// Usage returns the tokens of the caller's tenant per day, newest first.
func (o *Orchestrator) Usage(ctx context.Context, p Principal) ([]Usage, error) {
	return nil, taskapi.NewError(taskapi.Internal)
}
