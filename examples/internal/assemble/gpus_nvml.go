//go:build nvml

package assemble

import (
	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

// withNVML asks the driver's library, and next where that is missing; nil: nobody.
func withNVML(next gpuinfo.Provider) (gpuinfo.Provider, bool) {
	p, err := nvml.New(nvml.Config{})
	switch {
	case err != nil:
		return nil, false
	case next == nil:
		return p, true
	}
	return gpuinfo.First(p, next), true
}
