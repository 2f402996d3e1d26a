package taskhttp

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// pools is GET /v2/pools.
func (h *handler) pools(c *call) error {
	list, err := h.Orchestrator.PoolStates(c.r.Context(), c.p)
	return c.show(http.StatusOK, taskapi.PoolList{Pools: each(list, poolView)}, err)
}

// poolHealth is GET /v2/pools/{id}/health.
func (h *handler) poolHealth(c *call) error {
	s, err := c.pool()
	return c.show(http.StatusOK, poolView(s), err)
}

// pool returns the pool that the path names: node/pool, percent-encoded, or a
// bare name that only one node has.
func (c *call) pool() (found orchestrator.PoolState, err error) {
	list, err := c.h.Orchestrator.PoolStates(c.r.Context(), c.p)
	if err != nil {
		return found, err
	}
	node, name, named := strings.Cut(c.r.PathValue("id"), "/")
	if !named {
		node, name = "", node
	}
	n := 0
	for _, s := range list {
		if string(s.Key.Pool) == name && (!named || string(s.Key.Node) == node) {
			found = s
			n++
		}
	}
	switch n {
	case 0:
		return found, taskapi.PoolNotFound
	case 1:
		return found, nil
	}
	return found, taskapi.NewError(taskapi.Conflict).With("reason", "pool_on_several_nodes").With("nodes", n)
}

// command is POST /v2/pools/{id}/do.
func command(do string) func(*handler, *call) error {
	return func(h *handler, c *call) error {
		req, err := decoded(c, c.optionalBody, func(raw []byte) (taskapi.PoolCommand, error) { return taskapi.DecodePoolCommand(do, raw) })
		if err != nil {
			return err
		}
		s, err := c.pool()
		if err != nil {
			return err
		}
		op, err := h.Orchestrator.Command(c.r.Context(), c.p, s.Key, orchestrator.Command{
			Do: do, Model: req.Model, Within: time.Duration(req.DeadlineMS) * time.Millisecond, Force: req.Force,
		})
		return c.begun(op, err)
	}
}

// begun answers 202 with an operation that can be polled.
func (c *call) begun(op orchestrator.Operation, err error) error {
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v2/operations/"+url.PathEscape(op.ID))
	return c.json(http.StatusAccepted, operationView(op))
}

// operation is GET /v2/operations/{id}.
func (h *handler) operation(c *call) error {
	op, err := h.Orchestrator.Operation(c.r.Context(), c.p, c.r.PathValue("id"))
	return c.show(http.StatusOK, operationView(op), err)
}

func poolView(s orchestrator.PoolState) taskapi.Pool {
	return taskapi.Pool{
		PoolID: string(s.Key.Pool), NodeID: string(s.Key.Node), Engine: s.Engine, Ready: s.Ready, Draining: s.Draining, Reason: s.Why,
		Models: orEmpty(s.Models), SlotsTotal: s.Slots, SlotsActive: s.Active, Quarantined: s.Quarantined,
	}
}

func operationView(op orchestrator.Operation) taskapi.Operation {
	return taskapi.Operation{
		OperationID: op.ID, PoolID: string(op.Pool.Pool), NodeID: string(op.Pool.Node), Command: op.Do, State: op.State, Phase: op.Phase,
		BytesDone: op.Bytes, BytesTotal: max(op.Total, 0), Code: op.Code, Result: op.Result,
	}
}
