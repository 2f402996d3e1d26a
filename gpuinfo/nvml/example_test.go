package nvml_test

import (
	"context"
	"fmt"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

func Example() {
	p, err := nvml.New(nvml.Config{Library: "/nonexistent/libnvidia-ml.so.1"})
	if err != nil { // only: a fault of the configuration
		fmt.Println(err)
		return
	}
	defer p.Close()
	s, err := p.Snapshot(context.Background())
	if err != nil { // only: the context ended, or the provider is closed
		fmt.Println(err)
		return
	}
	if s.Reason != gpuinfo.OK {
		fmt.Println("no usable GPU:", s.Reason)
		return
	}
	for _, d := range s.Devices {
		fmt.Println(d.Index, d.Name, d.Memory, d.Health.State)
	}
	// Output: no usable GPU: no_tool
}
