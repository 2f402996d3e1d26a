package poolregistry

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
	for _, p := range []struct{ to, from **uint64 }{
		{&g.VRAMTotalBytes, &beat.VRAMTotalBytes},
		{&g.VRAMFreeBytes, &beat.VRAMFreeBytes},
		{&g.VRAMReservedBytes, &beat.VRAMReservedBytes},
	} {
		if *p.from != nil {
			*p.to = *p.from
		}
	}
	if beat.TemperatureC != nil {
		g.TemperatureC = beat.TemperatureC
	}
	if beat.UtilizationPercent != nil {
		g.UtilizationPercent = beat.UtilizationPercent
	}
	if beat.Health != "" {
		g.Health = beat.Health
	}
	if beat.Recovery != "" {
		g.Recovery = beat.Recovery
	}
	if g.VRAMTotalBytes != nil && g.VRAMFreeBytes != nil && *g.VRAMFreeBytes > *g.VRAMTotalBytes {
		g.VRAMFreeBytes = g.VRAMTotalBytes
	}
	return g
}

// same reports whether g and h state the same values.
func (g GPU) same(h GPU) bool {
	return samePtr(g.VRAMTotalBytes, h.VRAMTotalBytes) && samePtr(g.VRAMFreeBytes, h.VRAMFreeBytes) &&
		samePtr(g.VRAMReservedBytes, h.VRAMReservedBytes) && samePtr(g.TemperatureC, h.TemperatureC) &&
		samePtr(g.UtilizationPercent, h.UtilizationPercent) && g.Health == h.Health && g.Recovery == h.Recovery &&
		g.DeviceID == h.DeviceID && g.UUID == h.UUID
}

func samePtr[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
