package taskhttp_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskhttp"
)

func ExampleNew() {
	// engine stands for an *orchestrator.Orchestrator; here it plays one answer.
	engine := &fake{script: []step{started, frame("Hello"), end}}
	srv := httptest.NewServer(taskhttp.New(taskhttp.Config{Orchestrator: engine})) // no Authorize: this machine only
	defer srv.Close()

	res, err := http.Post(srv.URL+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"llama3:8b","stream":true,"messages":[{"role":"user","content":"Say hello."}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Printf("%s %s\n%s", res.Status, res.Header.Get("Content-Type"), body)
	// Output:
	// 200 OK text/event-stream
	// data: {"choices":[{"delta":{"content":"Hello"}}]}
	//
	// data: [DONE]
}

func ExampleRoutes() {
	for _, rt := range taskhttp.Routes() {
		if rt.Role == orchestrator.RoleOperator && rt.Method == http.MethodGet {
			fmt.Println(rt.Method, rt.Path, rt.Group == taskhttp.Admin)
		}
	}
	// Output:
	// GET /v2/pools true
	// GET /v2/pools/{id}/health true
	// GET /v2/operations/{id} true
	// GET /v2/queue true
	// GET /v2/tenants true
	// GET /v2/decisions true
}
