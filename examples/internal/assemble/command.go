package assemble

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
)

// Do begins a command on the node of the pool: on the host of this process, or
// over HTTP.
func (c control) Do(ctx context.Context, pool poolregistry.PoolKey, cmd orchestrator.Command) (orchestrator.Operation, error) {
	if c.local == nil || pool.Node != c.local.id {
		return c.remote.Do(ctx, pool, cmd)
	}
	if running := c.local.running(pool.Pool, cmd.Do); running != nil {
		return c.local.show(running), nil
	}
	op, err := c.local.begin(ctx, pool.Pool, cmd)
	if err != nil {
		return orchestrator.Operation{}, hostError(err)
	}
	if op == nil {
		return orchestrator.Operation{Pool: pool, Do: cmd.Do, State: "done", Total: -1}, nil
	}
	return c.local.show(op), nil
}

// Operation asks the node that runs it.
func (c control) Operation(ctx context.Context, id string) (orchestrator.Operation, error) {
	if c.local != nil {
		if own, ok := strings.CutPrefix(id, string(c.local.id)+"/"); ok {
			op, found := c.local.host.Operation(own)
			if !found {
				return orchestrator.Operation{}, taskapi.NewError(taskapi.NotFound)
			}
			return c.local.show(op), nil
		}
	}
	return c.remote.Operation(ctx, id)
}

// running is the operation of that kind that is under way on a pool.
func (n *localNode) running(pool poolregistry.PoolID, kind string) *poolcore.Operation {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.begun = slices.DeleteFunc(n.begun, func(op *poolcore.Operation) bool { return op.State() != "queued" && op.State() != "running" })
	for _, op := range n.begun {
		if op.Pool == pool && op.Kind == kind {
			return op
		}
	}
	return nil
}

// begin starts a command; nil without an error: it is done already.
func (n *localNode) begin(ctx context.Context, id poolregistry.PoolID, cmd orchestrator.Command) (op *poolcore.Operation, err error) {
	p := n.host.Pool(id)
	if p == nil {
		return nil, poolcore.PoolUnknown
	}
	within := cmd.Within
	if within == 0 {
		within = 30 * time.Second
	}
	switch cmd.Do {
	case orchestrator.DoUndrain:
		return nil, p.Undrain()
	case orchestrator.DoDrain:
		op, err = n.host.Operate(cmd.Do, id, func(ctx context.Context, _ *poolcore.Operation) (any, error) { return p.Drain(ctx, within) })
	case orchestrator.DoRestart, orchestrator.DoPreload:
		op, err = n.host.Operate(cmd.Do, id, func(ctx context.Context, _ *poolcore.Operation) (any, error) { return nil, p.Restart(ctx) })
	case orchestrator.DoReload:
		op, err = p.Reload(ctx, poolcore.ReloadRequest{Model: cmd.Model, Within: within, Force: cmd.Force})
	case orchestrator.DoPurge:
		req := poolcore.PurgeRequest{Engine: cmd.Model == "", Force: cmd.Force}
		if cmd.Model != "" {
			req.Models = []string{cmd.Model}
		}
		op, err = p.Purge(ctx, req)
	default:
		err = poolcore.Unsupported
	}
	if err == nil {
		n.mu.Lock()
		n.begun = append(n.begun, op)
		n.mu.Unlock()
	}
	return op, err
}

func (n *localNode) show(op *poolcore.Operation) orchestrator.Operation {
	out := orchestrator.Operation{
		ID: string(n.id) + "/" + op.ID, Pool: poolregistry.PoolKey{Node: n.id, Pool: op.Pool}, Do: op.Kind, State: op.State(), Phase: op.Phase(),
		Bytes: op.Progress().Done, Total: op.Progress().Total, Result: op.Result(),
	}
	if err := op.Err(); err != nil {
		out.Code = "INTERNAL"
		if code, ok := errors.AsType[poolcore.Code](err); ok {
			out.Code = string(code)
		}
	}
	return out
}

// hostError words a refusal of the host as the wire of tasks does.
func hostError(err error) error {
	code := taskapi.Internal
	switch {
	case errors.Is(err, poolcore.PoolUnknown):
		code = taskapi.PoolNotFound
	case errors.Is(err, poolcore.PoolBusy):
		code = taskapi.OperationRunning
	case errors.Is(err, poolcore.PoolUnready):
		code = taskapi.PoolUnready
	case errors.Is(err, poolcore.InvalidParams), errors.Is(err, poolcore.Unsupported), errors.Is(err, poolcore.ModelMissing):
		code = taskapi.InvalidParams
	case errors.Is(err, poolcore.InsufficientVRAM):
		code = taskapi.InsufficientVRAM
	case errors.Is(err, poolcore.HostStopped):
		code = taskapi.ShuttingDown
	}
	out := taskapi.NewError(code)
	out.Err = err
	return out
}
