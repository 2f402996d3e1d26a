package nodeagent_test

import (
	"context"
	"fmt"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// A node in the same process as the registry: no HTTP, no file.
func ExampleAgent() {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	agent, err := nodeagent.New(nodeagent.Config{
		Registrar: reg,
		Describe: func(context.Context) (poolregistry.Registration, error) {
			return poolregistry.Registration{NodeID: "home", Pools: []poolregistry.Pool{{ID: "chat"}}}, nil
		},
		Snapshot: func(context.Context) (poolregistry.Beat, error) {
			return poolregistry.Beat{Pools: []poolregistry.Pool{{ID: "chat", State: "ready", Ready: true, SlotsFree: 1, SlotsTotal: 1}}}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	for v := range reg.Watch(ctx) {
		if v.Online == 1 {
			fmt.Println(v.Nodes[0].ID, v.Nodes[0].Pools[0].Available())
			break
		}
	}
	cancel()
	fmt.Println(<-done, len(reg.View().Nodes))
	// Output:
	// home true
	// context canceled 0
}
