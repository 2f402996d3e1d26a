package taskhttp

import (
	"cmp"
	"net/http"
	"runtime"
	"runtime/debug"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// capabilities is GET /v2/meta/capabilities.
func (h *handler) capabilities(c *call) error {
	v := h.Orchestrator.Capabilities()
	v.APIVersion, v.Engines = taskapi.APIVersion, orEmpty(v.Engines)
	return c.json(http.StatusOK, v)
}

// version is GET /v2/meta/version.
func (h *handler) version(c *call) error {
	v := taskapi.Version{APIVersion: taskapi.APIVersion, Version: h.Version, Go: runtime.Version()}
	if b, ok := debug.ReadBuildInfo(); ok {
		v.Version = cmp.Or(v.Version, b.Main.Version)
	}
	return c.json(http.StatusOK, v)
}

// openapi is GET /openapi.yaml.
func (h *handler) openapi(c *call) error {
	doc := taskapi.OpenAPI()
	c.header(http.StatusOK, "application/yaml", len(doc))
	_, _ = c.w.Write(doc)
	return nil
}

// health is GET /health: this process answers.
func (h *handler) health(c *call) error { return c.json(http.StatusOK, taskapi.Status{Status: "ok"}) }

// ready is GET /readyz: tasks are admitted.
func (h *handler) ready(c *call) error {
	if err := h.Orchestrator.Ready(); err != nil {
		return err
	}
	return c.json(http.StatusOK, taskapi.Status{Status: "ok"})
}
