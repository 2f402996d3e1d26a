package gpuinfo

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// validate reports the first fault of a snapshot from outside.
func (s Snapshot) validate() error {
	switch {
	case s.Reason != OK && !slices.Contains(telling(), s.Reason):
		return errors.New("snapshot: unknown reason")
	case len(s.Devices) > maxDevices:
		return errors.New("snapshot: too many devices")
	case !shown(maxName, s.Detail) || !shown(maxText, s.Provider, s.Driver):
		return errors.New("snapshot: detail, provider or driver_version is too long or cannot be shown")
	case s.Took < 0 || s.Took > 24*time.Hour:
		return errors.New("snapshot: took_ms out of range")
	}
	for i, d := range s.Devices {
		if fault := d.fault(); fault != "" {
			return fmt.Errorf("snapshot: devices[%d]: %s", i, fault)
		}
		if i > 0 && s.Devices[i-1].Index >= d.Index {
			return fmt.Errorf("snapshot: devices[%d]: not sorted by index", i)
		}
	}
	if (s.Reason == OK) != s.anyUsable() {
		return errors.New("snapshot: reason contradicts the devices")
	}
	return nil
}

// fault says what is wrong with a device; "": nothing.
func (d Device) fault() string {
	texts := slices.Concat([]string{d.UUID, d.Driver, d.Memory.Source}, d.Health.Causes)
	for _, n := range d.Notes {
		texts = append(texts, n.Field, n.Why)
	}
	kinds := []MemoryKind{d.Memory.Kind}
	for _, g := range d.MIG {
		if g.GI < -1 || g.CI < -1 || g.UUID == "" {
			return "mig: gi, ci or uuid is wrong"
		}
		texts = append(texts, g.UUID, g.Profile, g.Memory.Source)
		kinds = append(kinds, g.Memory.Kind)
	}
	bus, ok := normalBusID(d.BusID)
	switch {
	case d.Index < 0 || d.Index > maxIndex:
		return "index out of range"
	case !slices.Contains([]string{"nvidia", "amd", "intel", "other"}, d.Vendor):
		return "unknown vendor"
	case badness(d.Health.State) < 0:
		return "unknown health"
	case severity(d.Health.Recovery) < 0:
		return "unknown recovery"
	case slices.ContainsFunc(kinds, func(k MemoryKind) bool {
		return !slices.Contains([]MemoryKind{"", Dedicated, Unified, Carveout, Slice}, k)
	}):
		return "unknown memory_kind"
	case len(d.Notes) > maxNotes || len(d.Health.Causes) > maxCauses || len(d.MIG) > maxSlices:
		return "too many notes, health_causes or mig"
	case len(d.MIG) > 0 && !d.MIGEnabled:
		return "mig without mig_enabled"
	case d.BusID != "" && (!ok || bus != d.BusID):
		return "pci_bus_id is not dddd:bb:dd.f"
	case !shown(maxName, d.Name):
		return "name is too long or cannot be shown"
	case !shown(maxText, texts...):
		return "uuid, driver_version, memory_source, health_causes, notes or mig: text is too long or cannot be shown"
	}
	return ""
}

// shown reports whether all texts are as clean would leave them.
func shown(limit int, texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return clean(s, limit) != s })
}
