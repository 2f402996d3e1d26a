package gpuinfo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
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

// The wire forms are the types themselves, without their methods, and beside them
// the members that look different in JSON.
type (
	plainSnapshot Snapshot
	wireSnapshot  struct {
		*plainSnapshot
		TookMS int64 `json:"took_ms,omitempty"`
	}
	plainDevice Device
	wireDevice  struct {
		*plainDevice
		*Memory
		*Health
		PCIID string    `json:"pci_id,omitempty"`
		MIG   []wireMIG `json:"mig,omitempty"`
	}
	wireMIG struct {
		UUID    string `json:"uuid"`
		Profile string `json:"profile,omitempty"`
		GI      *int   `json:"gi,omitempty"` // absent: -1, unknown
		CI      *int   `json:"ci,omitempty"`
		Memory
	}
)

// MarshalJSON writes snake_case members; unknown values are left out.
func (d Device) MarshalJSON() ([]byte, error) {
	w := wireDevice{plainDevice: (*plainDevice)(&d), Memory: &d.Memory, Health: &d.Health}
	if d.PCIID != 0 {
		w.PCIID = pciText(d.PCIID)
	}
	for _, g := range d.MIG {
		m := wireMIG{UUID: g.UUID, Profile: g.Profile, GI: &g.GI, CI: &g.CI, Memory: g.Memory}
		if g.GI < 0 {
			m.GI = nil
		}
		if g.CI < 0 {
			m.CI = nil
		}
		w.MIG = append(w.MIG, m)
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads the form of MarshalJSON; unknown members and enumeration
// values are errors.
func (d *Device) UnmarshalJSON(b []byte) error {
	var out Device
	w := wireDevice{plainDevice: (*plainDevice)(&out), Memory: &out.Memory, Health: &out.Health}
	if err := strict(b, &w); err != nil {
		return err
	}
	for _, g := range w.MIG {
		m := MIGDevice{UUID: g.UUID, Profile: g.Profile, GI: -1, CI: -1, Memory: g.Memory}
		if g.GI != nil {
			m.GI = *g.GI
		}
		if g.CI != nil {
			m.CI = *g.CI
		}
		out.MIG = append(out.MIG, m)
	}
	if w.PCIID != "" {
		n, _ := strconv.ParseUint(strings.Replace(w.PCIID, ":", "", 1), 16, 32)
		if out.PCIID = uint32(n); pciText(out.PCIID) != w.PCIID {
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
	if s.Devices == nil {
		s.Devices = []Device{}
	}
	return json.Marshal(wireSnapshot{(*plainSnapshot)(&s), s.Took.Milliseconds()})
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
	var s Snapshot
	w := wireSnapshot{plainSnapshot: (*plainSnapshot)(&s)}
	if err := strict(b, &w); err != nil {
		return Snapshot{}, fmt.Errorf("decode snapshot: %w", err)
	}
	s.Took = time.Duration(w.TookMS) * time.Millisecond
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
