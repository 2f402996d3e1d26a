package orchestrator

import (
	"context"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
)

// PoolState is a pool as an operator sees it.
type PoolState struct {
	Key         poolregistry.PoolKey
	Engine      string
	Ready       bool
	Draining    bool
	Why         string // not ready
	Models      []string
	Slots       int
	Active      int // reservations of this scheduler
	Quarantined int // workers
}

// PoolStates returns the pools, by node and name. Operators only.
func (o *Orchestrator) PoolStates(ctx context.Context, p Principal) ([]PoolState, error) {
	return nil, taskapi.NewError(taskapi.Internal)
}

// Command has a pool do something; the operation is polled. Operators only.
func (o *Orchestrator) Command(ctx context.Context, p Principal, pool poolregistry.PoolKey, c Command) (Operation, error) {
	return Operation{}, taskapi.NewError(taskapi.Internal)
}

// Operation returns how a command or a verification stands.
func (o *Orchestrator) Operation(ctx context.Context, p Principal, id string) (Operation, error) {
	return Operation{}, taskapi.NewError(taskapi.Internal)
}
