package gpuinfo

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Limits of masks.
const (
	maxMask  = 1 << 10
	maxParts = 64 // entries of a mask, ratios of a split
	maxEcho  = 32 // bytes of an entry that an error repeats
)

// maskForm is one way to name a device. All entries of a mask have the same form.
type maskForm int

const (
	formAll    maskForm = iota // the empty mask: no restriction
	formCPU                    // no device at all
	formIndex                  // 0
	formName                   // GPU0
	formUUID                   // GPU-8-4-4-4-12
	formPrefix                 // GPU- and at least 8 hexadecimal digits
	formMIG                    // MIG-…
	formBus                    // 0000:3b:00.0
)

// Mask says which GPUs a program may use. The zero value is the empty mask: no
// restriction. Masks are immutable values.
type Mask struct {
	form    maskForm
	entries []string // canonical: lower-case hexadecimal digits
}

// MaskError says which entry of a mask is wrong, and why.
type MaskError struct {
	Position int      // of the entry, from 0; −1: the mask as a whole
	Reason   string   // syntax unknown_device duplicate mixed ambiguous mig_parent mig_many mig_index
	Entry    string   // the entry, quoted, at most 32 bytes of it; "" for the mask as a whole
	Devices  int      // unknown_device: how many units there are
	Slices   []string // mig_parent: what to name instead
}

// Error is one line for people.
func (e *MaskError) Error() string {
	text := "gpuinfo: device mask"
	if e.Position >= 0 {
		text += ": entry " + strconv.Itoa(e.Position+1) + " (" + e.Entry + ")"
	}
	return text + ": " + cmp.Or(map[string]string{
		"unknown_device": "no such device among " + strconv.Itoa(e.Devices),
		"duplicate":      "the device is named twice",
		"mixed":          "entries differ in form or vendor",
		"ambiguous":      "more than one device matches",
		"mig_parent":     "the device is split; its slices are [" + strings.Join(e.Slices, " ") + "]",
		"mig_many":       "CUDA shows a process one MIG slice only",
		"mig_index":      "a MIG slice has no index",
	}[e.Reason], "not an index, GPU<n>, UUID, UUID prefix, MIG UUID or bus id")
}

// ParseMask reads a device mask. "" (or blanks) restricts nothing; "cpu" and "none"
// mean no device. Anything else is 1 to 64 entries separated by commas, with blanks
// around them allowed, all of one form:
//
//	0  GPU0  GPU-8932f937-d72c-4106-c12f-20bd9faed9f6  GPU-8932f937  MIG-…  0000:3b:00.0
//
// Order is kept. Mixed forms, duplicates, leading zeros, signs, empty entries, more
// than 1 KiB and other words are refused with a [*MaskError]; nothing is dropped.
func ParseMask(s string) (Mask, error) {
	if len(s) > maxMask {
		return Mask{}, &MaskError{Position: -1, Reason: "syntax"}
	}
	switch s = strings.Trim(s, " \t"); s {
	case "":
		return Mask{}, nil
	case "cpu", "none":
		return Mask{form: formCPU}, nil
	}
	var m Mask
	for entry := range strings.SplitSeq(s, ",") {
		at := len(m.entries)
		entry = strings.Trim(entry, " \t")
		form, canonical := readEntry(entry)
		switch {
		case at == maxParts:
			return Mask{}, &MaskError{Position: -1, Reason: "syntax"}
		case form == formAll:
			return Mask{}, maskError(at, "syntax", entry)
		case at > 0 && form != m.form:
			return Mask{}, maskError(at, "mixed", entry)
		case slices.Contains(m.entries, canonical):
			return Mask{}, maskError(at, "duplicate", entry)
		}
		m.form = form
		m.entries = append(m.entries, canonical)
	}
	return m, nil
}

func maskError(position int, reason, entry string) *MaskError {
	return &MaskError{Position: position, Reason: reason, Entry: quotedEntry(entry)}
}

func quotedEntry(entry string) string {
	return strconv.QuoteToASCII(entry[:min(len(entry), maxEcho)])
}

// readEntry returns the form of one entry and its canonical text; formAll: none.
func readEntry(s string) (maskForm, string) {
	if number, named := strings.CutPrefix(s, "GPU"); isIndex(number) {
		if named {
			return formName, s
		}
		return formIndex, s
	}
	if bus, ok := normalBusID(s); ok {
		return formBus, bus
	}
	if rest, ok := strings.CutPrefix(s, "GPU-"); ok {
		rest = strings.ToLower(rest)
		switch {
		case isUUID(rest):
			return formUUID, "GPU-" + rest
		case isUUIDPrefix(rest):
			return formPrefix, "GPU-" + rest
		}
	}
	if rest, ok := strings.CutPrefix(s, "MIG-"); ok {
		if rest = strings.ToLower(rest); isUUID(rest) {
			return formMIG, "MIG-" + rest
		}
		// Drivers before 470: MIG-GPU-<uuid>/<GPU instance>/<compute instance>.
		parts := strings.Split(rest, "/")
		if uuid, ok := strings.CutPrefix(parts[0], "gpu-"); ok && len(parts) == 3 && isUUID(uuid) && isIndex(parts[1]) && isIndex(parts[2]) {
			return formMIG, "MIG-GPU-" + strings.TrimPrefix(rest, "gpu-")
		}
	}
	return formAll, ""
}

func isIndex(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == s
}

func isUUID(s string) bool {
	return len(s) == 36 && isUUIDPrefix(s)
}

// isUUIDPrefix accepts the beginning of 8-4-4-4-12 with at least 8 digits, and the
// 16 digits without a dash that AMD uses.
func isUUIDPrefix(s string) bool {
	if len(s) < 8 || len(s) > 36 {
		return false
	}
	if len(s) <= 16 && consists(s, hexDigits) {
		return true
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !consists(s[i:i+1], hexDigits) {
			return false
		}
	}
	return true
}

// String returns the canonical text of the mask; [ParseMask] reads it back.
func (m Mask) String() string {
	if m.form == formCPU {
		return "cpu"
	}
	return strings.Join(m.entries, ",")
}

// Restricts reports whether the mask excludes anything: all but the empty mask do.
func (m Mask) Restricts() bool { return m.form != formAll }

// CPUOnly reports whether the mask allows no device.
func (m Mask) CPUOnly() bool { return m.form == formCPU }

// Resolve finds the units that the mask names, in its order: all units of s for the
// empty mask, none for "cpu". It resolves all entries or none. A unit that is found
// may still be broken: see [Unit.Usable]. Its errors are of type [*MaskError].
func (m Mask) Resolve(s Snapshot) ([]Unit, error) {
	if !m.Restricts() {
		return s.Units(), nil
	}
	all := s.Units()
	var out []Unit
	for i, entry := range m.entries {
		u, e := m.find(s, all, entry)
		switch {
		case e != nil:
		case slices.ContainsFunc(out, func(o Unit) bool { return o.Index == u.Index && o.UUID == u.UUID }):
			e = &MaskError{Reason: "duplicate"}
		case i > 0 && u.Vendor != out[0].Vendor:
			e = &MaskError{Reason: "mixed"}
		case i > 0 && u.MIG != nil:
			e = &MaskError{Reason: "mig_many"}
		}
		if e != nil {
			e.Position, e.Entry = i, quotedEntry(entry)
			return nil, e
		}
		out = append(out, u)
	}
	return out, nil
}

// find returns the unit that an entry names; its error lacks position and entry.
func (m Mask) find(s Snapshot, all []Unit, entry string) (Unit, *MaskError) {
	at := slices.IndexFunc(all, func(u Unit) bool { return u.MIG != nil && strings.EqualFold(u.UUID, entry) })
	if m.form == formMIG && at >= 0 {
		return all[at], nil
	}
	d, err := s.Lookup(entry)
	switch {
	case errors.Is(err, ErrAmbiguous):
		return Unit{}, &MaskError{Reason: "ambiguous"}
	case err != nil:
		return Unit{}, &MaskError{Reason: "unknown_device", Devices: len(all)}
	case d.MIGEnabled:
		e := &MaskError{Reason: "mig_parent"}
		for _, slice := range d.MIG {
			e.Slices = append(e.Slices, slice.UUID)
		}
		return Unit{}, e
	}
	return Unit{Index: d.Index, UUID: d.UUID, Vendor: d.Vendor, Device: d}, nil
}
