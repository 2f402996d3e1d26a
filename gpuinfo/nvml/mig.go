//go:build linux && cgo

package nvml

import (
	"fmt"
	"slices"
	"strings"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
)

// maxSlices is far more than a device can be split into.
const maxSlices = 64

// split reports whether the device is split into slices.
func (c *card) split() bool {
	mode, _ := value(c, "nvmlDeviceGetMigMode", "mig_enabled", func() (int, gonvml.Return) {
		now, _, ret := c.h.GetMigMode()
		return now, ret
	})
	return mode == gonvml.DEVICE_MIG_ENABLE
}

// slices lists the slices of a device that is split.
func (c *card) slices() {
	if c.d.MIGEnabled = c.split(); !c.d.MIGEnabled {
		return
	}
	for _, h := range c.sliceHandles() {
		uuid, ok := value(c, "nvmlDeviceGetUUID", "mig", h.GetUUID)
		if !ok {
			continue
		}
		m := gpuinfo.MIGDevice{UUID: clean(uuid, maxText), Profile: c.profile(h), GI: -1, CI: -1}
		m.Memory = c.memory(h, gpuinfo.Slice, func(_ string, ret gonvml.Return) bool { return c.ok("mig", ret) })
		m.Memory.Kind = gpuinfo.Slice
		if v, ok := value(c, "nvmlDeviceGetGpuInstanceId", "mig", h.GetGpuInstanceId); ok {
			m.GI = v
		}
		if v, ok := value(c, "nvmlDeviceGetComputeInstanceId", "mig", h.GetComputeInstanceId); ok {
			m.CI = v
		}
		c.d.MIG = append(c.d.MIG, m)
	}
}

// sliceHandles skips the places that no slice has.
func (c *card) sliceHandles() (hs []gonvml.Device) {
	n, _ := value(c, "nvmlDeviceGetMaxMigDeviceCount", "mig", c.h.GetMaxMigDeviceCount)
	for i := range min(n, maxSlices) {
		ret := gonvml.Return(gonvml.ERROR_FUNCTION_NOT_FOUND)
		var h gonvml.Device
		if c.has("nvmlDeviceGetMigDeviceHandleByIndex") {
			h, ret = c.h.GetMigDeviceHandleByIndex(i)
		}
		if ret != gonvml.ERROR_NOT_FOUND && ret != gonvml.ERROR_INVALID_ARGUMENT && c.ok("mig", ret) {
			hs = append(hs, h)
		}
	}
	return hs
}

// profile is the end of the slice's name, "… MIG 1g.10gb", or for drivers that do
// not say so, what its size and share amount to.
func (c *card) profile(h gonvml.Device) string {
	if name, ok := value(c, "nvmlDeviceGetName", "mig", h.GetName); ok {
		if _, profile, ok := strings.Cut(name, " MIG "); ok {
			return clean(profile, maxText)
		}
	}
	a, ok := value(c, "nvmlDeviceGetAttributes_v2", "mig", h.GetAttributes)
	if !ok {
		return ""
	}
	profile := fmt.Sprintf("%dg.%dgb", a.GpuInstanceSliceCount, (a.MemorySizeMB+1023)/1024)
	if a.ComputeInstanceSliceCount != a.GpuInstanceSliceCount {
		profile = fmt.Sprintf("%dc.%s", a.ComputeInstanceSliceCount, profile)
	}
	return profile
}

// processes asks every device, or its slices where it is split.
func (p *Provider) processes() ([]gpuinfo.Process, error) {
	const symbol = "nvmlDeviceGetComputeRunningProcesses"
	if !p.start() || !p.has(symbol) && !p.has(symbol+"_v2") && !p.has(symbol+"_v3") {
		return nil, gpuinfo.ErrUnsupported
	}
	count, ret := p.lib.DeviceGetCount()
	if ret != gonvml.SUCCESS {
		return nil, fmt.Errorf("nvml code %d", ret)
	}
	var out []gpuinfo.Process
	answered := false
	for i := range min(count, maxDevices) {
		h, ret := p.lib.DeviceGetHandleByIndex(i)
		if ret != gonvml.SUCCESS {
			continue
		}
		c := &card{Provider: p, h: h}
		handles := []gonvml.Device{h}
		if c.split() {
			handles = c.sliceHandles()
		}
		for _, h := range handles {
			uuid, ok := value(c, "nvmlDeviceGetUUID", "uuid", h.GetUUID)
			infos, ret := h.GetComputeRunningProcesses()
			if !ok || ret != gonvml.SUCCESS {
				continue
			}
			answered = true
			for _, info := range infos {
				out = p.add(out, clean(uuid, maxText), info)
			}
		}
	}
	if !answered {
		return nil, gpuinfo.ErrUnsupported
	}
	return out, nil
}

// add sums what one process has on one device.
func (p *Provider) add(out []gpuinfo.Process, uuid string, info gonvml.ProcessInfo) []gpuinfo.Process {
	used := &info.UsedGpuMemory
	if *used > maxMemory {
		used = nil // the driver's word for unknown
	}
	if i := slices.IndexFunc(out, func(q gpuinfo.Process) bool { return q.PID == int(info.Pid) && q.UUID == uuid }); i >= 0 {
		if out[i].Used != nil && used != nil {
			*used += *out[i].Used
		} else {
			used = nil
		}
		out[i].Used = used
		return out
	}
	q := gpuinfo.Process{PID: int(info.Pid), UUID: uuid, Used: used}
	if p.has("nvmlSystemGetProcessName") {
		if name, ret := p.lib.SystemGetProcessName(q.PID); ret == gonvml.SUCCESS {
			q.Name = clean(name, maxName)
		}
	}
	return append(out, q)
}
