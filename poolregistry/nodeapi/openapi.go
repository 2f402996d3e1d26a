package nodeapi

import _ "embed"

//go:embed openapi.yaml
var openapi string

// OpenAPI returns the description of all node and pool routes: OpenAPI 3.1 in
// YAML, of which it uses only what is JSON too. Tests of the handlers compare it
// with what they serve. x-role is the least role that a route asks for.
func OpenAPI() []byte { return []byte(openapi) }
