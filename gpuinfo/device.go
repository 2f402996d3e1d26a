package gpuinfo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MemoryKind says whose memory a device computes in. The empty kind is unknown.
type MemoryKind string

// Memory kinds.
const (
	Dedicated MemoryKind = "dedicated" // memory of its own, on the card
	Unified   MemoryKind = "unified"   // shares the memory of the host
	Carveout  MemoryKind = "carveout"  // a part of the host's memory set aside for it
	Slice     MemoryKind = "slice"     // a partition of a larger device
)

// State is the trust a device deserves.
type State string

// Device states. Only Healthy and Degraded devices are usable.
const (
	Healthy  State = "ok"
	Degraded State = "degraded"
	Broken   State = "failed"
	Lost     State = "lost"
)

// Action is what an operator or a supervisor must do before a device works again;
// empty means nothing.
type Action string

// Recovery actions, mildest first.
const (
	RestartApp Action = "restart_app"
	DrainReset Action = "drain_reset"
	Reset      Action = "reset"
	Reboot     Action = "reboot"
	Contact    Action = "contact"
)

// Memory is what a device says about its memory, in bytes; nil is unknown.
type Memory struct {
	Kind     MemoryKind `json:"memory_kind,omitempty"`
	Source   string     `json:"memory_source,omitempty"` // the provider that read it
	At       time.Time  `json:"memory_at,omitzero"`      // when it was read; zero: with the snapshot
	Total    *uint64    `json:"vram_total_bytes,omitempty"`
	Used     *uint64    `json:"vram_used_bytes,omitempty"`
	Free     *uint64    `json:"vram_free_bytes,omitempty"`
	Reserved *uint64    `json:"vram_reserved_bytes,omitempty"`
}

// Capability is a CUDA compute capability; the zero value is unknown.
type Capability struct{ Major, Minor int }

// Note says why one field of a device is unknown or was corrected.
type Note struct {
	Field string `json:"field"`
	Why   string `json:"why"` // not_available not_supported no_permission reset_required lost unknown_error unparsable clamped nominal
}

// Health is the state of a device and what brings it back.
type Health struct {
	State    State     `json:"health"`
	Recovery Action    `json:"recovery,omitempty"`
	Since    time.Time `json:"health_since,omitzero"`   // of State; zero: not tracked
	Causes   []string  `json:"health_causes,omitempty"` // such as "xid 79", "temp_high"; at most 16
}

// Device is one GPU.
type Device struct {
	Index          int         `json:"index"` // the driver's number (PCI order), not a position in a slice
	UUID           string      `json:"uuid,omitempty"`
	BusID          string      `json:"pci_bus_id,omitempty"`
	Name           string      `json:"name,omitempty"`
	Vendor         string      `json:"vendor"` // nvidia, amd, intel, other
	PCIID          uint32      `json:"-"`      // vendor id << 16 | device id; 0 is unknown
	Compute        Capability  `json:"compute_capability,omitzero"`
	Driver         string      `json:"driver_version,omitempty"`
	Memory         Memory      `json:"-"`
	TempC          *int        `json:"temperature_c,omitempty"` // degrees Celsius
	UtilPercent    *int        `json:"utilization_percent,omitempty"`
	ECCUncorrected *int64      `json:"ecc_uncorrected,omitempty"` // since the driver was loaded
	MIGEnabled     bool        `json:"mig_enabled,omitempty"`
	MIG            []MIGDevice `json:"-"`
	Health         Health      `json:"-"`
	Notes          []Note      `json:"notes,omitempty"`
}

// MIGDevice is one slice of a GPU that is split by NVIDIA's Multi-Instance GPU.
type MIGDevice struct {
	UUID    string
	Profile string // such as "1g.10gb" or "1c.3g.20gb+me"
	GI, CI  int    // GPU instance and compute instance; −1 is unknown
	Memory  Memory // of kind Slice
}

// Process is a program that uses a device.
type Process struct {
	PID  int
	UUID string // of the device or slice
	Name string
	Used *uint64 // bytes; nil is unknown
}

// AtLeast reports whether c is known and not lower than major.minor.
func (c Capability) AtLeast(major, minor int) bool {
	return c != (Capability{}) && (c.Major > major || c.Major == major && c.Minor >= minor)
}

// String returns "8.6", or "" when the capability is unknown.
func (c Capability) String() string {
	if c == (Capability{}) {
		return ""
	}
	return strconv.Itoa(c.Major) + "." + strconv.Itoa(c.Minor)
}

// MarshalText writes what String returns.
func (c Capability) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads major.minor, two numbers up to 255 that are not both 0.
func (c *Capability) UnmarshalText(text []byte) error {
	major, minor, _ := strings.Cut(string(text), ".")
	a, err1 := strconv.ParseUint(major, 10, 8)
	b, err2 := strconv.ParseUint(minor, 10, 8)
	if *c = (Capability{int(a), int(b)}); err1 != nil || err2 != nil || *c == (Capability{}) {
		*c = Capability{}
		return memberError("compute_capability is not major.minor")
	}
	return nil
}

// Available returns how many bytes may still be promised to new work: the smaller
// of Free and Total − reserve − allocated, and 0 where either is unknown.
func (m Memory) Available(reserve, allocated uint64) uint64 {
	if m.Total == nil || m.Free == nil {
		return 0
	}
	left := *m.Total
	left -= min(left, reserve)
	left -= min(left, allocated)
	return min(left, *m.Free)
}

// String describes the memory for people, in MiB.
func (m Memory) String() string {
	return fmt.Sprintf("%s, %s of %s MiB free", cmp.Or(m.Kind, "unknown"), mib(m.Free), mib(m.Total))
}

func mib(v *uint64) string {
	if v == nil {
		return "?"
	}
	return strconv.FormatUint(*v>>20, 10)
}

// Usable reports whether the device may get work: healthy or degraded, with a
// known amount of memory, and not split into MIG slices.
func (d Device) Usable() bool {
	return (d.Health.State == Healthy || d.Health.State == Degraded) && d.Memory.Total != nil && !d.MIGEnabled
}

// Fits reports whether a usable device has need × (1 + headroom) bytes free.
// Unknown free memory, a negative or a non-finite headroom fit nothing.
func (d Device) Fits(need uint64, headroom float64) bool {
	if !d.Usable() || d.Memory.Free == nil || !(headroom >= 0) || math.IsInf(headroom, 1) {
		return false
	}
	free := *d.Memory.Free
	if need > free {
		return false // exact, where a float64 would round
	}
	return float64(need)*(1+headroom) <= float64(free)
}

// Names of fields in notes: the members of the JSON form.
const (
	vramTotal = "vram_total_bytes"
	vramUsed  = "vram_used_bytes"
	vramFree  = "vram_free_bytes"
	migField  = "mig"
)

func (d *Device) note(field, why string) {
	if n := (Note{field, why}); len(d.Notes) < maxNotes && !slices.Contains(d.Notes, n) {
		d.Notes = append(d.Notes, n)
	}
}

// Miss is for providers: the driver gave a word instead of a value. It becomes a
// note on the member field of the JSON form, and where it says so the device is lost,
// failed until a reset, or degraded. why is one of the words of [Note].
func (d *Device) Miss(field, why string) {
	h := &d.Health
	switch {
	case why == "lost":
		*h = Health{State: Lost}
	case why == "reset_required" && h.State != Lost:
		*h = Health{State: Broken, Recovery: Reset}
	case why == "unknown_error" && h.State == Healthy:
		h.State = Degraded
	}
	d.note(field, why)
}

// Demand is for providers: the driver wants a before the device is used again; ""
// is nothing.
func (d *Device) Demand(a Action) {
	if a == "" {
		return
	}
	if d.Health.Recovery = a; d.Health.State != Lost {
		d.Health.State = Broken
	}
}

func (d Device) clone() Device {
	d.Memory, d.MIG = d.Memory.clone(), slices.Clone(d.MIG)
	for i := range d.MIG {
		d.MIG[i].Memory = d.MIG[i].Memory.clone()
	}
	d.TempC, d.UtilPercent, d.ECCUncorrected = copyOf(d.TempC), copyOf(d.UtilPercent), copyOf(d.ECCUncorrected)
	d.Notes, d.Health.Causes = slices.Clone(d.Notes), slices.Clone(d.Health.Causes)
	return d
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

func (m Memory) clone() Memory {
	m.Total, m.Used, m.Free, m.Reserved = copyOf(m.Total), copyOf(m.Used), copyOf(m.Free), copyOf(m.Reserved)
	return m
}
