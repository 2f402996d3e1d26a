package orchestrator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// An orchestrator inside a program: one engine that already runs, everything in memory.
func Example() {
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Preset: "zero"})
	defer engine.Close()
	orc, err := orchestrator.New(orchestrator.Config{Pools: orchestrator.StaticPool("local", engine.URL)})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- orc.Run(ctx) }()

	me := orchestrator.Principal{User: "me", Roles: orchestrator.RoleUser}
	acc, err := orc.Submit(ctx, me, orchestrator.Spec{Model: "sim-8b", Prompt: "Why is the sky blue?", MaxTokens: 5})
	for err != nil { // until Run has found the engine
		acc, err = orc.Submit(ctx, me, orchestrator.Spec{Model: "sim-8b", Prompt: "Why is the sky blue?", MaxTokens: 5})
	}
	for e, err := range orc.Events(ctx, me, acc.ID, 0) {
		if err != nil {
			log.Fatal(err)
		}
		if e.Type == orchestrator.EventEnd {
			var end taskapi.End
			if err := json.Unmarshal(e.Data, &end); err != nil {
				log.Fatal(err)
			}
			fmt.Println(end.TokensOut, end.FinishReason)
		}
	}
	why, _ := orc.Explain(ctx, me, acc.ID)
	fmt.Println(why.Winner+":", why.Words)
	cancel()
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	// Output:
	// 5 length
	// static/local/r0: It was the only worker that could take the task.
}
