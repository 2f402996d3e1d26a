package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

func ExampleDialer() {
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Seed: 1, Tokens: 5, Preset: "zero"})
	defer engine.Close()
	d, err := worker.NewDialer(worker.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // ends the job at the engine, too
	s, err := d.Start(ctx, worker.Target{URL: engine.URL}, &worker.Job{ID: "t-1", Kind: worker.Completion, Prompt: "count", MaxTokens: 5})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for {
		e, err := s.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		switch e.Kind {
		case worker.Token:
			fmt.Printf("%q ", e.Text)
		case worker.Done:
			fmt.Println(e.FinishReason, e.Usage.Out)
		}
	}
	// Output: "which" " be" " that" " 語" " of" stop 5
}

func ExampleDialer_failure() {
	engine := workertest.Start(workertest.Config{Faults: []workertest.Fault{{Kind: "retry-after", Arg: "3", Token: -1}}})
	defer engine.Close()
	d, err := worker.NewDialer(worker.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = d.Start(context.Background(), worker.Target{URL: engine.URL}, &worker.Job{Kind: worker.Completion, Prompt: "p"})
	if f, ok := errors.AsType[*worker.Failure](err); ok {
		fmt.Println(f.Class, f.Status, f.RetryAfter)
	}
	// Output: overload 429 3s
}

func ExampleOwn() {
	body, err := worker.Own([]byte(`{"model": "alias", "stream": true, "temperature": 0.70}`), "served-name")
	fmt.Println(string(body), err)
	// Output: {"model": "served-name", "stream": true, "temperature": 0.70,"stream_options":{"include_usage":true}} <nil>
}

func ExampleInspect() {
	b, err := worker.Inspect([]byte(`{"model":"m","prompt":"hello","stream":true,"max_tokens":9}`))
	fmt.Println(b.Model, b.Stream, b.MaxTokens, b.PromptBytes, err)
	_, err = worker.Inspect([]byte(`{"model":"m","model":"n"}`))
	fmt.Println(err)
	// Output:
	// m true 9 5 <nil>
	// worker: model: is named twice
}
