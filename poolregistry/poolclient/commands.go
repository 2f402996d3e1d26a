package poolclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// route fills the wildcard of a route and returns its method and escaped path.
func route(pattern, id string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.Replace(path, "{id}", url.PathEscape(id), 1)
}

// maxID is the longest id in a path, in bytes.
const maxID = 512

// send fills the route into k and sends it. What names the verb and object of
// errors.
func (c *Client) send(ctx context.Context, what, pattern, id string, k call, answer any) (int, error) {
	k.method, k.path = route(pattern, id)
	status, err := c.do(ctx, k, answer)
	if err != nil {
		return status, fmt.Errorf("%s: %w", what, err)
	}
	return status, nil
}

// ofPool is send for a route below a pool.
func (c *Client) ofPool(ctx context.Context, what, pattern string, pool poolregistry.PoolID, k call, answer any) (int, error) {
	if _, err := poolregistry.ParsePoolID(string(pool)); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return c.send(ctx, what, pattern, string(pool), k, answer)
}

// ofID is send for a route below any other id.
func (c *Client) ofID(ctx context.Context, what, pattern, id string, k call, answer any) (int, error) {
	if id == "" || id == "." || id == ".." || len(id) > maxID || inputvalidation.Escape(id) != id {
		return 0, fmt.Errorf("%s: %w", what, &poolregistry.Error{Code: poolregistry.InvalidNode, Fields: []string{"id: charset"}})
	}
	return c.send(ctx, what, pattern, id, k, answer)
}

// Health returns what the node says without asking who wants to know.
func (c *Client) Health(ctx context.Context, address string) (h nodeapi.Health, err error) {
	_, err = c.send(ctx, "read health", nodeapi.RouteHealth, "", call{address: address}, &h)
	return h, err
}

// Pools returns the state of all pools, sorted by id.
func (c *Client) Pools(ctx context.Context, address string) ([]nodeapi.PoolStatus, error) {
	var list nodeapi.PoolList
	_, err := c.send(ctx, "list pools", nodeapi.RoutePools, "", call{address: address}, &list)
	return list.Pools, err
}

// Status returns the state of one pool.
func (c *Client) Status(ctx context.Context, address string, pool poolregistry.PoolID) (s nodeapi.PoolStatus, err error) {
	_, err = c.ofPool(ctx, "read pool", nodeapi.RoutePoolStatus, pool, call{address: address}, &s)
	return s, err
}

// Workers returns how to reach the workers of a pool, with their credentials.
func (c *Client) Workers(ctx context.Context, address string, pool poolregistry.PoolID) ([]nodeapi.WorkerAccess, error) {
	var list nodeapi.WorkerList
	_, err := c.ofPool(ctx, "list workers", nodeapi.RoutePoolWorkers, pool, call{address: address}, &list)
	return list.Workers, err
}

// Preload asks for a pool to run. The node waits for it until a second before
// the deadline of ctx, at most 10 s. Exactly one of reply and op is not nil: op
// if the pool is not up yet; poll it with [Client.Operation].
func (c *Client) Preload(ctx context.Context, address string, pool poolregistry.PoolID, req nodeapi.PreloadRequest) (reply *nodeapi.PreloadReply, op *nodeapi.Operation, err error) {
	var raw json.RawMessage
	status, err := c.ofPool(ctx, "preload pool", nodeapi.RoutePreload, pool, call{address: address, body: req, wait: true}, &raw)
	if err != nil {
		return nil, nil, err
	}
	if status == http.StatusAccepted {
		op = new(nodeapi.Operation)
		err = json.Unmarshal(raw, op)
	} else {
		reply = new(nodeapi.PreloadReply)
		err = json.Unmarshal(raw, reply)
	}
	if err != nil {
		return nil, nil, errors.New("preload pool: answer has another form")
	}
	return reply, op, nil
}

// Drain lets what runs in a pool end until within has passed; 0 = now.
func (c *Client) Drain(ctx context.Context, address string, pool poolregistry.PoolID, within time.Duration) (op nodeapi.Operation, err error) {
	_, err = c.ofPool(ctx, "drain pool", nodeapi.RoutePoolDrain, pool, call{address: address, body: nodeapi.DrainRequest{DeadlineMS: within.Milliseconds()}}, &op)
	return op, err
}

// Undrain ends a drain.
func (c *Client) Undrain(ctx context.Context, address string, pool poolregistry.PoolID) error {
	_, err := c.ofPool(ctx, "undrain pool", nodeapi.RouteUndrain, pool, call{address: address}, nil)
	return err
}

// Reload puts another model or engine version into a pool.
func (c *Client) Reload(ctx context.Context, address string, pool poolregistry.PoolID, req nodeapi.ReloadRequest) (op nodeapi.Operation, err error) {
	_, err = c.ofPool(ctx, "reload pool", nodeapi.RouteReload, pool, call{address: address, body: req}, &op)
	return op, err
}

// Restart ends the engines of a pool and starts them again.
func (c *Client) Restart(ctx context.Context, address string, pool poolregistry.PoolID) (op nodeapi.Operation, err error) {
	_, err = c.ofPool(ctx, "restart pool", nodeapi.RouteRestart, pool, call{address: address}, &op)
	return op, err
}

// ResetBreaker closes the breaker of a pool.
func (c *Client) ResetBreaker(ctx context.Context, address string, pool poolregistry.PoolID) error {
	_, err := c.ofPool(ctx, "reset breaker", nodeapi.RouteBreakerReset, pool, call{address: address}, nil)
	return err
}

// Purge removes an engine and models from a node.
func (c *Client) Purge(ctx context.Context, address string, pool poolregistry.PoolID, req nodeapi.PurgeRequest) (op nodeapi.Operation, err error) {
	_, err = c.ofPool(ctx, "purge pool", nodeapi.RoutePurge, pool, call{address: address, body: req}, &op)
	return op, err
}

// VerifyModel reads a model on a node again and compares its digests.
func (c *Client) VerifyModel(ctx context.Context, address, model string) (op nodeapi.Operation, err error) {
	_, err = c.ofID(ctx, "verify model", nodeapi.RouteModelVerify, model, call{address: address}, &op)
	return op, err
}

// Operation returns how far an operation has come.
func (c *Client) Operation(ctx context.Context, address, id string) (op nodeapi.Operation, err error) {
	_, err = c.ofID(ctx, "read operation", nodeapi.RouteOperation, id, call{address: address}, &op)
	return op, err
}

// Cancel asks for an operation to end, and returns how far it has come.
func (c *Client) Cancel(ctx context.Context, address, id string) (op nodeapi.Operation, err error) {
	_, err = c.ofID(ctx, "cancel operation", nodeapi.RouteCancel, id, call{address: address}, &op)
	return op, err
}
