package orchestrator

import (
	"context"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Preview is what would happen to a request, without doing it.
type Preview struct {
	Checks      []Check // in the order of admission
	Explanation placement.Explanation
	StartIn     time.Duration
	Band        time.Duration
	Position    int
}

// Check is one step of admission.
type Check struct {
	Name string
	Code string // "" = passed
}

// Preview makes every check and the decision for a request, with no side effect.
func (o *Orchestrator) Preview(ctx context.Context, p Principal, s Spec) (Preview, error) {
	return Preview{}, taskapi.NewError(taskapi.Internal)
}

// QueueState is a picture of the queue.
type QueueState struct {
	Capacity, Waiting int
	Bytes             int64
	Oldest            time.Duration // age of the oldest waiting task
	Classes           map[string]int
	Tenants           []TenantState // by share, operators only
}

// TenantState is how a tenant stands.
type TenantState struct {
	Tenant           string // "" = not known since the restart
	Weight           int
	Waiting, Running int
	Virtual          int64 // virtual time, milli-tokens
	TokensToday      int64
}

// Queue returns how the queue stands. Operators only.
func (o *Orchestrator) Queue(ctx context.Context, p Principal) (QueueState, error) {
	return QueueState{}, taskapi.NewError(taskapi.Internal)
}

// SetPolicy changes placement from the next decision on. Operators only.
func (o *Orchestrator) SetPolicy(ctx context.Context, p Principal, policy placement.Policy) error {
	return taskapi.NewError(taskapi.Internal)
}
