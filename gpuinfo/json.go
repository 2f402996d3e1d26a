package gpuinfo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Limits of values from outside.
const (
	maxSnapshotJSON = 1 << 20
	maxDevices      = 256
	maxNotes        = 64
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

type wireDevice struct {
	Index      int        `json:"index"`
	UUID       string     `json:"uuid,omitempty"`
	BusID      string     `json:"pci_bus_id,omitempty"`
	Name       string     `json:"name,omitempty"`
	Vendor     string     `json:"vendor"`
	Kind       MemoryKind `json:"memory_kind,omitempty"`
	Source     string     `json:"memory_source,omitempty"`
	Total      *uint64    `json:"vram_total_bytes,omitempty"`
	Used       *uint64    `json:"vram_used_bytes,omitempty"`
	Free       *uint64    `json:"vram_free_bytes,omitempty"`
	Reserved   *uint64    `json:"vram_reserved_bytes,omitempty"`
	Compute    string     `json:"compute_capability,omitempty"`
	Driver     string     `json:"driver_version,omitempty"`
	TempC      *int       `json:"temperature_c,omitempty"`
	Util       *int       `json:"utilization_percent,omitempty"`
	ECC        *int64     `json:"ecc_uncorrected,omitempty"`
	MIGEnabled bool       `json:"mig_enabled,omitempty"`
	Health     State      `json:"health"`
	Recovery   Action     `json:"recovery,omitempty"`
	Notes      []Note     `json:"notes,omitempty"`
}

// MarshalJSON writes snake_case members; unknown values are left out.
func (d Device) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireDevice{
		Index: d.Index, UUID: d.UUID, BusID: d.BusID, Name: d.Name, Vendor: d.Vendor,
		Kind: d.Memory.Kind, Source: d.Memory.Source, Total: d.Memory.Total, Used: d.Memory.Used,
		Free: d.Memory.Free, Reserved: d.Memory.Reserved, Compute: d.Compute.String(), Driver: d.Driver,
		TempC: d.TempC, Util: d.UtilPercent, ECC: d.ECCUncorrected, MIGEnabled: d.MIGEnabled,
		Health: d.Health.State, Recovery: d.Health.Recovery, Notes: d.Notes,
	})
}

// UnmarshalJSON reads the form of MarshalJSON; unknown members and enumeration
// values are errors.
func (d *Device) UnmarshalJSON(b []byte) error {
	var w wireDevice
	if err := strict(b, &w); err != nil {
		return fmt.Errorf("decode device: %w", err)
	}
	out := Device{
		Index: w.Index, UUID: w.UUID, BusID: w.BusID, Name: w.Name, Vendor: w.Vendor, Driver: w.Driver,
		Memory: Memory{Kind: w.Kind, Total: w.Total, Used: w.Used, Free: w.Free, Reserved: w.Reserved, Source: w.Source},
		TempC:  w.TempC, UtilPercent: w.Util, ECCUncorrected: w.ECC, MIGEnabled: w.MIGEnabled,
		Health: Health{State: w.Health, Recovery: w.Recovery}, Notes: w.Notes,
	}
	if w.Compute != "" {
		c, ok := parseCapability(w.Compute)
		if !ok {
			return errors.New("decode device: compute_capability is not major.minor")
		}
		out.Compute = c
	}
	*d = out
	return nil
}

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
		if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return errors.New("wrong type of member " + typed.Field)
		}
		// Other errors of encoding/json can quote the input.
		return errors.New("not the expected JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("bytes after the JSON object")
	}
	return nil
}

func (s Snapshot) validate() error {
	reasons := []Reason{OK, NoDevice, NoTool, NoDriver, DriverMismatch, DriverHung, Timeout, Permission, ParseFailed, Disabled, Failed}
	switch {
	case !slices.Contains(reasons, s.Reason):
		return errors.New("snapshot: unknown reason")
	case len(s.Devices) > maxDevices:
		return errors.New("snapshot: too many devices")
	case len(s.Detail) > maxName || len(s.Provider) > maxText || len(s.Driver) > maxText:
		return errors.New("snapshot: text too long")
	case s.Took < 0 || s.Took > 24*time.Hour:
		return errors.New("snapshot: took_ms out of range")
	case (s.Reason == OK) != s.anyUsable():
		return errors.New("snapshot: reason contradicts the devices")
	}
	for i, d := range s.Devices {
		if err := d.validate(); err != nil {
			return fmt.Errorf("snapshot: devices[%d]: %w", i, err)
		}
		if i > 0 && s.Devices[i-1].Index >= d.Index {
			return fmt.Errorf("snapshot: devices[%d]: not sorted by index", i)
		}
	}
	return nil
}

func (d Device) validate() error {
	switch {
	case d.Index < 0:
		return errors.New("index is negative")
	case len(d.Name) > maxName || len(d.UUID) > maxText || len(d.BusID) > maxText || len(d.Driver) > maxText || len(d.Memory.Source) > maxText:
		return errors.New("text too long")
	case !slices.Contains([]string{"nvidia", "amd", "intel", "other"}, d.Vendor):
		return errors.New("unknown vendor")
	case !slices.Contains([]MemoryKind{"", Dedicated, Unified, Carveout, Slice}, d.Memory.Kind):
		return errors.New("unknown memory_kind")
	case !slices.Contains([]State{Healthy, Degraded, Broken, Lost}, d.Health.State):
		return errors.New("unknown health")
	case !slices.Contains([]Action{"", RestartApp, DrainReset, Reset, Reboot, Contact}, d.Health.Recovery):
		return errors.New("unknown recovery")
	case len(d.Notes) > maxNotes:
		return errors.New("too many notes")
	}
	for _, n := range d.Notes {
		if len(n.Field) > maxText || len(n.Why) > maxText {
			return errors.New("note too long")
		}
	}
	return nil
}
