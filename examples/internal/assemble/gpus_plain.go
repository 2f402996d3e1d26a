//go:build !nvml

package assemble

import (
	"errors"

	"github.com/llorch/llorch/gpuinfo"
)

func newNVML() (gpuinfo.Provider, error) {
	return nil, errors.New("this program was built without NVML: build it with -tags nvml and cgo, or use auto")
}

// autoGPUs asks nvidia-smi and the kernel's own files.
func autoGPUs() gpuinfo.Provider { return gpuinfo.Auto(gpuinfo.AutoConfig{}) }
