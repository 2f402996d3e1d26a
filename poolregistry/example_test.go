package poolregistry_test

import (
	"context"
	"fmt"
	"time"

	"github.com/llorch/llorch/poolregistry"
)

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reg, err := poolregistry.New(poolregistry.Config{Timing: poolregistry.Fast()}) // beat 1 s, offline 3 s
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = reg.Run(ctx) }() // detection; blocks until ctx ends

	grant, err := reg.Register(ctx, poolregistry.Registration{
		NodeID: "gpu-1", InstanceID: "6f1b4c1e-52a1-4f0e-9f8e-0d4d5c5f7a10",
		Address: "https://10.0.0.7:9200", Pools: []poolregistry.Pool{{ID: "chat"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	show := func() {
		for _, n := range reg.View().Nodes {
			ok, why := n.Placeable()
			fmt.Printf("%s %s %t %q\n", n.ID, n.Liveness, ok, why)
		}
	}
	show()
	_, err = reg.Beat(ctx, poolregistry.Beat{
		NodeID: "gpu-1", LeaseToken: grant.LeaseToken, Seq: 1,
		Pools: []poolregistry.Pool{{ID: "chat", State: "ready", Ready: true, SlotsFree: 4, SlotsTotal: 4}},
	})
	show()
	fmt.Println(err)
	// Output:
	// gpu-1 registering false "no_beat_yet"
	// gpu-1 online true ""
	// <nil>
}

func ExampleRegistry_Watch() {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for v := range reg.Watch(ctx) {
		fmt.Println(len(v.Nodes), "nodes")
		if len(v.Nodes) > 0 {
			break // ends the watch
		}
		_, err = reg.Register(ctx, poolregistry.Registration{
			NodeID: "gpu-1", InstanceID: "6f1b4c1e-52a1-4f0e-9f8e-0d4d5c5f7a10", InProcess: true,
		})
	}
	fmt.Println(err)
	// Output:
	// 0 nodes
	// 1 nodes
	// <nil>
}

func ExampleEvaluate() {
	node := poolregistry.NodeTimes{Liveness: poolregistry.Online, LastBeat: 100 * time.Second, Granted: 10 * time.Second}
	observer := poolregistry.ObserverTimes{Detecting: true, LastTick: 115 * time.Second}
	fmt.Println(poolregistry.Evaluate(node, observer, poolregistry.Default(), 115*time.Second))
	observer.LastTick = 101 * time.Second // this process was paused
	fmt.Println(poolregistry.Evaluate(node, observer, poolregistry.Default(), 115*time.Second))
	// Output:
	// suspect silent
	// online observer_stall
}

func ExampleParseRegion() {
	for _, s := range []string{"de", "EU", "US-DE", ""} {
		r, err := poolregistry.ParseRegion(s)
		fmt.Println(r, err)
	}
	// Output:
	// EU-DE <nil>
	// EU <nil>
	// UNKNOWN INVALID_NODE: region: mismatch
	// UNKNOWN <nil>
}

func ExampleRegistry_Drain() {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	grant, err := reg.Register(ctx, poolregistry.Registration{
		NodeID: "gpu-1", InstanceID: "6f1b4c1e-52a1-4f0e-9f8e-0d4d5c5f7a10", InProcess: true,
		Pools: []poolregistry.Pool{{ID: "chat"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := reg.Drain("gpu-1", time.Minute); err != nil { // no new work; what runs has a minute
		fmt.Println(err)
		return
	}
	for seq := range uint64(2) { // the node learns of it by its next beat, and answers by the one after
		reply, err := reg.Beat(ctx, poolregistry.Beat{
			NodeID: "gpu-1", LeaseToken: grant.LeaseToken, Seq: seq + 1,
			Pools: []poolregistry.Pool{{ID: "chat", State: "ready", Ready: true, Idle: true}},
		})
		fmt.Println(reply.Status, reply.Schedule, err)
	}
	n, _ := reg.View().Node("gpu-1")
	_, why := n.Placeable()
	fmt.Println(why, n.Drain.Forced, reg.Cordon("gpu-1"), reg.Uncordon("gpu-1"))
	// Output:
	// online draining <nil>
	// online drained <nil>
	// draining false ILLEGAL_TRANSITION <nil>
}

func ExampleView_Availability() {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for _, id := range []poolregistry.NodeID{"gpu-1", "gpu-2"} {
		pool := poolregistry.Pool{ID: "chat", State: "ready", Ready: true, SlotsFree: 4, SlotsTotal: 4, ModelsLoaded: []string{"llama"}}
		if id == "gpu-2" {
			pool.ModelsAvailable = []poolregistry.Model{{Ref: "qwen"}}
		}
		grant, err := reg.Register(ctx, poolregistry.Registration{
			NodeID: id, InstanceID: "6f1b4c1e-52a1-4f0e-9f8e-0d4d5c5f7a10", InProcess: true, Pools: []poolregistry.Pool{pool},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		if _, err = reg.Beat(ctx, poolregistry.Beat{NodeID: id, LeaseToken: grant.LeaseToken, Seq: 1, Pools: []poolregistry.Pool{pool}}); err != nil {
			fmt.Println(err)
			return
		}
	}
	a := reg.View().Availability()
	for _, m := range a.Models {
		fmt.Println(m.ID, m.Nodes, m.TotalCapacity, "slots")
	}
	fmt.Println(a.ReplicatedModels, a.SingleNodeModels)
	// Output:
	// llama [gpu-1 gpu-2] 8 slots
	// qwen [gpu-2] 4 slots
	// [llama] [qwen]
}
