package poolregistry

import "cmp"

// Capabilities say what hardware a node has.
type Capabilities struct {
	GPUs          []GPU  `json:"gpus,omitzero"` // sorted by DeviceID; at most 64
	CPUCores      int    `json:"cpu_cores,omitzero"`
	RAMTotalBytes uint64 `json:"ram_total_bytes,omitzero"`
}

// A GPU is one accelerator of a node. A nil number is unknown, which is not the
// same as zero.
type GPU struct {
	DeviceID           int      `json:"device_id"` // index on its node
	UUID               string   `json:"uuid,omitzero"`
	Name               string   `json:"name,omitzero"`
	Vendor             string   `json:"vendor,omitzero"`      // nvidia, amd, intel, other
	MemoryKind         string   `json:"memory_kind,omitzero"` // unknown, dedicated, unified, carveout, slice
	VRAMTotalBytes     *uint64  `json:"vram_total_bytes,omitzero"`
	VRAMFreeBytes      *uint64  `json:"vram_free_bytes,omitzero"`
	VRAMReservedBytes  *uint64  `json:"vram_reserved_bytes,omitzero"`
	ComputeCapability  string   `json:"compute_capability,omitzero"` // "major.minor"
	DriverVersion      string   `json:"driver_version,omitzero"`
	TemperatureC       *float64 `json:"temperature_c,omitzero"`       // -50 to 200
	UtilizationPercent *float64 `json:"utilization_percent,omitzero"` // 0 to 100
	Health             string   `json:"health,omitzero"`              // ok, degraded, failed, lost
	Recovery           string   `json:"recovery,omitzero"`            // none, restart_app, drain_reset, reset, reboot, contact
}

// merge returns g with every value that beat states.
func (g GPU) merge(beat GPU) GPU {
	override(&g.VRAMTotalBytes, beat.VRAMTotalBytes)
	override(&g.VRAMFreeBytes, beat.VRAMFreeBytes)
	override(&g.VRAMReservedBytes, beat.VRAMReservedBytes)
	override(&g.TemperatureC, beat.TemperatureC)
	override(&g.UtilizationPercent, beat.UtilizationPercent)
	override(&g.Health, beat.Health)
	override(&g.Recovery, beat.Recovery)
	if g.VRAMTotalBytes != nil && g.VRAMFreeBytes != nil && *g.VRAMFreeBytes > *g.VRAMTotalBytes {
		g.VRAMFreeBytes = g.VRAMTotalBytes
	}
	return g
}

func override[T comparable](to *T, stated T) { *to = cmp.Or(stated, *to) }
