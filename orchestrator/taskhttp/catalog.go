package taskhttp

import (
	"net/http"
	"net/url"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// catalog is GET /v2/catalog/models.
func (h *handler) catalog(c *call) error {
	list, err := h.Orchestrator.Catalog(c.r.Context())
	if err != nil {
		return err
	}
	out := taskapi.CatalogList{Models: []taskapi.CatalogModel{}}
	for _, m := range list {
		out.Models = append(out.Models, modelView(m))
	}
	return c.json(http.StatusOK, out)
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
	raw, err := c.body()
	if err != nil {
		return err
	}
	req, err := taskapi.DecodeModel(raw)
	if err != nil {
		return err
	}
	m, err := h.Orchestrator.PutModel(c.r.Context(), c.p, orchestrator.Model{
		ID: req.ID, Digest: req.Digest, Source: req.SourceURL, State: req.State, Aliases: req.Aliases, Tags: req.Tags, Successor: req.Successor,
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v2/catalog/models/"+url.PathEscape(m.ID))
	return c.json(http.StatusCreated, modelView(m))
}

// modelState is POST /v2/catalog/models/{id}/state.
func (h *handler) modelState(c *call) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	req, err := taskapi.DecodeModelState(raw)
	if err != nil {
		return err
	}
	m, err := h.Orchestrator.SetModelState(c.r.Context(), c.p, c.r.PathValue("id"), req.State, time.Duration(req.DeadlineMS)*time.Millisecond)
	if err != nil {
		return err
	}
	return c.json(http.StatusAccepted, modelView(m))
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
	}
	if !m.LastVerified.IsZero() {
		v.LastVerifiedMS = m.LastVerified.UnixMilli()
	}
	for _, d := range m.Verified {
		v.Verified = append(v.Verified, taskapi.Verdict{NodeID: d.Node, Result: d.Result})
	}
	return v
}
