package gpuinfo

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDeviceBytes is 16 TiB: more than any device has, small enough to add up.
const (
	maxDeviceBytes = 16 << 40
	maxDeviceMiB   = maxDeviceBytes >> 20
)

// smiFields is the full query; the name stands last, so that its commas are harmless.
func smiFields() []string {
	return []string{
		"index", "uuid", "pci.bus_id", "memory.total", "memory.used", "memory.free", "memory.reserved", "compute_cap",
		"driver_version", "mig.mode.current", "temperature.gpu", "utilization.gpu", "ecc.errors.uncorrected.volatile.total",
		recoveryField, "name",
	}
}

// basicFields is what every driver since 2012 knows.
func basicFields() []string {
	return []string{"index", "uuid", "pci.bus_id", "memory.total", "memory.used", "memory.free", "driver_version", "name"}
}

// parseSMI reads the CSV rows of one query. A row that cannot be attributed to a
// device is skipped and counted; everything else about a row becomes a Note.
func parseSMI(out []byte, fields []string) (devices []Device, skipped int) {
	for line := range bytes.Lines(out) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		d, ok := parseRow(string(line), fields)
		if !ok || len(devices) == maxDevices || isListed(devices, &d) {
			skipped++
			continue
		}
		if devices == nil {
			devices = make([]Device, 0, 8) // the usual server
		}
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b Device) int { return a.Index - b.Index })
	return devices, skipped
}

// isListed reports whether a device has the number, the UUID or the bus id of d.
func isListed(devices []Device, d *Device) bool {
	for i := range devices {
		e := &devices[i]
		if e.Index == d.Index || e.UUID == d.UUID && d.UUID != "" || e.BusID == d.BusID && d.BusID != "" {
			return true
		}
	}
	return false
}

func parseRow(line string, fields []string) (Device, bool) {
	d := Device{Index: -1, Vendor: "nvidia", Health: Health{State: Healthy}, Memory: Memory{Source: smiName}}
	for i, f := range fields {
		value, rest, more := strings.Cut(line, ",")
		if i == len(fields)-1 {
			value = line
		} else if !more {
			return Device{}, false // cut off: the last number may be half a number
		}
		value, line = strings.TrimSpace(value), rest
		why := special(value)
		switch {
		case why == "" && d.set(f, value):
		case why == "":
			d.note(noteName(f), "unparsable")
		case f == recoveryField && (why == "not_available" || why == "not_supported"):
			// most drivers: nothing is wrong with the device
		default:
			d.Miss(noteName(f), why)
		}
	}
	d.checkMemory()
	d.hideFree()
	return d, d.Index >= 0 && (d.UUID != "" || d.BusID != "")
}

const recoveryField = "gpu_recovery_action"

// set takes in one value; false: it cannot be read.
func (d *Device) set(field, v string) (ok bool) {
	ok = true
	switch field {
	case "index":
		var n *int
		if n, ok = within[int](v, 0, maxIndex); ok {
			d.Index = *n
		}
	case "uuid":
		d.UUID = clean(v, maxText)
	case "pci.bus_id":
		d.BusID, ok = normalBusID(v)
	case "name":
		d.Name = clean(v, maxName)
	case "driver_version":
		d.Driver = clean(v, maxText)
	case "memory.total":
		d.Memory.Total, ok = mebibytes(v)
	case "memory.used":
		d.Memory.Used, ok = mebibytes(v)
	case "memory.free":
		d.Memory.Free, ok = mebibytes(v)
	case "memory.reserved":
		d.Memory.Reserved, ok = mebibytes(v)
	case "compute_cap":
		ok = d.Compute.UnmarshalText([]byte(v)) == nil
	case "mig.mode.current":
		d.MIGEnabled = strings.EqualFold(v, "Enabled")
	case "temperature.gpu":
		d.TempC, ok = within[int](v, -100, 250)
	case "utilization.gpu":
		d.UtilPercent, ok = within[int](v, 0, 100)
	case "ecc.errors.uncorrected.volatile.total":
		d.ECCUncorrected, ok = within[int64](v, 0, math.MaxInt64)
	case recoveryField:
		d.Demand(recoveryAction(v))
	}
	return ok
}

// special recognises the words that stand where a value is missing.
func special(v string) string {
	if v != "" && v[0] >= '0' && v[0] <= '9' {
		return ""
	}
	switch strings.ToLower(strings.Trim(v, "[]")) {
	case "n/a", "":
		return "not_available"
	case "not supported":
		return "not_supported"
	case "insufficient permissions":
		return "no_permission"
	case "unknown error", "err!":
		return "unknown_error"
	case "gpu requires reset":
		return "reset_required"
	case "gpu is lost":
		return "lost"
	}
	return ""
}

// noteName is the name of the field in our JSON form.
func noteName(field string) string {
	if part, ok := strings.CutPrefix(field, "memory."); ok {
		return "vram_" + part + "_bytes"
	}
	names := map[string]string{
		"pci.bus_id": "pci_bus_id", "compute_cap": "compute_capability", "mig.mode.current": "mig_enabled", "temperature.gpu": "temperature_c",
		"utilization.gpu": "utilization_percent", "ecc.errors.uncorrected.volatile.total": "ecc_uncorrected", recoveryField: "recovery",
	}
	return cmp.Or(names[field], field)
}

// mebibytes reads an amount of memory that one device can have.
func mebibytes(v string) (*uint64, bool) {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n > maxDeviceMiB {
		return nil, false
	}
	return new(n << 20), true
}

func within[T int | int64](v string, low, high T) (*T, bool) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < int64(low) || n > int64(high) {
		return nil, false
	}
	return new(T(n)), true
}

// checkMemory names the kind, and lowers Free where the parts exceed the whole by
// more than what the driver keeps for itself.
func (d *Device) checkMemory() {
	m := &d.Memory
	if m.Total == nil {
		return // an integrated device of unknown kind, or a fault that has a note
	}
	m.Kind = Dedicated
	used := addKnown(0, m.Used)
	if m.Free != nil && used+*m.Free > addKnown(*m.Total, m.Reserved) {
		m.Free = new(*m.Total - min(*m.Total, used))
		d.note(vramFree, "clamped")
	}
}

func recoveryAction(v string) Action {
	switch strings.ToLower(v) {
	case "none":
		return ""
	case "reset":
		return Reset
	case "reboot":
		return Reboot
	case "drain p2p", "drain and reset":
		return DrainReset
	}
	return Contact // a word of a newer driver: not ours to guess that it is harmless
}

// clean bounds text from a driver and replaces what a terminal could obey or not show.
func clean(s string, limit int) string {
	odd := func(c rune) bool { return (c < ' ' || c > '~') && !strconv.IsPrint(c) }
	if strings.ContainsFunc(s, odd) {
		s = strings.Map(func(c rune) rune {
			if odd(c) {
				return utf8.RuneError
			}
			return c
		}, s)
	}
	return strings.ToValidUTF8(s[:min(len(s), limit)], "") // without the half of a character
}

// invalidField returns the field that the tool says it does not know.
func invalidField(text []byte) (string, bool) {
	before, _, ok := bytes.Cut(text, []byte("is not a valid field"))
	if !ok {
		return "", false
	}
	parts := bytes.Split(before[max(0, len(before)-maxName):], []byte(`"`))
	if len(parts) < 3 {
		return "", true
	}
	return string(parts[len(parts)-2]), true
}
