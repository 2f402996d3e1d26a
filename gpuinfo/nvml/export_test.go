//go:build linux && cgo

package nvml

import gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

// NewWith lets tests put a machine of go-nvml's mocks in place of the library.
func NewWith(cfg Config, lib gonvml.Interface) (*Provider, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return newProvider(cfg, lib), nil
}
