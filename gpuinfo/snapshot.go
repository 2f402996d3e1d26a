package gpuinfo

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reason says what a snapshot found, or why it found nothing.
type Reason string

// Reasons. OK holds if and only if work can be placed: at least one of Units is usable.
const (
	OK             Reason = "ok"
	NoDevice       Reason = "no_device"
	NoTool         Reason = "no_tool"
	NoDriver       Reason = "no_driver"
	DriverMismatch Reason = "driver_mismatch"
	DriverMissing  Reason = "driver_missing" // an NVIDIA device is on the bus, and no driver answers
	DriverHung     Reason = "driver_hung"
	Timeout        Reason = "timeout"
	Permission     Reason = "permission"
	ParseFailed    Reason = "parse_failed"
	Disabled       Reason = "disabled"
	Failed         Reason = "failed"
)

// Snapshot is what a provider saw at one instant.
type Snapshot struct {
	Reason   Reason        `json:"reason"`
	Detail   string        `json:"detail,omitempty"` // one of this package's own sentences; never output of a tool
	Provider string        `json:"provider,omitempty"`
	Driver   string        `json:"driver_version,omitempty"`
	At       time.Time     `json:"at,omitzero"`     // wall clock, UTC
	Took     time.Duration `json:"-"`               // whole milliseconds in JSON
	Stale    bool          `json:"stale,omitempty"` // an older snapshot stands in for a refresh that failed
	Devices  []Device      `json:"devices"`         // sorted by Index
}

// Unit is what work is placed on: a whole device, or a slice of one that is split.
type Unit struct {
	Index  int    // of the device
	UUID   string // of the device or the slice
	Vendor string
	MIG    *MIGDevice // nil: the whole device
	Device Device     // the device itself, or the one that the slice is part of
}

// Memory is the memory of the device or the slice.
func (u Unit) Memory() Memory {
	if u.MIG != nil {
		return u.MIG.Memory
	}
	return u.Device.Memory
}

// Usable reports whether work may be placed on the unit: healthy or degraded, with
// a known amount of memory.
func (u Unit) Usable() bool {
	d := u.Device
	d.Memory, d.MIGEnabled = u.Memory(), false
	return d.Usable()
}

// Units returns all placeable units in the order of their index: each device that
// is not split, and the slices of those that are. Units that are not Usable are
// among them.
func (s Snapshot) Units() []Unit {
	var out []Unit
	for _, d := range s.Devices {
		d = d.clone()
		if !d.MIGEnabled {
			out = append(out, Unit{Index: d.Index, UUID: d.UUID, Vendor: d.Vendor, Device: d})
			continue
		}
		for i := range d.MIG {
			out = append(out, Unit{Index: d.Index, UUID: d.MIG[i].UUID, Vendor: d.Vendor, MIG: &d.MIG[i], Device: d})
		}
	}
	return out
}

// Errors of Lookup.
var (
	ErrUnknownDevice = errors.New("gpuinfo: no such device")
	ErrAmbiguous     = errors.New("gpuinfo: more than one device matches")
)

// telling returns the reasons why nothing is usable, the most telling first: of
// several answers the one that stands earlier says more about what to repair.
func telling() []Reason {
	return []Reason{
		DriverHung, DriverMismatch, DriverMissing, Permission, Timeout, ParseFailed,
		NoDriver, Failed, NoTool, NoDevice, Disabled,
	}
}

// tellsMore reports whether a says more than b; reasons of strangers say least.
func tellsMore(a, b Reason) bool {
	rank := telling()
	i, j := slices.Index(rank, a), slices.Index(rank, b)
	return i >= 0 && (j < 0 || i < j)
}

// Totals returns the sums of the known total and free memory of all usable units,
// in bytes; they stop at the largest uint64 instead of wrapping. Slices that share one
// GPU instance each count its memory.
func (s Snapshot) Totals() (total, free uint64) {
	for _, u := range s.Units() {
		if !u.Usable() {
			continue
		}
		total = addKnown(total, u.Memory().Total)
		free = addKnown(free, u.Memory().Free)
	}
	return total, free
}

func addKnown(sum uint64, v *uint64) uint64 {
	if v == nil {
		return sum
	}
	return sum + min(*v, math.MaxUint64-sum)
}

// Lookup finds a device by index ("0"), "GPU0", UUID, a unique UUID prefix with at
// least 8 hexadecimal digits, or PCI bus id. Its errors are ErrUnknownDevice and
// ErrAmbiguous.
func (s Snapshot) Lookup(id string) (Device, error) {
	if index := strings.TrimPrefix(id, "GPU"); isIndex(index) {
		return s.only(func(d Device) bool { return strconv.Itoa(d.Index) == index })
	}
	low := strings.ToLower(id)
	if bus, ok := normalBusID(low); ok {
		return s.only(func(d Device) bool { return d.BusID == bus })
	}
	if hex := strings.TrimPrefix(low, "gpu-"); len(hex) >= 8 && consists(hex, hexDigits+"-") {
		return s.only(func(d Device) bool {
			return strings.HasPrefix(strings.TrimPrefix(strings.ToLower(d.UUID), "gpu-"), hex)
		})
	}
	return Device{}, ErrUnknownDevice
}

func (s Snapshot) only(match func(Device) bool) (Device, error) {
	at := slices.IndexFunc(s.Devices, match)
	if at < 0 {
		return Device{}, ErrUnknownDevice
	}
	if slices.ContainsFunc(s.Devices[at+1:], match) {
		return Device{}, ErrAmbiguous
	}
	return s.Devices[at].clone(), nil
}

// Conclude is for providers: Reason and Detail become what the listed devices say;
// without any they stay as they are. A failed or lost device has no known free memory:
// it answers "0 MiB used" and would win every placement. skipped is how many devices
// or rows were not understood.
func (s *Snapshot) Conclude(skipped int) {
	switch {
	case s.anyUsable():
		s.Reason, s.Detail = OK, ""
	case len(s.Devices) > 0:
		s.Reason, s.Detail = Failed, "no device is usable"
	}
	for i := range s.Devices {
		s.Devices[i].hideFree()
	}
	if skipped > 0 {
		s.Detail = strings.TrimPrefix(s.Detail+", skipped "+strconv.Itoa(skipped), ", ")
	}
}

// hideFree makes the free memory of a device that does not work unknown.
func (d *Device) hideFree() {
	if d.Health.State != Broken && d.Health.State != Lost {
		return
	}
	d.Memory.Free = nil
	for i := range d.MIG {
		d.MIG[i].Memory.Free = nil
	}
}

// anyUsable reports whether Reason may be OK.
func (s Snapshot) anyUsable() bool {
	return slices.ContainsFunc(s.Units(), Unit.Usable)
}

func (s Snapshot) clone() Snapshot {
	s.Devices = slices.Clone(s.Devices)
	for i, d := range s.Devices {
		s.Devices[i] = d.clone()
	}
	return s
}

const hexDigits = "0123456789abcdef"

// consists reports whether s has no other bytes than those of set.
func consists(s, set string) bool { return strings.Trim(s, set) == "" }

// normalBusID turns "00000000:3B:00.0" into "0000:3b:00.0". A domain that needs more
// than four digits gets eight, however many the source wrote.
func normalBusID(s string) (string, bool) {
	domain, rest, _ := strings.Cut(strings.ToLower(s), ":")
	if len(domain) < 4 || len(domain) > 8 || len(rest) != len("bb:dd.f") || rest[2] != ':' || rest[5] != '.' {
		return "", false
	}
	if !consists(domain, hexDigits) || !consists(rest[:2]+rest[3:5]+rest[6:], hexDigits) {
		return "", false
	}
	over, short := domain[:len(domain)-4], domain[len(domain)-4:]
	if consists(over, "0") {
		return short + ":" + rest, true
	}
	return strings.Repeat("0", 8-len(domain)) + domain + ":" + rest, true
}
