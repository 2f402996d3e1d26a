package gpuinfo_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing/fstest"
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
	// Root is for tests: leave it out, and the files of this machine are read.
	p := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: "/nonexistent/nvidia-smi", Root: fstest.MapFS{
		"sys/bus/pci/devices/0000:01:00.0/class":  {Data: []byte("0x030000")},
		"sys/bus/pci/devices/0000:01:00.0/vendor": {Data: []byte("0x10de")},
		"sys/bus/pci/devices/0000:01:00.0/device": {Data: []byte("0x2204")},
	}})
	snap, err := p.Snapshot(context.Background())
	fmt.Println(snap.Reason, "-", snap.Detail, err)
	// Output: driver_missing - an NVIDIA device is on the bus and no driver answers <nil>
}

func ExampleFirst() {
	library := gpuinfo.Static(gpuinfo.Snapshot{Reason: gpuinfo.NoTool, Detail: "no library"})
	tool := gpuinfo.Static(gpuinfo.Snapshot{Reason: gpuinfo.DriverMismatch, Detail: "driver and library versions differ"})
	snap, err := gpuinfo.First(library, tool).Snapshot(context.Background())
	fmt.Println(snap.Reason, "-", snap.Detail, err)
	// Output: driver_mismatch - driver and library versions differ <nil>
}

func ExampleSnapshot_Units() {
	f, err := os.Open("testdata/smi/h100_mig.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	snap, err := gpuinfo.LoadSnapshot(f)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, u := range snap.Units() {
		fmt.Println(u.Index, u.UUID[:4], u.Memory())
	}
	// Output:
	// 0 MIG- slice, ? of 40960 MiB free
	// 0 MIG- slice, ? of 10240 MiB free
	// 0 MIG- slice, ? of 40960 MiB free
	// 1 GPU- dedicated, 81008 of 81559 MiB free
}

func ExampleStatic() {
	p := gpuinfo.Static(gpuinfo.Snapshot{Reason: gpuinfo.NoDevice, Detail: "this host has no GPU"})
	snap, err := p.Snapshot(context.Background())
	fmt.Println(snap.Reason, snap.Detail, err)
	// Output: no_device this host has no GPU <nil>
}
