package workertest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

func ExampleStart() {
	e := workertest.Start(workertest.Config{Model: "sim-8b", Seed: 1, Preset: "zero"})
	defer e.Close()
	resp, err := http.Post(e.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"hello","max_tokens":3,"stream":true}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, strings.Count(string(body), "data: "), "frames,", e.Stats().Tokens, "tokens")
	// Output: 200 OK 5 frames, 3 tokens
}

func ExampleParseFault() {
	f, err := workertest.ParseFault("stall@token=20,request=1")
	fmt.Println(f.Kind, f.Token, f.Request, err)
	// Output: stall 20 1 <nil>
}
