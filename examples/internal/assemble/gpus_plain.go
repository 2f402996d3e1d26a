//go:build !nvml

package assemble

import "github.com/llorch/llorch/gpuinfo"

// withNVML asks the driver's library; here it was left out of the build.
func withNVML(gpuinfo.Provider) (gpuinfo.Provider, bool) { return nil, false }
