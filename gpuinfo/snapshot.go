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
	Devices  []Device // sorted by Index
	Reason   Reason
	Detail   string // one of this package's own sentences; never output of a tool
	Provider string
	Driver   string
	At       time.Time     // wall clock, UTC
	Took     time.Duration // whole milliseconds in JSON
	Stale    bool          // an older snapshot stands in for a refresh that failed
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
	number := strings.TrimPrefix(id, "GPU")
	if n, err := strconv.ParseUint(number, 10, 16); err == nil && strconv.FormatUint(n, 10) == number {
		return s.only(func(d Device) bool { return d.Index == int(n) })
	}
	low := strings.ToLower(id)
	if bus, ok := normalBusID(low); ok {
		return s.only(func(d Device) bool { return d.BusID == bus })
	}
	if hex := strings.TrimPrefix(low, "gpu-"); len(hex) >= 8 && isHexOrDash(hex) {
		return s.only(func(d Device) bool {
			return strings.HasPrefix(strings.TrimPrefix(strings.ToLower(d.UUID), "gpu-"), hex)
		})
	}
	return Device{}, ErrUnknownDevice
}

func (s Snapshot) only(match func(Device) bool) (Device, error) {
	var found Device
	n := 0
	for _, d := range s.Devices {
		if match(d) {
			found = d
			n++
		}
	}
	switch n {
	case 0:
		return Device{}, ErrUnknownDevice
	case 1:
		return found.clone(), nil
	default:
		return Device{}, ErrAmbiguous
	}
}

// anyUsable reports whether Reason may be OK.
func (s Snapshot) anyUsable() bool {
	return slices.ContainsFunc(s.Units(), Unit.Usable)
}

func (s Snapshot) clone() Snapshot {
	if s.Devices == nil {
		return s
	}
	devices := make([]Device, len(s.Devices))
	for i, d := range s.Devices {
		devices[i] = d.clone()
	}
	s.Devices = devices
	return s
}

func isHexOrDash(s string) bool {
	for i := range len(s) {
		if !isHex(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
}

// normalBusID turns "00000000:3B:00.0" into "0000:3b:00.0". A domain that needs more
// than four digits gets eight, however many the source wrote.
func normalBusID(s string) (string, bool) {
	s = strings.ToLower(s)
	domain, rest, ok := strings.Cut(s, ":")
	if !ok || len(rest) != len("bb:dd.f") || rest[2] != ':' || rest[5] != '.' {
		return "", false
	}
	for _, i := range []int{0, 1, 3, 4, 6} {
		if !isHex(rest[i]) {
			return "", false
		}
	}
	if len(domain) < 4 || len(domain) > 8 || !isHexOrDash(domain) {
		return "", false
	}
	digits := strings.TrimLeft(domain, "0")
	if strings.ContainsRune(digits, '-') {
		return "", false
	}
	const zeros = "00000000"
	if len(digits) > 4 {
		return zeros[len(digits):] + digits + ":" + rest, true
	}
	return zeros[:4-len(digits)] + digits + ":" + rest, true
}
