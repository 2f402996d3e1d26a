//go:build nvml

package assemble

import (
	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

// newNVML asks the driver's library; this program was built with -tags nvml.
func newNVML() (gpuinfo.Provider, error) { return nvml.New(nvml.Config{}) }

// autoGPUs asks the library first and what needs no library where it is missing.
func autoGPUs() gpuinfo.Provider {
	auto := gpuinfo.Auto(gpuinfo.AutoConfig{})
	if p, err := newNVML(); err == nil {
		return gpuinfo.First(p, auto)
	}
	return auto
}
