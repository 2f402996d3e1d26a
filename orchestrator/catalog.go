package orchestrator

import (
	"context"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Model is an entry of the catalogue.
type Model struct {
	ID           string    `json:"id"`
	Digest       string    `json:"digest,omitempty"` // sha256:<hex>
	Source       string    `json:"source_url,omitempty"`
	State        string    `json:"state"` // Active or Retired
	Aliases      []string  `json:"aliases,omitempty"`
	Tags         []string  `json:"tags,omitempty"`
	Successor    string    `json:"successor,omitempty"`
	Deadline     time.Time `json:"deadline,omitzero"` // of a retired one: waiting tasks run until then
	LastVerified time.Time `json:"last_verified,omitzero"`
	Verified     []Verdict `json:"verified,omitempty"`
}

// Verdict is what one node found when it hashed a model.
type Verdict struct {
	Node   string `json:"node"`
	Result string `json:"result"` // pass, warn, fail
}

// Catalog returns the entries, by id.
func (o *Orchestrator) Catalog(ctx context.Context) ([]Model, error) {
	return nil, taskapi.NewError(taskapi.Internal)
}

// PutModel adds or replaces an entry. Operators only.
func (o *Orchestrator) PutModel(ctx context.Context, p Principal, m Model) (Model, error) {
	return Model{}, taskapi.NewError(taskapi.Internal)
}

// RetireModel retires a model or, with state Active, brings it back. Waiting tasks
// run until within is over.
func (o *Orchestrator) SetModelState(ctx context.Context, p Principal, id, state string, within time.Duration) (Model, error) {
	return Model{}, taskapi.NewError(taskapi.Internal)
}

// DeleteModel removes an entry; an absent one is nil.
func (o *Orchestrator) DeleteModel(ctx context.Context, p Principal, id string) error {
	return taskapi.NewError(taskapi.Internal)
}

// VerifyModel asks every node that has the model to hash it.
func (o *Orchestrator) VerifyModel(ctx context.Context, p Principal, id string) (Operation, error) {
	return Operation{}, taskapi.NewError(taskapi.Internal)
}

type catalog struct{}

func newCatalog() *catalog { return &catalog{} }

func (o *Orchestrator) loadCatalog(ctx context.Context) error { return nil }
func (o *Orchestrator) keepCatalog(ctx context.Context)       {}
