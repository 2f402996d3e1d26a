package taskhttp

import (
	"net/http"
	"strconv"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// queue is GET /v2/queue.
func (h *handler) queue(c *call) error {
	q, err := h.Orchestrator.Queue(c.r.Context(), c.p)
	if err != nil {
		return err
	}
	v := taskapi.Queue{Capacity: q.Capacity, Waiting: q.Waiting, Bytes: q.Bytes, OldestMS: q.Oldest.Milliseconds(), Classes: q.Classes}
	if v.Classes == nil {
		v.Classes = map[string]int{}
	}
	return c.json(http.StatusOK, v)
}

// tenants is GET /v2/tenants.
func (h *handler) tenants(c *call) error {
	q, err := h.Orchestrator.Queue(c.r.Context(), c.p)
	return c.show(http.StatusOK, taskapi.TenantList{Tenants: each(q.Tenants, func(t orchestrator.TenantState) taskapi.Tenant {
		return taskapi.Tenant{
			Tenant: t.Tenant, Weight: t.Weight, Waiting: t.Waiting, Running: t.Running, VirtualTime: t.Virtual, TokensToday: t.TokensToday,
		}
	})}, err)
}

// decisions is GET /v2/decisions?limit=.
func (h *handler) decisions(c *call) error {
	limit := defaultList
	if s := c.r.URL.Query().Get("limit"); s != "" && !(parse(&limit, s, strconv.Atoi) && limit >= 1 && limit <= taskapi.MaxList) {
		return taskapi.InvalidField("limit", "syntax")
	}
	list, err := h.Orchestrator.Decisions(c.r.Context(), c.p, limit)
	return c.show(http.StatusOK, taskapi.DecisionList{Decisions: each(list, func(x placement.Explanation) any { return x })}, err)
}
