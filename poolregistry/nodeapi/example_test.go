package nodeapi_test

import (
	"encoding/json"
	"fmt"

	"github.com/llorch/llorch/poolregistry/nodeapi"
)

func ExampleOpenAPI() {
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(nodeapi.OpenAPI(), &doc); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(doc.OpenAPI, doc.Paths["/pools/{id}/drain"]["post"] != nil)
	// Output: 3.1.0 true
}

func ExampleNewRoute() {
	r := nodeapi.NewRoute(nodeapi.RoutePoolWorkers, nodeapi.RoleOperator)
	fmt.Println(r.Method, r.Path, r.Role, r.Strict, r.Open)
	// Output: GET /pools/{id}/workers operator true false
}
