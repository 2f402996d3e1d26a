package nodehttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

func ExampleNew() {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := nodehttp.New(nodehttp.Config{
		Registry: reg,
		Authorize: func(*http.Request) (nodeapi.Principal, error) { // your own check of the bearer token
			return nodeapi.Principal{ID: "nodes", Role: nodeapi.RoleNode}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/nodes", h)
	mux.Handle("/v2/nodes/", h)

	r := httptest.NewRequest(http.MethodPost, "/v2/nodes/register", strings.NewReader(
		`{"node_id":"gpu-1","instance_id":"6f1b4c1e-52a1-4f0e-9f8e-0d4d5c5f7a10","address":"http://10.0.0.7:9200","pools":["chat"]}`,
	))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	n, ok := reg.View().Node("gpu-1")
	fmt.Println(w.Code, ok, n.Liveness)
	// Output: 200 true registering
}
