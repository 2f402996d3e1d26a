package taskhttp

import (
	"context"
	"iter"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
)

// Engine is what the handlers need of an orchestrator. Errors that a client
// shall see are *[taskapi.Error]; any other error is logged and answered
// INTERNAL. All methods are safe for concurrent use. What is not the caller's is
// answered as what does not exist.
type Engine interface {
	Ready() error
	Submit(ctx context.Context, p orchestrator.Principal, s orchestrator.Spec) (orchestrator.Accepted, error)
	Preview(ctx context.Context, p orchestrator.Principal, s orchestrator.Spec) (orchestrator.Preview, error)
	Task(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID) (orchestrator.Task, error)
	Tasks(ctx context.Context, p orchestrator.Principal, f orchestrator.Filter) iter.Seq2[orchestrator.Task, error]
	// Events yields what follows the id after and ends behind the terminal
	// event. It refuses before it waits. It returns soon after ctx ends, and
	// leaving its loop means that this reader is gone. Data is not changed later.
	Events(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID, after uint64) iter.Seq2[orchestrator.Event, error]
	Cancel(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID) error
	Explain(ctx context.Context, p orchestrator.Principal, id orchestrator.TaskID) (placement.Explanation, error)
	Models() []string // what can be placed now, sorted
	Capabilities() taskapi.Capabilities

	OpenSession(ctx context.Context, p orchestrator.Principal, id string, budget int) (orchestrator.Session, error)
	Session(ctx context.Context, p orchestrator.Principal, id string) (orchestrator.Session, error)
	TouchSession(ctx context.Context, p orchestrator.Principal, id string) error
	EndSession(ctx context.Context, p orchestrator.Principal, id string) error
	PutArtifact(ctx context.Context, p orchestrator.Principal, kind string, data []byte) (orchestrator.Artifact, error)
	Artifact(ctx context.Context, p orchestrator.Principal, id string) (orchestrator.Artifact, error)

	Catalog(ctx context.Context) ([]orchestrator.Model, error)
	PutModel(ctx context.Context, p orchestrator.Principal, m orchestrator.Model) (orchestrator.Model, error)
	SetModelState(ctx context.Context, p orchestrator.Principal, id, state string, within time.Duration) (orchestrator.Model, error)
	DeleteModel(ctx context.Context, p orchestrator.Principal, id string) error
	VerifyModel(ctx context.Context, p orchestrator.Principal, id string) (orchestrator.Operation, error)

	PoolStates(ctx context.Context, p orchestrator.Principal) ([]orchestrator.PoolState, error)
	Command(ctx context.Context, p orchestrator.Principal, pool poolregistry.PoolKey, c orchestrator.Command) (orchestrator.Operation, error)
	Operation(ctx context.Context, p orchestrator.Principal, id string) (orchestrator.Operation, error)
	Queue(ctx context.Context, p orchestrator.Principal) (orchestrator.QueueState, error)
	Decisions(ctx context.Context, p orchestrator.Principal, limit int) ([]placement.Explanation, error)

	Export(ctx context.Context, p orchestrator.Principal, subject string) iter.Seq2[orchestrator.ExportItem, error]
	Erase(ctx context.Context, p orchestrator.Principal, subject, reason string) (orchestrator.Erasure, error)
	SetConsent(ctx context.Context, p orchestrator.Principal, c orchestrator.Consent) error
	Consents(ctx context.Context, p orchestrator.Principal, subject string) ([]orchestrator.Consent, error)
}

var _ Engine = (*orchestrator.Orchestrator)(nil)
