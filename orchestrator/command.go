package orchestrator

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// The commands of [Command.Do].
const (
	DoPreload = "preload" // has a pool that is configured load its model: a restart of what is not ready
	DoDrain   = "drain"
	DoUndrain = "undrain"
	DoReload  = "reload" // with Command.Model instead of the present one
	DoRestart = "restart"
	DoPurge   = "purge"
	DoVerify  = "verify" // hashes Command.Model on the pool's node
)

// defaultDrain is the time for requests when a command names none.
const defaultDrain = 30 * time.Second

// Ended reports whether the operation is over.
func (o Operation) Ended() bool {
	return o.State == "done" || o.State == "failed" || o.State == "cancelled"
}

// operationID joins a node and its own id of an operation: ids of nodes are unique,
// those of operations only within a node.
func operationID(node poolregistry.NodeID, id string) string { return string(node) + "/" + id }

// Do begins a command on the node of the pool.
func (c *httpControl) Do(ctx context.Context, pool poolregistry.PoolKey, cmd Command) (Operation, error) {
	n, ok := c.reg.View().Node(pool.Node)
	if !ok {
		return Operation{}, taskapi.NewError(taskapi.PoolNotFound)
	}
	if n.Address == "" || strings.HasPrefix(string(n.ID), staticNodes) {
		return Operation{}, taskapi.NewError(taskapi.Conflict).With("reason", "the workers of this node have no daemon")
	}
	op, err := c.send(ctx, n.Address, pool.Pool, cmd)
	if err != nil {
		return Operation{}, commandError(err)
	}
	return operation(pool, cmd.Do, op), nil
}

func (c *httpControl) send(ctx context.Context, address string, pool poolregistry.PoolID, cmd Command) (nodeapi.Operation, error) {
	within := cmd.Within
	if within == 0 {
		within = defaultDrain
	}
	switch cmd.Do {
	case DoDrain:
		return c.client.Drain(ctx, address, pool, within)
	case DoUndrain:
		return nodeapi.Operation{State: "done"}, c.client.Undrain(ctx, address, pool)
	case DoReload:
		return c.client.Reload(ctx, address, pool, nodeapi.ReloadRequest{NewModelRef: cmd.Model, DeadlineMS: within.Milliseconds(), Force: cmd.Force})
	case DoRestart, DoPreload:
		return c.client.Restart(ctx, address, pool)
	case DoPurge:
		req := nodeapi.PurgeRequest{PurgeEngine: cmd.Model == "", Force: cmd.Force}
		if cmd.Model != "" {
			req.PurgeModels = []string{cmd.Model}
		}
		return c.client.Purge(ctx, address, pool, req)
	case DoVerify:
		return c.client.VerifyModel(ctx, address, cmd.Model)
	}
	return nodeapi.Operation{}, taskapi.InvalidField("command", "unknown")
}

// Operation asks the node that runs it.
func (c *httpControl) Operation(ctx context.Context, id string) (Operation, error) {
	at := strings.LastIndexByte(id, '/')
	if at < 0 {
		return Operation{}, taskapi.NewError(taskapi.NotFound)
	}
	n, ok := c.reg.View().Node(poolregistry.NodeID(id[:at]))
	if !ok || n.Address == "" {
		return Operation{}, taskapi.NewError(taskapi.NotFound)
	}
	op, err := c.client.Operation(ctx, n.Address, id[at+1:])
	if err != nil {
		return Operation{}, commandError(err)
	}
	return operation(poolregistry.PoolKey{Node: n.ID, Pool: op.PoolID}, op.Kind, op), nil
}

func operation(pool poolregistry.PoolKey, do string, op nodeapi.Operation) Operation {
	out := Operation{Pool: pool, Do: do, State: op.State, Phase: op.Phase, Total: -1, Result: op.Result}
	if op.ID != "" {
		out.ID = operationID(pool.Node, op.ID)
	}
	if op.Progress != nil {
		out.Bytes, out.Total = op.Progress.BytesDone, op.Progress.BytesTotal
	}
	if op.Error != nil {
		out.Code = op.Error.Code
	}
	return out
}

// commandError words a node's refusal for our own callers.
func commandError(err error) error {
	code := taskapi.NodeUnavailable
	switch {
	case errors.As(err, new(*taskapi.Error)):
		return err
	case errors.As(err, new(*poolclient.APIError)):
		e, _ := errors.AsType[*poolclient.APIError](err)
		switch e.Status {
		case 400:
			code = taskapi.InvalidParams
		case 404:
			code = taskapi.PoolNotFound
		case 409:
			code = taskapi.OperationRunning
		}
		out := taskapi.NewError(code)
		out.Err = err
		if e.Code != "" {
			out = out.With("node_code", string(e.Code))
		}
		return out
	}
	out := taskapi.NewError(code)
	out.Err = err
	return out
}
