package metrics

import "github.com/llorch/llorch/gpuinfo"

// Reserved is what is promised of a device.
func Reserved(d gpuinfo.Device, promised map[string]uint64) uint64 { return reserved(d, promised) }
