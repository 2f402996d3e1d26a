package taskhttp

import (
	"net/http"
	"slices"
	"strings"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// putArtifact is POST /v2/artifacts?kind=; the body is the artifact, of whatever
// media type.
func (h *handler) putArtifact(c *call) error {
	kind := c.r.URL.Query().Get("kind")
	if !slices.Contains(taskapi.ArtifactKinds(), kind) {
		return taskapi.InvalidField("kind", "unknown_value")
	}
	if c.r.ContentLength > taskapi.MaxArtifact {
		return tooLarge(taskapi.MaxArtifact)
	}
	data, err := c.read()
	if err != nil {
		return err
	}
	if len(data) > taskapi.MaxArtifact {
		return tooLarge(taskapi.MaxArtifact)
	}
	a, err := h.Orchestrator.PutArtifact(c.r.Context(), c.p, kind, data)
	if err != nil {
		return err
	}
	return c.made(artifactsURL, a.ID, taskapi.Artifact{ID: a.ID, Kind: a.Kind, Bytes: len(data), CreatedAt: a.Created, URL: artifactsURL + a.ID}, nil)
}

const artifactsURL = "/v2/artifacts/"

// artifact is GET /v2/artifacts/{id}: the bytes as they came. No browser shall
// take them for anything else.
func (h *handler) artifact(c *call) error {
	id := c.r.PathValue("id")
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return taskapi.NotFound
	}
	a, err := h.Orchestrator.Artifact(c.r.Context(), c.p, id)
	if err != nil {
		return err
	}
	c.w.Header().Set("X-Artifact-Kind", a.Kind)
	c.w.Header().Set("Content-Disposition", "attachment")
	c.header(http.StatusOK, "application/octet-stream", len(a.Data))
	if err := send(c.w, http.NewResponseController(c.w), a.Data); err != nil {
		c.lost(err)
	}
	return nil
}
