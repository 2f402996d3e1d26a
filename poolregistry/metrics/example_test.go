package metrics_test

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/metrics"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

func ExampleNew() {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	shown := prometheus.NewRegistry() // the program's, behind its /metrics
	if _, err := metrics.New(shown, reg); err != nil {
		fmt.Println(err)
		return
	}
	families, err := shown.Gather()
	for _, f := range families {
		fmt.Println(f.GetName())
	}
	fmt.Println(err)
	// Output:
	// orchd_node_detection_delay_seconds
	// orchd_nodes
	// orchd_nodes_online
	// orchd_registry_guard_held
	// orchd_registry_stall_seconds_total
	// <nil>
}

func ExampleNewAgent() {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	beaten := make(chan struct{}, 1)
	agent, err := nodeagent.New(nodeagent.Config{
		Registrar: reg,
		Describe: func(context.Context) (poolregistry.Registration, error) {
			return poolregistry.Registration{NodeID: "home"}, nil
		},
		OnReply: func(poolregistry.BeatReply) { beaten <- struct{}{} },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	shown := prometheus.NewRegistry()
	if _, err := metrics.NewAgent(shown, agent); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	<-beaten
	cancel()
	fmt.Println(<-done)
	families, err := shown.Gather()
	fmt.Println(families[0].GetName(), err)
	// Output:
	// context canceled
	// pool_heartbeat_sent_total <nil>
}
