//go:build gpu && linux && cgo

package nvml_test

import (
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/gpuinfotest"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

// TestRealHardware compares the library with nvidia-smi on a machine with an NVIDIA
// GPU: go test -tags gpu.
func TestRealHardware(t *testing.T) {
	p, err := nvml.New(nvml.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	got, want := snapshot(t, p), snapshot(t, gpuinfo.Auto(gpuinfo.AutoConfig{}))
	if err := gpuinfotest.CheckSnapshot(got); err != nil {
		t.Error(err)
	}
	var cards []gpuinfo.Device
	for _, d := range want.Devices {
		if d.Vendor == "nvidia" {
			cards = append(cards, d)
		}
	}
	if got.Reason != gpuinfo.OK || len(got.Devices) != len(cards) {
		t.Fatalf("%s with %d devices, nvidia-smi lists %d", got.Reason, len(got.Devices), len(cards))
	}
	for i, d := range got.Devices {
		o := cards[i]
		if d.UUID != o.UUID || d.BusID != o.BusID || d.Index != o.Index || d.Name != o.Name || d.Compute != o.Compute || d.MIGEnabled != o.MIGEnabled {
			t.Errorf("nvml %+v\nnvidia-smi %+v", d, o)
		}
		if d.Memory.Kind != o.Memory.Kind || (d.Memory.Total == nil) != (o.Memory.Total == nil) {
			t.Errorf("nvml %v, nvidia-smi %v", d.Memory, o.Memory)
		} else if d.Memory.Total != nil && max(*d.Memory.Total, *o.Memory.Total)-min(*d.Memory.Total, *o.Memory.Total) > 1<<20 {
			t.Errorf("totals differ by more than 1 MiB: %v, %v", d.Memory, o.Memory)
		}
		t.Logf("%d %s %s %v %s %v", d.Index, d.Name, d.Driver, d.Memory, d.Health.State, d.Notes)
	}
	if _, err := p.Processes(t.Context()); err != nil {
		t.Errorf("Processes: %v", err)
	}
}

// BenchmarkWarmSnapshot is the goal of 15 ms for 8 GPUs.
func BenchmarkWarmSnapshot(b *testing.B) {
	p, err := nvml.New(nvml.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for b.Loop() {
		if s := snapshot(b, p); s.Reason != gpuinfo.OK {
			b.Fatal(s.Reason)
		}
	}
}
