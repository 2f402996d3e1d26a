package taskapi_test

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

func ExampleDecodeSubmit() {
	s, err := taskapi.DecodeSubmit([]byte(`{"model": "llama3:8b", "prompt": "Say hello.", "max_tokens": 64}`))
	fmt.Println(s.ModelName(), s.Priority, s.MaxTokens, *s.Temperature, err)

	_, err = taskapi.DecodeSubmit([]byte(`{"model": "llama3:8b", "prompt": "Say hello.", "max_tokens": 0}`))
	e, _ := errors.AsType[*taskapi.Error](err)
	fmt.Println(e.Code, e.HTTPStatus(), e.Details["field"], e.Details["reason"])
	// Output:
	// llama3:8b interactive 64 0.7 <nil>
	// INVALID_PARAMS 400 max_tokens range
}

func ExampleError_Is() {
	err := fmt.Errorf("submit task: %w", taskapi.NewError(taskapi.QueueFull))
	fmt.Println(errors.Is(err, taskapi.QueueFull))
	// Output: true
}

func ExampleError_Body() {
	body, _ := json.Marshal(taskapi.InvalidField("prompt", "required").Body("req-1"))
	fmt.Println(string(body))
	// Output: {"error":{"code":"INVALID_PARAMS","message":"The request is not valid; details name the field.","retriable":false,"correlation_id":"req-1","details":{"field":"prompt","reason":"required"}}}
}

func ExampleNewModelList() {
	body, _ := json.Marshal(taskapi.NewModelList([]string{"llama3:8b"}))
	fmt.Println(string(body))
	// Output: {"object":"list","data":[{"id":"llama3:8b","object":"model","created":0,"owned_by":"llorch"}]}
}
