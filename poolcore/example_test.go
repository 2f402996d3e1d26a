package poolcore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

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
