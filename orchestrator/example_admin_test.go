package orchestrator_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// The turns of a conversation share a session: they go to the worker that still
// holds their context, and together they stay within a budget.
func ExampleOrchestrator_OpenSession() {
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Preset: "zero"})
	defer engine.Close()
	orc, stop := running(orchestrator.StaticPool("local", engine.URL))
	defer stop()
	ctx := context.Background()
	eve := orchestrator.Principal{User: "eve", Roles: orchestrator.RoleUser}
	until(orc, eve, orchestrator.Spec{Model: "sim-8b", Prompt: "Hello", MaxTokens: 3})

	s, err := orc.OpenSession(ctx, eve, "trip", 60)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.ID, s.Turns, s.BudgetLeft, s.TTLLeft.Round(time.Minute))
	_, err = orc.Submit(ctx, eve, orchestrator.Spec{Model: "sim-8b", Prompt: "Hello", MaxTokens: 500, Session: "trip"})
	fmt.Println(err)
	_, err = orc.Session(ctx, eve, "other")
	fmt.Println(err)
	// Output:
	// trip 0 60 10m0s
	// BUDGET_EXCEEDED
	// SESSION_NOT_FOUND
}

// An operator gives a model a second name, retires it, and changes how workers are
// chosen.
func ExampleOrchestrator_PutModel() {
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Preset: "zero"})
	defer engine.Close()
	orc, stop := running(orchestrator.StaticPool("local", engine.URL))
	defer stop()
	ctx := context.Background()
	admin := orchestrator.Principal{User: "ops", Roles: orchestrator.RoleUser | orchestrator.RoleOperator}
	until(orc, admin, orchestrator.Spec{Model: "sim-8b", Prompt: "Hello", MaxTokens: 3})

	if _, err := orc.PutModel(ctx, admin, orchestrator.Model{ID: "sim-8b", Aliases: []string{"best"}, Successor: "sim-9b"}); err != nil {
		log.Fatal(err)
	}
	if err := orc.SetPolicy(ctx, admin, placement.Policy{Strategy: "round-robin"}); err != nil {
		log.Fatal(err)
	}
	p, err := orc.Preview(ctx, admin, orchestrator.Spec{Model: "best", Prompt: "Hello", MaxTokens: 3})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Explanation.Model, p.Explanation.Strategy, len(p.Checks))
	if _, err := orc.SetModelState(ctx, admin, "sim-8b", "Retired", time.Minute); err != nil {
		log.Fatal(err)
	}
	_, err = orc.Submit(ctx, admin, orchestrator.Spec{Model: "best", Prompt: "Hello", MaxTokens: 3})
	fmt.Println(err)
	// Output:
	// sim-8b round-robin 15
	// MODEL_DEPRECATED
}
