package orchestrator

import (
	"context"
	"slices"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
)

// PoolState is a pool as an operator sees it.
type PoolState struct {
	Key         poolregistry.PoolKey
	Engine      string
	Ready       bool   // a worker is
	Draining    bool   // every worker is
	Why         string // not ready
	Models      []string
	Slots       int
	Active      int // reservations of this scheduler
	Quarantined int // workers
}

// PoolStates returns the pools, by node and name. Operators only.
func (o *Orchestrator) PoolStates(ctx context.Context, p Principal) (out []PoolState, err error) {
	if err := o.operator(ctx, p, "pools", "pool.list"); err != nil {
		return nil, err
	}
	if !o.look(func(c *sched.Core) { out = poolStates(c.View()) }) {
		return nil, taskapi.NewError(taskapi.ShuttingDown)
	}
	return out, nil
}

// poolStates sums up the workers, which come by node, pool and worker.
func poolStates(v *placement.View) (out []PoolState) {
	for w := range v.Workers() {
		key := poolregistry.PoolKey{Node: poolregistry.NodeID(w.Node), Pool: poolregistry.PoolID(w.Pool)}
		if n := len(out); n == 0 || out[n-1].Key != key {
			out = append(out, PoolState{Key: key, Engine: w.Engine, Draining: true})
		}
		s := &out[len(out)-1]
		s.Ready = s.Ready || w.Online && w.Ready
		s.Draining = s.Draining && w.Draining
		if s.Why == "" {
			s.Why = w.Why
		}
		s.Models = append(s.Models, w.Models...)
		s.Slots += w.SlotsTotal
		s.Active += v.Reserved(w.Key)
		if v.Quarantined(w.Key) {
			s.Quarantined++
		}
	}
	for i := range out {
		s := &out[i]
		slices.Sort(s.Models)
		s.Models = slices.Compact(s.Models)
		if s.Ready {
			s.Why = ""
		}
	}
	return out
}

// Command has a pool do something; the operation is polled: POOL_NOT_FOUND,
// OPERATION_RUNNING. Operators only.
func (o *Orchestrator) Command(ctx context.Context, p Principal, pool poolregistry.PoolKey, c Command) (Operation, error) {
	if err := o.operator(ctx, p, "pools", "pool."+listed(c.Do)); err != nil {
		return Operation{}, err
	}
	switch {
	case listed(c.Do) != c.Do:
		return Operation{}, taskapi.InvalidField("command", "unknown")
	case c.Model == "" && (c.Do == DoReload || c.Do == DoVerify):
		return Operation{}, taskapi.InvalidField("model", "required")
	case len(c.Model) > maxModel || !printable(c.Model):
		return Operation{}, taskapi.InvalidField("model", "syntax")
	case c.Within < 0:
		return Operation{}, taskapi.InvalidField("deadline_ms", "range")
	case o.cfg.Control == nil:
		return Operation{}, taskapi.NewError(taskapi.Conflict).With("reason", "the workers of this pool have no daemon")
	}
	op, err := o.cfg.Control.Do(ctx, pool, c)
	if err != nil {
		return Operation{}, wireError(err)
	}
	return op, nil
}

// listed returns a command of the closed list, and unknown for any other word.
func listed(do string) string {
	if slices.Contains([]string{DoPreload, DoDrain, DoUndrain, DoReload, DoRestart, DoPurge, DoVerify}, do) {
		return do
	}
	return "unknown"
}

// Operation returns how a command or a verification stands. Operators only.
func (o *Orchestrator) Operation(ctx context.Context, p Principal, id string) (Operation, error) {
	if err := o.operator(ctx, p, "operations", "operation.read"); err != nil {
		return Operation{}, err
	}
	if op, ok := o.catalog.checks.operation(id); ok {
		return op, nil
	}
	if o.cfg.Control == nil {
		return Operation{}, taskapi.NewError(taskapi.NotFound)
	}
	op, err := o.cfg.Control.Operation(ctx, id)
	if err != nil {
		return Operation{}, wireError(err)
	}
	return op, nil
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
