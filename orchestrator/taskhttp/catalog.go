package taskhttp

import (
	"net/http"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// catalog is GET /v2/catalog/models.
func (h *handler) catalog(c *call) error {
	list, err := h.Orchestrator.Catalog(c.r.Context())
	return c.show(http.StatusOK, taskapi.CatalogList{Models: each(list, modelView)}, err)
}

// catalogModel is GET /v2/catalog/models/{id}; an id with a slash is
// percent-encoded.
func (h *handler) catalogModel(c *call) error {
	list, err := h.Orchestrator.Catalog(c.r.Context())
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.ID == c.r.PathValue("id") {
			return c.json(http.StatusOK, modelView(m))
		}
	}
	return taskapi.ModelNotFound
}

// putModel is POST /v2/catalog/models.
func (h *handler) putModel(c *call) error {
	req, err := decoded(c, c.body, taskapi.DecodeModel)
	if err != nil {
		return err
	}
	m, err := h.Orchestrator.PutModel(c.r.Context(), c.p, orchestrator.Model{
		ID: req.ID, Digest: req.Digest, Source: req.SourceURL, State: req.State, Aliases: req.Aliases, Tags: req.Tags, Successor: req.Successor,
	})
	return c.made("/v2/catalog/models/", m.ID, modelView(m), err)
}

// modelState is POST /v2/catalog/models/{id}/state.
func (h *handler) modelState(c *call) error {
	req, err := decoded(c, c.body, taskapi.DecodeModelState)
	if err != nil {
		return err
	}
	m, err := h.Orchestrator.SetModelState(c.r.Context(), c.p, c.r.PathValue("id"), req.State, time.Duration(req.DeadlineMS)*time.Millisecond)
	return c.show(http.StatusAccepted, modelView(m), err)
}

// verifyModel is POST /v2/catalog/models/{id}/verify.
func (h *handler) verifyModel(c *call) error {
	op, err := h.Orchestrator.VerifyModel(c.r.Context(), c.p, c.r.PathValue("id"))
	return c.begun(op, err)
}

// deleteModel is DELETE /v2/catalog/models/{id}.
func (h *handler) deleteModel(c *call) error {
	return c.done(h.Orchestrator.DeleteModel(c.r.Context(), c.p, c.r.PathValue("id")))
}

func modelView(m orchestrator.Model) taskapi.CatalogModel {
	v := taskapi.CatalogModel{
		ID: m.ID, Digest: m.Digest, SourceURL: m.Source, State: m.State, Aliases: m.Aliases, Tags: m.Tags,
		Successor: m.Successor, DeadlineAt: m.Deadline,
		Verified: each(m.Verified, func(d orchestrator.Verdict) taskapi.Verdict { return taskapi.Verdict{NodeID: d.Node, Result: d.Result} }),
	}
	if !m.LastVerified.IsZero() {
		v.LastVerifiedMS = m.LastVerified.UnixMilli()
	}
	return v
}
