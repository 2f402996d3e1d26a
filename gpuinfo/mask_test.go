package gpuinfo_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

const (
	uuidA = "GPU-aaaaaaaa-0000-1111-2222-333333333333"
	uuidB = "GPU-aaaaaaaa-0000-1111-2222-444444444444"
	slice = "MIG-11111111-0000-1111-2222-666666666666"
)

// mixedMachine has two cards whose UUIDs begin alike, a split one, one of AMD and a
// lost one.
func mixedMachine() gpuinfo.Snapshot {
	card := func(i int, vendor, uuid, bus string) gpuinfo.Device {
		return gpuinfo.Device{
			Index: i, Vendor: vendor, UUID: uuid, BusID: bus, Health: gpuinfo.Health{State: gpuinfo.Healthy},
			Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: new(uint64(24 << 30)), Free: new(uint64(20 << 30))},
		}
	}
	split := card(2, "nvidia", "GPU-cccccccc-0000-1111-2222-555555555555", "0000:03:00.0")
	split.MIGEnabled = true
	for _, uuid := range []string{slice, "MIG-22222222-0000-1111-2222-777777777777", "MIG-GPU-cccccccc-0000-1111-2222-555555555555/9/0"} {
		split.MIG = append(split.MIG, gpuinfo.MIGDevice{UUID: uuid, Memory: gpuinfo.Memory{Kind: gpuinfo.Slice, Total: new(uint64(10 << 30))}})
	}
	lost := card(4, "nvidia", "GPU-dddddddd-0000-1111-2222-888888888888", "0000:05:00.0")
	lost.Health.State = gpuinfo.Lost
	return gpuinfo.Snapshot{Reason: gpuinfo.OK, Devices: []gpuinfo.Device{
		card(0, "nvidia", uuidA, "0000:01:00.0"), card(1, "nvidia", uuidB, "0000:02:00.0"), split, card(3, "amd", "GPU-0123456789abcdef", "0000:04:00.0"), lost,
	}}
}

func maskFailure(t *testing.T, err error) string {
	t.Helper()
	e, ok := errors.AsType[*gpuinfo.MaskError](err)
	if !ok {
		t.Fatalf("err = %v, want a *MaskError", err)
	}
	return fmt.Sprintf("!%s %d", e.Reason, e.Position)
}

func maskRows(t testing.TB) (rows [][3]string) {
	b, err := os.ReadFile("testdata/masks.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); !strings.HasPrefix(line, "#") && len(f) == 3 {
			rows = append(rows, [3]string(f))
		}
	}
	if len(rows) < 70 {
		t.Fatalf("%d masks in the table", len(rows))
	}
	return rows
}

// TestMaskTable proves GPU-28 (grammar) and GPU-29 (resolution) row by row.
func TestMaskTable(t *testing.T) {
	s := mixedMachine()
	for _, row := range maskRows(t) {
		m, err := gpuinfo.ParseMask(row[0])
		if err != nil {
			if got := maskFailure(t, err); got != row[1] {
				t.Errorf("ParseMask(%q): %s, want %s", row[0], got, row[1])
			}
			if m.Restricts() {
				t.Errorf("ParseMask(%q): a mask beside an error", row[0])
			}
			continue
		}
		if m.String() != row[1] {
			t.Errorf("ParseMask(%q) = %q, want %q", row[0], m, row[1])
		}
		if m.Restricts() != (row[2] != "*") || m.CPUOnly() != (row[2] == "-") {
			t.Errorf("ParseMask(%q): Restricts %v, CPUOnly %v", row[0], m.Restricts(), m.CPUOnly())
		}
		units, err := m.Resolve(s)
		got := "-"
		switch {
		case err != nil:
			got = maskFailure(t, err)
			if units != nil {
				t.Errorf("G6: Resolve(%q): units beside an error", row[0])
			}
		case !m.Restricts() && len(units) == len(s.Units()):
			got = "*"
		case len(units) > 0:
			var uuids []string
			for _, u := range units {
				uuids = append(uuids, u.UUID)
			}
			got = strings.Join(uuids, " ")
		}
		if got != row[2] {
			t.Errorf("Resolve(%q): %s, want %s", row[0], got, row[2])
		}
	}
}

// TestMaskBounds (GPU-28): 64 entries and 1 KiB.
func TestMaskBounds(t *testing.T) {
	entries := make([]string, 65)
	for i := range entries {
		entries[i] = strconv.Itoa(i)
	}
	if m, err := gpuinfo.ParseMask(strings.Join(entries[:64], ",")); err != nil || m.String() != strings.Join(entries[:64], ",") {
		t.Errorf("64 entries: %v", err)
	}
	if _, err := gpuinfo.ParseMask(strings.Join(entries, ",")); maskFailure(t, err) != "!syntax -1" {
		t.Errorf("65 entries: %v", err)
	}
	if _, err := gpuinfo.ParseMask("0" + strings.Repeat(" ", 1023)); err != nil {
		t.Errorf("1 KiB: %v", err)
	}
	if _, err := gpuinfo.ParseMask("0" + strings.Repeat(" ", 1024)); maskFailure(t, err) != "!syntax -1" {
		t.Errorf("more than 1 KiB: %v", err)
	}
}

// TestMaskErrorText: an error says what to do, and repeats at most 32 bytes, quoted.
func TestMaskErrorText(t *testing.T) {
	_, err := gpuinfo.ParseMask("0,\x1b[2Jevil" + strings.Repeat("x", 100))
	if text := err.Error(); strings.Contains(text, "\x1b") || strings.Count(text, "x") > 32 || !strings.Contains(text, "entry 2") {
		t.Errorf("error = %q", text)
	}
	_, err = mask(t, "2").Resolve(mixedMachine())
	if !strings.Contains(err.Error(), slice) {
		t.Errorf("GPU-29: the error of a split device does not name its slices: %v", err)
	}
	_, err = mask(t, "0,7").Resolve(mixedMachine())
	if e, _ := errors.AsType[*gpuinfo.MaskError](err); e == nil || e.Devices != 7 {
		t.Errorf("GPU-29: the error does not count the units: %v", err)
	}
}

func mask(t testing.TB, s string) gpuinfo.Mask {
	t.Helper()
	m, err := gpuinfo.ParseMask(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestMaskResolvesBrokenDevices (GPU-29): a lost device resolves, and is not usable.
func TestMaskResolvesBrokenDevices(t *testing.T) {
	units, err := mask(t, "4,0").Resolve(mixedMachine())
	if err != nil || len(units) != 2 || units[0].Usable() || !units[1].Usable() {
		t.Errorf("units = %v, %v", units, err)
	}
}

// TestMaskResolveModel (GPU-29): Resolve is what a plain loop finds, in its order.
func TestMaskResolveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := randomMachine(t)
		picks := rapid.SliceOfNDistinct(rapid.IntRange(0, 12), 1, 8, rapid.ID[int]).Draw(t, "picks")
		form := rapid.IntRange(0, 3).Draw(t, "form")
		var entries, want []string
		missing := -1
		for i, p := range picks {
			at := slices.IndexFunc(s.Devices, func(d gpuinfo.Device) bool { return d.Index == p })
			d := gpuinfo.Device{Index: p, UUID: testUUID(p), BusID: testBus(p)}
			if at < 0 && missing < 0 {
				missing = i
			}
			entries = append(entries, []string{strconv.Itoa(p), "GPU" + strconv.Itoa(p), d.UUID, d.BusID}[form])
			want = append(want, d.UUID)
		}
		m, err := gpuinfo.ParseMask(strings.Join(entries, ","))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := gpuinfo.ParseMask(m.String()); err != nil || again.String() != m.String() {
			t.Fatalf("%q does not survive String and Parse: %v", m, err)
		}
		units, err := m.Resolve(s)
		if missing >= 0 {
			e, ok := errors.AsType[*gpuinfo.MaskError](err)
			if !ok || e.Reason != "unknown_device" || e.Position != missing || e.Devices != len(s.Devices) {
				t.Fatalf("Resolve(%q) = %v, want entry %d unknown", m, err, missing)
			}
			return
		}
		if err != nil || !slices.EqualFunc(units, want, func(u gpuinfo.Unit, uuid string) bool { return u.UUID == uuid }) {
			t.Fatalf("Resolve(%q) = %v, %v; want %v", m, units, err, want)
		}
	})
}

func testUUID(i int) string { return fmt.Sprintf("GPU-%08x-0000-1111-2222-333333333333", i*7919+17) }
func testBus(i int) string  { return fmt.Sprintf("0000:%02x:00.0", i+1) }

// randomMachine has up to 10 NVIDIA devices with gaps in their numbers.
func randomMachine(t *rapid.T) gpuinfo.Snapshot {
	var s gpuinfo.Snapshot
	for i := range 10 {
		if rapid.Bool().Draw(t, "present") {
			s.Devices = append(s.Devices, gpuinfo.Device{
				Index: i, Vendor: "nvidia", UUID: testUUID(i), BusID: testBus(i), Health: gpuinfo.Health{State: gpuinfo.Healthy},
				Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: new(uint64(1 << 30)), Free: new(uint64(1 << 30))},
			})
		}
	}
	return s
}

// FuzzParseMask: no input panics, and what is accepted survives String and Parse.
func FuzzParseMask(f *testing.F) {
	for _, row := range maskRows(f) {
		f.Add(row[0])
	}
	s := mixedMachine()
	f.Fuzz(func(t *testing.T, text string) {
		m, err := gpuinfo.ParseMask(text)
		if err != nil {
			if e, ok := errors.AsType[*gpuinfo.MaskError](err); !ok || len(e.Entry) > 4*32+2 {
				t.Fatalf("ParseMask(%q): %v", text, err)
			}
			return
		}
		again, err := gpuinfo.ParseMask(m.String())
		if err != nil || again.String() != m.String() || again.Restricts() != m.Restricts() || again.CPUOnly() != m.CPUOnly() {
			t.Fatalf("ParseMask(%q) = %q, read back as %q, %v", text, m, again, err)
		}
		units, err := m.Resolve(s)
		if err == nil && m.Restricts() && !m.CPUOnly() && len(units) != strings.Count(m.String(), ",")+1 {
			t.Fatalf("G6: Resolve(%q) dropped entries: %v", m, units)
		}
		base := []string{"A=1", "CUDA_VISIBLE_DEVICES=7"}
		for _, indices := range []bool{false, true} {
			if env, err := m.Env(s, base, indices); err == nil && slices.Contains(env, base[1]) {
				t.Fatalf("Env(%q) keeps an inherited mask", m)
			}
		}
	})
}
