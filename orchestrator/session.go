package orchestrator

import (
	"context"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Session groups tasks of one subject for affinity and budget. It holds no text.
type Session struct {
	ID         string
	Turns      int
	TTLLeft    time.Duration
	Budget     int    // tokens; 0 = none
	BudgetLeft int    // never below 0
	Warm       bool   // the worker of the last turn may still hold its context
	Worker     string // of the last turn, node/pool/worker
}

// OpenSession makes a session of the caller; "" gives it a name. With a name that
// exists it answers with that session.
func (o *Orchestrator) OpenSession(ctx context.Context, p Principal, id string, budget int) (Session, error) {
	return Session{}, taskapi.NewError(taskapi.Internal)
}

// Session returns a session of the caller; it never makes one.
func (o *Orchestrator) Session(ctx context.Context, p Principal, id string) (Session, error) {
	return Session{}, taskapi.NewError(taskapi.Internal)
}

// TouchSession begins the session's time to live anew.
func (o *Orchestrator) TouchSession(ctx context.Context, p Principal, id string) error {
	return taskapi.NewError(taskapi.Internal)
}

// EndSession forgets a session; it cancels nothing, and twice is nil.
func (o *Orchestrator) EndSession(ctx context.Context, p Principal, id string) error {
	return taskapi.NewError(taskapi.Internal)
}
