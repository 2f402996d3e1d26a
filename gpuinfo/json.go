package gpuinfo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits of values from outside.
const (
	maxSnapshotJSON = 1 << 20
	maxDevices      = 256
	maxNotes        = 64
	maxSlices       = 64 // of one device; today's cards have at most 7 with 7 parts each
	maxIndex        = 1<<16 - 1
	maxName         = 256
	maxText         = 64
)

type wireSnapshot struct {
	Reason   Reason    `json:"reason"`
	Detail   string    `json:"detail,omitempty"`
	Provider string    `json:"provider,omitempty"`
	Driver   string    `json:"driver_version,omitempty"`
	At       time.Time `json:"at,omitzero"`
	TookMS   int64     `json:"took_ms,omitempty"`
	Stale    bool      `json:"stale,omitempty"`
	Devices  []Device  `json:"devices"`
}

type wireMemory struct {
	Kind     MemoryKind `json:"memory_kind,omitempty"`
	Source   string     `json:"memory_source,omitempty"`
	At       time.Time  `json:"memory_at,omitzero"`
	Total    *uint64    `json:"vram_total_bytes,omitempty"`
	Used     *uint64    `json:"vram_used_bytes,omitempty"`
	Free     *uint64    `json:"vram_free_bytes,omitempty"`
	Reserved *uint64    `json:"vram_reserved_bytes,omitempty"`
}

type wireDevice struct {
	Index  int    `json:"index"`
	UUID   string `json:"uuid,omitempty"`
	BusID  string `json:"pci_bus_id,omitempty"`
	PCIID  string `json:"pci_id,omitempty"`
	Name   string `json:"name,omitempty"`
	Vendor string `json:"vendor"`
	wireMemory
	Compute    string    `json:"compute_capability,omitempty"`
	Driver     string    `json:"driver_version,omitempty"`
	TempC      *int      `json:"temperature_c,omitempty"`
	Util       *int      `json:"utilization_percent,omitempty"`
	ECC        *int64    `json:"ecc_uncorrected,omitempty"`
	MIGEnabled bool      `json:"mig_enabled,omitempty"`
	MIG        []wireMIG `json:"mig,omitempty"`
	Health     State     `json:"health"`
	Recovery   Action    `json:"recovery,omitempty"`
	Since      time.Time `json:"health_since,omitzero"`
	Causes     []string  `json:"health_causes,omitempty"`
	Notes      []Note    `json:"notes,omitempty"`
}

type wireMIG struct {
	UUID    string `json:"uuid"`
	Profile string `json:"profile,omitempty"`
	GI      *int   `json:"gi,omitempty"`
	CI      *int   `json:"ci,omitempty"`
	wireMemory
}

func memoryToWire(m Memory) wireMemory {
	return wireMemory{Kind: m.Kind, Source: m.Source, At: m.At, Total: m.Total, Used: m.Used, Free: m.Free, Reserved: m.Reserved}
}

func (w wireMemory) memory() Memory {
	return Memory{Kind: w.Kind, Source: w.Source, At: w.At, Total: w.Total, Used: w.Used, Free: w.Free, Reserved: w.Reserved}
}

// MarshalJSON writes snake_case members; unknown values are left out.
func (d Device) MarshalJSON() ([]byte, error) {
	w := wireDevice{
		Index: d.Index, UUID: d.UUID, BusID: d.BusID, Name: d.Name, Vendor: d.Vendor, wireMemory: memoryToWire(d.Memory),
		Compute: d.Compute.String(), Driver: d.Driver, TempC: d.TempC, Util: d.UtilPercent, ECC: d.ECCUncorrected,
		MIGEnabled: d.MIGEnabled, Health: d.Health.State, Recovery: d.Health.Recovery, Since: d.Health.Since,
		Causes: d.Health.Causes, Notes: d.Notes,
	}
	if d.PCIID != 0 {
		w.PCIID = pciText(d.PCIID)
	}
	for _, g := range d.MIG {
		w.MIG = append(w.MIG, wireMIG{UUID: g.UUID, Profile: g.Profile, GI: known(g.GI), CI: known(g.CI), wireMemory: memoryToWire(g.Memory)})
	}
	return json.Marshal(w)
}

// known is nil for −1, the instance number that no source gave.
func known(n int) *int {
	if n < 0 {
		return nil
	}
	return &n
}

func instance(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}

// UnmarshalJSON reads the form of MarshalJSON; unknown members and enumeration
// values are errors.
func (d *Device) UnmarshalJSON(b []byte) error {
	var w wireDevice
	if err := strict(b, &w); err != nil {
		return err
	}
	out := Device{
		Index: w.Index, UUID: w.UUID, BusID: w.BusID, Name: w.Name, Vendor: w.Vendor, Driver: w.Driver,
		Memory: w.memory(), TempC: w.TempC, UtilPercent: w.Util, ECCUncorrected: w.ECC, MIGEnabled: w.MIGEnabled,
		Health: Health{State: w.Health, Recovery: w.Recovery, Since: w.Since, Causes: w.Causes}, Notes: w.Notes,
	}
	for _, g := range w.MIG {
		out.MIG = append(out.MIG, MIGDevice{UUID: g.UUID, Profile: g.Profile, GI: instance(g.GI), CI: instance(g.CI), Memory: g.memory()})
	}
	if w.Compute != "" {
		c, ok := parseCapability(w.Compute)
		if !ok {
			return memberError("compute_capability is not major.minor")
		}
		out.Compute = c
	}
	if w.PCIID != "" {
		var vendor, device uint16
		_, _ = fmt.Sscanf(w.PCIID, "%4x:%4x", &vendor, &device)
		if out.PCIID = uint32(vendor)<<16 | uint32(device); pciText(out.PCIID) != w.PCIID {
			return memberError("pci_id is not vendor:device in hexadecimal digits")
		}
	}
	*d = out
	return nil
}

func pciText(id uint32) string { return fmt.Sprintf("%04x:%04x", id>>16, id&0xffff) }

// memberError names a member that is wrong and never its value.
type memberError string

func (e memberError) Error() string { return string(e) }

// MarshalJSON writes the form that LoadSnapshot reads.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	devices := s.Devices
	if devices == nil {
		devices = []Device{}
	}
	return json.Marshal(wireSnapshot{
		Reason: s.Reason, Detail: s.Detail, Provider: s.Provider, Driver: s.Driver, At: s.At,
		TookMS: s.Took.Milliseconds(), Stale: s.Stale, Devices: devices,
	})
}

// LoadSnapshot reads one snapshot in its JSON form, at most 1 MiB. It is strict:
// unknown members, unknown enumeration values, bytes after the object and a Reason
// that contradicts the devices are errors. The errors name the member, never its
// value.
func LoadSnapshot(r io.Reader) (Snapshot, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSnapshotJSON+1))
	if err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	if len(b) > maxSnapshotJSON {
		return Snapshot{}, errors.New("read snapshot: larger than 1 MiB")
	}
	var w wireSnapshot
	if err := strict(b, &w); err != nil {
		return Snapshot{}, fmt.Errorf("decode snapshot: %w", err)
	}
	s := Snapshot{
		Devices: w.Devices, Reason: w.Reason, Detail: w.Detail, Provider: w.Provider, Driver: w.Driver,
		At: w.At, Took: time.Duration(w.TookMS) * time.Millisecond, Stale: w.Stale,
	}
	if len(s.Devices) == 0 {
		s.Devices = nil
	}
	if err := s.validate(); err != nil {
		return Snapshot{}, err
	}
	return s, nil
}

func strict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if ours, ok := errors.AsType[memberError](err); ok {
			return ours
		}
		if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return memberError("wrong type of member " + typed.Field)
		}
		// Other errors of encoding/json can quote the input.
		return memberError("not the expected JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("bytes after the JSON object")
	}
	return nil
}
