//go:build linux && cgo

package nvml

import (
	"cmp"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
)

// card is a device while it is being read.
type card struct {
	*Provider
	h gonvml.Device
	d gpuinfo.Device
}

// device reads one device. One that does not even give its handle any more is named
// by what it was before.
func (p *Provider) device(i int, before gpuinfo.Device) gpuinfo.Device {
	c := &card{Provider: p, d: before}
	c.d.Index, c.d.Vendor, c.d.Health.State, c.d.Memory.Source = i, "nvidia", gpuinfo.Healthy, p.Name()
	h, ret := p.lib.DeviceGetHandleByIndex(i)
	if !c.ok("vram_total_bytes", ret) {
		return c.d
	}
	c.h = h
	c.identity()
	c.d.Memory = c.memory(h, gpuinfo.Dedicated, c.ok)
	c.unified()
	c.counters()
	c.slices()
	c.recovery()
	return c.d
}

// ok reports whether a call went well; if not, a note and the health say so.
func (c *card) ok(field string, ret gonvml.Return) bool {
	if ret != gonvml.SUCCESS {
		c.d.Miss(field, whyOf(ret))
	}
	return ret == gonvml.SUCCESS
}

// value asks for one value, if the library has the function at all.
func value[T any](c *card, symbol, field string, call func() (T, gonvml.Return)) (v T, ok bool) {
	ret := gonvml.Return(gonvml.ERROR_FUNCTION_NOT_FOUND)
	if c.has(symbol) {
		v, ret = call()
	}
	return v, c.ok(field, ret)
}

func (c *card) identity() {
	uuid, _ := value(c, "nvmlDeviceGetUUID", "uuid", c.h.GetUUID) // empty without an answer
	name, _ := value(c, "nvmlDeviceGetName", "name", c.h.GetName)
	c.d.UUID, c.d.Name = cmp.Or(clean(uuid, maxText), c.d.UUID), cmp.Or(clean(name, maxName), c.d.Name)
	if v, ok := value(c, "nvmlDeviceGetPciInfo_v3", "pci_bus_id", c.h.GetPciInfo); ok {
		c.d.BusID, c.d.PCIID = busID(v), v.PciDeviceId&vendorID<<16|v.PciDeviceId>>16
	}
	c.d.Compute, _ = value(c, "nvmlDeviceGetCudaComputeCapability", "compute_capability", func() (v gpuinfo.Capability, ret gonvml.Return) {
		v.Major, v.Minor, ret = c.h.GetCudaComputeCapability()
		return v, ret
	})
}

// memory asks a device or a slice. The second version tells what the driver keeps
// for itself; old libraries have the first one only.
func (c *card) memory(h gonvml.Device, kind gpuinfo.MemoryKind, ok func(string, gonvml.Return) bool) gpuinfo.Memory {
	m := gpuinfo.Memory{Source: c.Name()}
	ret := gonvml.Return(gonvml.ERROR_FUNCTION_NOT_FOUND)
	var v gonvml.Memory_v2
	if c.has("nvmlDeviceGetMemoryInfo_v2") {
		if v, ret = h.GetMemoryInfo_v2(); ret == gonvml.SUCCESS {
			m.Reserved = &v.Reserved
		}
	}
	if m.Reserved == nil && whyOf(ret) == "not_supported" && c.has("nvmlDeviceGetMemoryInfo") {
		var old gonvml.Memory
		old, ret = h.GetMemoryInfo()
		v.Total, v.Used, v.Free = old.Total, old.Used, old.Free
	}
	switch {
	case ret == gonvml.SUCCESS && v.Total > maxMemory:
		ret = gonvml.ERROR_UNKNOWN
	case ret == gonvml.SUCCESS && v.Total == 0:
		ret = gonvml.ERROR_NOT_SUPPORTED
	}
	if !ok("vram_total_bytes", ret) {
		return gpuinfo.Memory{Source: c.Name()}
	}
	m.Kind, m.Total, m.Used, m.Free = kind, &v.Total, &v.Used, new(min(v.Free, v.Total))
	return m
}

// unified gives a device without memory of its own that of the host.
func (c *card) unified() {
	integrated := false
	if c.d.Memory.Total == nil && c.has("nvmlDeviceGetAddressingMode") {
		mode, ret := c.h.GetAddressingMode()
		integrated = ret == gonvml.SUCCESS && mode.Value == uint32(gonvml.DEVICE_ADDRESSING_MODE_ATS)
	}
	c.d.ShareHostMemory(c.cfg.Root, integrated)
}

func (c *card) counters() {
	temp := func() (uint32, gonvml.Return) { return c.h.GetTemperature(gonvml.TEMPERATURE_GPU) }
	if v, ok := value(c, "nvmlDeviceGetTemperature", "temperature_c", temp); ok && v <= 250 {
		c.d.TempC = new(int(v))
	}
	if v, ok := value(c, "nvmlDeviceGetUtilizationRates", "utilization_percent", c.h.GetUtilizationRates); ok && v.Gpu <= 100 {
		c.d.UtilPercent = new(int(v.Gpu))
	}
	ecc := func() (uint64, gonvml.Return) {
		return c.h.GetTotalEccErrors(gonvml.MEMORY_ERROR_TYPE_UNCORRECTED, gonvml.VOLATILE_ECC)
	}
	if v, ok := value(c, "nvmlDeviceGetTotalEccErrors", "ecc_uncorrected", ecc); ok && v < 1<<63 {
		c.d.ECCUncorrected = new(int64(v))
	}
}

func (c *card) recovery() {
	v, ok := value(c, "nvmlDeviceGetFieldValues", "recovery", func() (gonvml.FieldValue, gonvml.Return) {
		v := []gonvml.FieldValue{{FieldId: gonvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
		if ret := c.h.GetFieldValues(v); ret != gonvml.SUCCESS {
			return v[0], ret
		}
		return v[0], gonvml.Return(v[0].NvmlReturn)
	})
	if ok {
		c.d.Demand(recoveryOf(v))
	}
}
