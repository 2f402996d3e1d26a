package taskhttp

import (
	"net/http"
	"strconv"

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
	if err != nil {
		return err
	}
	out := taskapi.TenantList{Tenants: []taskapi.Tenant{}}
	for _, t := range q.Tenants {
		out.Tenants = append(out.Tenants, taskapi.Tenant{
			Tenant: t.Tenant, Weight: t.Weight, Waiting: t.Waiting, Running: t.Running, VirtualTime: t.Virtual, TokensToday: t.TokensToday,
		})
	}
	return c.json(http.StatusOK, out)
}

// decisions is GET /v2/decisions?limit=.
func (h *handler) decisions(c *call) error {
	limit := defaultList
	if s := c.r.URL.Query().Get("limit"); s != "" && !(parse(&limit, s, strconv.Atoi) && limit >= 1 && limit <= taskapi.MaxList) {
		return taskapi.InvalidField("limit", "syntax")
	}
	list, err := h.Orchestrator.Decisions(c.r.Context(), c.p, limit)
	if err != nil {
		return err
	}
	out := taskapi.DecisionList{Decisions: []any{}}
	for _, x := range list {
		out.Decisions = append(out.Decisions, x)
	}
	return c.json(http.StatusOK, out)
}
