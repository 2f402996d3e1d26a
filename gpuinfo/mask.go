package gpuinfo

import (
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
	switch text += ": "; e.Reason {
	case "unknown_device":
		return text + "no such device among " + strconv.Itoa(e.Devices)
	case "duplicate":
		return text + "the device is named twice"
	case "mixed":
		return text + "entries differ in form or vendor"
	case "ambiguous":
		return text + "more than one device matches"
	case "mig_parent":
		return text + "the device is split; its slices are [" + strings.Join(e.Slices, " ") + "]"
	case "mig_many":
		return text + "CUDA shows a process one MIG slice only"
	case "mig_index":
		return text + "a MIG slice has no index"
	default:
		return text + "not an index, GPU<n>, UUID, UUID prefix, MIG UUID or bus id"
	}
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
	return &MaskError{Position: position, Reason: reason, Entry: strconv.QuoteToASCII(entry[:min(len(entry), maxEcho)])}
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
		rest = strings.ToLower(rest)
		if isUUID(rest) {
			return formMIG, "MIG-" + rest
		}
		if rest, ok := oldMIG(rest); ok {
			return formMIG, "MIG-" + rest
		}
	}
	return formAll, ""
}

// oldMIG reads "gpu-<uuid>/<gi>/<ci>", as drivers before 470 named slices.
func oldMIG(s string) (string, bool) {
	parts := strings.Split(s, "/")
	uuid, ok := strings.CutPrefix(parts[0], "gpu-")
	if len(parts) != 3 || !ok || !isUUID(uuid) || !isIndex(parts[1]) || !isIndex(parts[2]) {
		return "", false
	}
	return "GPU-" + strings.TrimPrefix(s, "gpu-"), true
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
	if len(s) <= 16 && !strings.Contains(s, "-") {
		return isHexOrDash(s)
	}
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !isHex(s[i]) {
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
		u, err := m.find(s, all, i)
		switch {
		case err != nil:
			return nil, err
		case slices.ContainsFunc(out, func(o Unit) bool { return same(o, u) }):
			return nil, maskError(i, "duplicate", entry)
		case i > 0 && u.Vendor != out[0].Vendor:
			return nil, maskError(i, "mixed", entry)
		case i > 0 && u.MIG != nil:
			return nil, maskError(i, "mig_many", entry)
		}
		out = append(out, u)
	}
	return out, nil
}

func (m Mask) find(s Snapshot, all []Unit, i int) (Unit, error) {
	entry := m.entries[i]
	if m.form == formMIG {
		if at := slices.IndexFunc(all, func(u Unit) bool { return u.MIG != nil && strings.EqualFold(u.UUID, entry) }); at >= 0 {
			return all[at], nil
		}
		return Unit{}, unknown(i, entry, len(all))
	}
	d, err := s.Lookup(entry)
	switch {
	case errors.Is(err, ErrAmbiguous):
		return Unit{}, maskError(i, "ambiguous", entry)
	case err != nil:
		return Unit{}, unknown(i, entry, len(all))
	case d.MIGEnabled:
		e := maskError(i, "mig_parent", entry)
		for _, slice := range d.MIG {
			e.Slices = append(e.Slices, slice.UUID)
		}
		return Unit{}, e
	}
	return Unit{Index: d.Index, UUID: d.UUID, Vendor: d.Vendor, Device: d}, nil
}

func unknown(position int, entry string, devices int) *MaskError {
	e := maskError(position, "unknown_device", entry)
	e.Devices = devices
	return e
}

func same(a, b Unit) bool {
	return a.Index == b.Index && a.UUID == b.UUID
}
