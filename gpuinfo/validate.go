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
	case !isClean(s.Detail, maxName) || !isClean(s.Provider, maxText) || !isClean(s.Driver, maxText):
		return errors.New("snapshot: detail, provider or driver_version is too long or cannot be shown")
	case s.Took < 0 || s.Took > 24*time.Hour:
		return errors.New("snapshot: took_ms out of range")
	}
	for i, d := range s.Devices {
		if err := d.validate(); err != nil {
			return fmt.Errorf("snapshot: devices[%d]: %w", i, err)
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

func (d Device) validate() error {
	switch {
	case d.Index < 0 || d.Index > maxIndex:
		return errors.New("index out of range")
	case !slices.Contains([]string{"nvidia", "amd", "intel", "other"}, d.Vendor):
		return errors.New("unknown vendor")
	case !slices.Contains([]State{Healthy, Degraded, Broken, Lost}, d.Health.State):
		return errors.New("unknown health")
	case !slices.Contains([]Action{"", RestartApp, DrainReset, Reset, Reboot, Contact}, d.Health.Recovery):
		return errors.New("unknown recovery")
	case len(d.Notes) > maxNotes || len(d.Health.Causes) > maxCauses || len(d.MIG) > maxSlices:
		return errors.New("too many notes, health_causes or mig")
	case len(d.MIG) > 0 && !d.MIGEnabled:
		return errors.New("mig without mig_enabled")
	}
	if bus, ok := normalBusID(d.BusID); d.BusID != "" && (!ok || bus != d.BusID) {
		return errors.New("pci_bus_id is not dddd:bb:dd.f")
	}
	texts := append([]string{d.UUID, d.Driver}, d.Health.Causes...)
	for _, n := range d.Notes {
		texts = append(texts, n.Field, n.Why)
	}
	for _, g := range d.MIG {
		texts = append(texts, g.UUID, g.Profile)
		if g.GI < -1 || g.CI < -1 || g.UUID == "" {
			return errors.New("mig: gi, ci or uuid is wrong")
		}
		if err := g.Memory.validate(); err != nil {
			return fmt.Errorf("mig: %w", err)
		}
	}
	for _, text := range texts {
		if !isClean(text, maxText) {
			return errors.New("text is too long or cannot be shown")
		}
	}
	if !isClean(d.Name, maxName) {
		return errors.New("name is too long or cannot be shown")
	}
	return d.Memory.validate()
}

func (m Memory) validate() error {
	switch {
	case !slices.Contains([]MemoryKind{"", Dedicated, Unified, Carveout, Slice}, m.Kind):
		return errors.New("unknown memory_kind")
	case !isClean(m.Source, maxText):
		return errors.New("memory_source is too long or cannot be shown")
	}
	return nil
}

func isClean(s string, limit int) bool { return clean(s, limit) == s }
