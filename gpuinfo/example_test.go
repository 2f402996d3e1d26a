package gpuinfo_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

func Example() {
	// On a real machine the provider is gpuinfo.Auto(gpuinfo.AutoConfig{}).
	inventory, err := gpuinfo.LoadSnapshot(strings.NewReader(`{"reason":"ok","devices":[{"index":0,
		"name":"NVIDIA GeForce RTX 3090","vendor":"nvidia","memory_kind":"dedicated","health":"ok",
		"vram_total_bytes":25769803776,"vram_free_bytes":24978128896}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	p := gpuinfo.NewCache(gpuinfo.Static(inventory), 100*time.Millisecond)

	snap, err := p.Snapshot(context.Background())
	if err != nil { // only: the context ended
		fmt.Println(err)
		return
	}
	if snap.Reason != gpuinfo.OK {
		fmt.Println("no usable GPU:", snap.Reason, snap.Detail)
		return
	}
	for _, d := range snap.Devices {
		fmt.Println(d.Index, d.Name, d.Memory, d.Health.State)
	}
	// Output: 0 NVIDIA GeForce RTX 3090 dedicated, 23821 of 24576 MiB free ok
}

func ExampleAuto() {
	p := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: "/nonexistent/nvidia-smi"})
	snap, err := p.Snapshot(context.Background())
	fmt.Println(snap.Reason, snap.Detail, err)
	// Output: no_tool nvidia-smi was not found <nil>
}

func ExampleStatic() {
	p := gpuinfo.Static(gpuinfo.Snapshot{Reason: gpuinfo.NoDevice, Detail: "this host has no GPU"})
	snap, err := p.Snapshot(context.Background())
	fmt.Println(snap.Reason, snap.Detail, err)
	// Output: no_device this host has no GPU <nil>
}
