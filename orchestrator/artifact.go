package orchestrator

import (
	"context"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Artifact is a document that a caller keeps beside its tasks. Its id is the
// SHA-256 of its bytes, in lower-case hexadecimal.
type Artifact struct {
	ID      string
	Kind    string // plan, summary, diff, trace, logs, other
	Data    []byte // at most 4 MiB
	Created time.Time
}

// PutArtifact keeps bytes for the caller; the same bytes twice are one artifact.
func (o *Orchestrator) PutArtifact(ctx context.Context, p Principal, kind string, data []byte) (Artifact, error) {
	return Artifact{}, taskapi.NewError(taskapi.Internal)
}

// Artifact returns an artifact of the caller.
func (o *Orchestrator) Artifact(ctx context.Context, p Principal, id string) (Artifact, error) {
	return Artifact{}, taskapi.NewError(taskapi.Internal)
}
