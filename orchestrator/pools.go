package orchestrator

import (
	"context"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
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

// hasWorker reports whether a worker is there and ready.
func (o *Orchestrator) hasWorker(k placement.Key) (ok bool) {
	o.look(func(c *sched.Core) {
		w, found := c.View().Find(k)
		ok = found && w.Online && w.Ready
	})
	return ok
}

// look runs f on the core while the loop runs; false if it does not.
func (o *Orchestrator) look(f func(*sched.Core)) bool {
	p := phase(o.phase.Load())
	return (p == serving || p == refusing) && o.loop.ask(f)
}
