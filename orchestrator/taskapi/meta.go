package taskapi

import _ "embed"

// APIVersion is the version of the routes under /v2, and info.version of [OpenAPI].
const APIVersion = "2.0.0"

// Capabilities is the body of GET /v2/meta/capabilities: what workers report now.
type Capabilities struct {
	APIVersion string   `json:"api_version"`
	Engines    []Engine `json:"engines"` // by name
}

// Engine is what the workers of one engine can do together.
type Engine struct {
	Engine    string   `json:"engine"`
	Versions  []string `json:"versions"`
	Models    []string `json:"models"`
	Workloads []string `json:"workloads"` // empty: not reported, then none is refused
	Features  []string `json:"features"`
	CtxMax    int      `json:"ctx_max"`  // of the largest; 0 = not reported
	Slots     int      `json:"slots"`    // of all
	Batching  bool     `json:"batching"` // some worker takes several tasks at once
}

// Version is the body of GET /v2/meta/version.
type Version struct {
	APIVersion string `json:"api_version"`
	Version    string `json:"version"` // of the program
	Go         string `json:"go"`
}

// Status is the body of GET /health and, when ready, of GET /readyz.
type Status struct {
	Status string `json:"status"` // ok
}

//go:embed openapi.yaml
var openapi string

// OpenAPI returns the description of all routes: OpenAPI 3.1 in YAML, of which it
// uses only what is JSON too.
func OpenAPI() []byte { return []byte(openapi) }
