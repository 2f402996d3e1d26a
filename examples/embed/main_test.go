package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Example asks the embedded server as any OpenAI client would (MOD-2).
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()

	res, err := ask("http://" + l.Addr().String() + "/v1/chat/completions")
	for patience := time.Now().Add(10 * time.Second); err == nil && res.StatusCode != http.StatusOK && time.Now().Before(patience); {
		// The engine has to be seen once.
		res.Body.Close()
		res, err = ask("http://" + l.Addr().String() + "/v1/chat/completions")
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	var answer struct {
		Choices []struct {
			FinishReason string `json:"finish_reason"`
		} `json:"choices"`
		Usage struct {
			CompletionTokens int `json:"completion_tokens"`
		} `json:"usage"`
	}
	err = json.NewDecoder(res.Body).Decode(&answer)
	res.Body.Close()
	fmt.Println(res.StatusCode, answer.Usage.CompletionTokens, answer.Choices, err)
	stop()
	fmt.Println(<-done)
	// Output:
	// 200 5 [{length}] <nil>
	// <nil>
}

func ask(url string) (*http.Response, error) {
	const body = `{"model":"sim-8b","max_tokens":5,"messages":[{"role":"user","content":"Why is the sky blue?"}]}`
	return http.Post(url, "application/json", strings.NewReader(body))
}
