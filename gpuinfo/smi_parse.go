package gpuinfo

import (
	"bytes"
	"cmp"
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
		"gpu_recovery_action", "name",
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
	r := row{d: Device{Index: -1, Vendor: "nvidia", Health: Health{State: Healthy}, Memory: Memory{Source: smiName}}}
	for i, f := range fields {
		value, rest, more := strings.Cut(line, ",")
		if i == len(fields)-1 {
			value = line
		} else if !more {
			return Device{}, false // cut off: the last number may be half a number
		}
		r.set(f, strings.TrimSpace(value))
		line = rest
	}
	d := &r.d
	if d.Index < 0 || d.UUID == "" && d.BusID == "" {
		return Device{}, false
	}
	r.checkMemory()
	if d.Health.State == Broken || d.Health.State == Lost {
		// Such a card answers "0 MiB used" and would win every placement.
		d.Memory.Free = nil
	}
	return r.d, true
}

// row collects one device and its notes.
type row struct{ d Device }

func (r *row) note(field, why string) { r.d.note(field, why) }

func (r *row) set(field, v string) {
	why := special(v)
	if why != "" {
		r.special(field, why)
		return
	}
	switch field {
	case "index":
		if n, err := strconv.ParseUint(v, 10, 16); err == nil {
			r.d.Index = int(n)
		}
	case "uuid":
		r.d.UUID = clean(v, maxText)
	case "pci.bus_id":
		if bus, ok := normalBusID(v); ok {
			r.d.BusID = bus
		} else {
			r.note("pci_bus_id", "unparsable")
		}
	case "name":
		r.d.Name = clean(v, maxName)
	case "driver_version":
		r.d.Driver = clean(v, maxText)
	case "memory.total":
		r.d.Memory.Total = r.memory(field, v)
	case "memory.used":
		r.d.Memory.Used = r.memory(field, v)
	case "memory.free":
		r.d.Memory.Free = r.memory(field, v)
	case "memory.reserved":
		r.d.Memory.Reserved = r.memory(field, v)
	case "compute_cap":
		c, ok := parseCapability(v)
		if !ok {
			r.note("compute_capability", "unparsable")
		}
		r.d.Compute = c
	case "mig.mode.current":
		r.d.MIGEnabled = strings.EqualFold(v, "Enabled")
	case "temperature.gpu":
		r.d.TempC = r.small("temperature_c", v, -100, 250)
	case "utilization.gpu":
		r.d.UtilPercent = r.small("utilization_percent", v, 0, 100)
	case "ecc.errors.uncorrected.volatile.total":
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 {
			r.d.ECCUncorrected = &n
		} else {
			r.note("ecc_uncorrected", "unparsable")
		}
	case "gpu_recovery_action":
		r.recovery(v)
	}
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

func (r *row) special(field, why string) {
	h := &r.d.Health
	switch why {
	case "lost":
		h.State = Lost
	case "reset_required":
		if h.State != Lost {
			*h = Health{State: Broken, Recovery: Reset}
		}
	case "unknown_error":
		if h.State == Healthy {
			h.State = Degraded
		}
	}
	if field != "gpu_recovery_action" || why != "not_available" && why != "not_supported" {
		r.note(noteName(field), why)
	}
}

// noteName is the name of the field in our JSON form.
func noteName(field string) string {
	if part, ok := strings.CutPrefix(field, "memory."); ok {
		return "vram_" + part + "_bytes"
	}
	names := map[string]string{
		"pci.bus_id": "pci_bus_id", "compute_cap": "compute_capability", "mig.mode.current": "mig_enabled", "temperature.gpu": "temperature_c",
		"utilization.gpu": "utilization_percent", "ecc.errors.uncorrected.volatile.total": "ecc_uncorrected", "gpu_recovery_action": "recovery",
	}
	return cmp.Or(names[field], field)
}

func (r *row) memory(field, v string) *uint64 {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n > maxDeviceMiB {
		r.note(noteName(field), "unparsable")
		return nil
	}
	return new(n << 20)
}

// checkMemory names the kind and lowers Free where the parts exceed the whole by more than what the
// driver keeps for itself.
func (r *row) checkMemory() {
	m := &r.d.Memory
	if m.Total == nil {
		return // an integrated device of unknown kind, or a fault that has a note
	}
	m.Kind = Dedicated
	if m.Free == nil {
		return
	}
	var used, reserved uint64
	if m.Used != nil {
		used = *m.Used
	}
	if m.Reserved != nil {
		reserved = *m.Reserved
	}
	if used+*m.Free > *m.Total+reserved {
		m.Free = new(*m.Total - min(*m.Total, used))
		r.note("vram_free_bytes", "clamped")
	}
}

func (r *row) small(name, v string, low, high int) *int {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		r.note(name, "unparsable")
		return nil
	}
	return &n
}

func (r *row) recovery(v string) {
	v = strings.ToLower(v)
	if v == "none" {
		return
	}
	actions := map[string]Action{"reset": Reset, "reboot": Reboot, "drain p2p": DrainReset, "drain and reset": DrainReset}
	if r.d.Health.State != Lost {
		r.d.Health.State = Broken
	}
	// A word of a newer driver: not ours to guess that it is harmless.
	r.d.Health.Recovery = cmp.Or(actions[v], Contact)
}

// clean bounds text from a driver and replaces what a terminal could obey or not show.
func clean(s string, limit int) string {
	if len(s) <= limit && isPlain(s) {
		return s
	}
	s = strings.Map(func(c rune) rune {
		if !strconv.IsPrint(c) {
			return utf8.RuneError
		}
		return c
	}, s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// isPlain reports whether s is printable ASCII, as nearly every text of a driver is.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
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
