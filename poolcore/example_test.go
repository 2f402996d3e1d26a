package poolcore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

func Example() {
	// The test binary stands in for the engine here. For llama.cpp it is
	// Binaries: {"llamacpp": "/usr/local/bin/llama-server"}, Engine: "llamacpp" and
	// the model's file in ModelPath.
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "llorch-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	host, err := poolcore.New(poolcore.Config{
		NodeID: "gpu-7", StateDir: filepath.Join(dir, "run"), Binaries: map[string]string{"simulator": self},
		Engines: []engine.Kind{engine.Simulator{Args: []string{stubWord}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }() // supervises; stops every engine when ctx ends

	op, err := host.Preload(ctx, poolcore.PoolConfig{ID: "pool-0", Engine: "simulator", Model: "demo", Slots: 4})
	if err == nil {
		err = op.Wait(ctx) // ready, or a typed error and nothing left behind
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range slices.Collect(host.Pool("pool-0").Workers()) {
		// Requests go to w.URL with w.Token.
		fmt.Println(w.Status, w.ModelRef, w.SlotsFree)
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// ready demo 4
	// <nil>
}

func ExamplePool_Drain() {
	host, stop := exampleHost()
	defer stop()
	ctx := context.Background()
	op, err := host.Preload(ctx, poolcore.PoolConfig{ID: "pool-0", Engine: "simulator", Model: "demo", Slots: 2})
	if err == nil {
		err = op.Wait(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	pool := host.Pool("pool-0")
	worker, release, err := pool.Acquire(ctx) // only for programs without an orchestrator
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(worker.ModelRef, pool.Status().SlotsFree)
	release() // after the request to worker.URL with worker.Token

	outcome, err := pool.Drain(ctx, 10*time.Second) // no new work; what runs may end
	fmt.Println(pool.Phase(), outcome.Forced, err)
	fmt.Println(pool.Undrain(), pool.Phase())
	// Output:
	// demo 1
	// drained false <nil>
	// <nil> ready
}

// exampleHost runs a host whose engine is the test binary.
func exampleHost() (*poolcore.Host, func()) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "llorch-")
	if err != nil {
		panic(err)
	}
	host, err := poolcore.New(poolcore.Config{
		NodeID: "gpu-7", StateDir: filepath.Join(dir, "run"), Binaries: map[string]string{"simulator": self},
		Engines: []engine.Kind{engine.Simulator{Args: []string{stubWord}}},
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	return host, func() {
		cancel()
		<-ended
		_ = os.RemoveAll(dir)
	}
}
