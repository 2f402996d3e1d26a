package orchestrator_test

import (
	"context"
	"fmt"
	"log"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// A person takes everything along, then is forgotten; what is stored afterwards
// leads to nobody.
func ExampleOrchestrator_Erase() {
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Preset: "zero"})
	defer engine.Close()
	orc, stop := running(orchestrator.StaticPool("local", engine.URL))
	defer stop()
	ctx := context.Background()
	eve := orchestrator.Principal{User: "eve", Roles: orchestrator.RoleUser}
	task := until(orc, eve, orchestrator.Spec{Model: "sim-8b", Prompt: "Why is the sky blue?", MaxTokens: 3})
	for range orc.Events(ctx, eve, task.ID, 0) { // to its end
		continue
	}

	for item, err := range orc.Export(ctx, eve, "") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("export:", item.Section)
	}
	receipt, err := orc.Erase(ctx, eve, "", "request")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("erased tasks:", receipt.Tasks, "outputs:", receipt.Outputs, "cancelled:", receipt.Cancelled)
	_, err = orc.Task(ctx, eve, task.ID)
	fmt.Println(err)
	// Output:
	// export: tasks
	// export: outputs
	// export: usage
	// export: manifest
	// erased tasks: 1 outputs: 1 cancelled: 0
	// NOT_FOUND
}

// Tasks that need a consent are refused until the person gives it.
func ExampleOrchestrator_SetConsent() {
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Preset: "zero"})
	defer engine.Close()
	orc, stop := running(orchestrator.StaticPool("local", engine.URL))
	defer stop()
	ctx := context.Background()
	eve := orchestrator.Principal{User: "eve", Roles: orchestrator.RoleUser}
	until(orc, eve, orchestrator.Spec{Model: "sim-8b", Prompt: "Hello", MaxTokens: 3})

	spec := orchestrator.Spec{Model: "sim-8b", Prompt: "Hello", MaxTokens: 3, Purposes: []string{"research"}}
	_, err := orc.Submit(ctx, eve, spec)
	fmt.Println(err)
	if err := orc.SetConsent(ctx, eve, orchestrator.Consent{Purpose: "research", Granted: true}); err != nil {
		log.Fatal(err)
	}
	acc, err := orc.Submit(ctx, eve, spec)
	fmt.Println(acc.Status != "", err)
	// Output:
	// CONSENT_REQUIRED
	// true <nil>
}
