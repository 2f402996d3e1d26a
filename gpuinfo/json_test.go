package gpuinfo_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

// fullDevice has every field set.
func fullDevice() gpuinfo.Device {
	n := func(v uint64) *uint64 { return &v }
	temp, util, ecc := 41, 7, int64(2)
	at := time.Date(2025, 10, 1, 2, 3, 4, 0, time.UTC)
	return gpuinfo.Device{
		Index: 3, UUID: "GPU-5f1c2a6e-0b5d-4a43-9c6e-2f7f0c1d9a01", BusID: "0000:01:00.0", Name: "NVIDIA H100", Vendor: "nvidia", PCIID: 0x10de2330,
		Compute: gpuinfo.Capability{Major: 9}, Driver: "550.1", TempC: &temp, UtilPercent: &util, ECCUncorrected: &ecc, MIGEnabled: true,
		Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: n(10), Used: n(0), Free: n(8), Reserved: n(1), Source: "nvidia-smi", At: at},
		MIG: []gpuinfo.MIGDevice{
			{UUID: "MIG-a", Profile: "1g.10gb", GI: 0, CI: -1, Memory: gpuinfo.Memory{Kind: gpuinfo.Slice, Total: n(5), Free: n(5), Source: "nvml"}},
		},
		Health: gpuinfo.Health{State: gpuinfo.Degraded, Recovery: gpuinfo.RestartApp, Since: at, Causes: []string{"xid 31"}},
		Notes:  []gpuinfo.Note{{Field: "mig", Why: "nominal"}},
	}
}

// TestJSONMembers is GPU-5's list of names; what is not known is left out.
func TestJSONMembers(t *testing.T) {
	members := func(d gpuinfo.Device) (names []string, raw map[string]any) {
		t.Helper()
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &raw); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(raw)), raw
	}
	names, raw := members(fullDevice())
	want := []string{
		"compute_capability", "driver_version", "ecc_uncorrected", "health", "health_causes", "health_since", "index", "memory_at", "memory_kind",
		"memory_source", "mig", "mig_enabled", "name", "notes", "pci_bus_id", "pci_id", "recovery", "temperature_c", "utilization_percent", "uuid",
		"vendor", "vram_free_bytes", "vram_reserved_bytes", "vram_total_bytes", "vram_used_bytes",
	}
	if !slices.Equal(names, want) {
		t.Errorf("members %v,\nwant %v", names, want)
	}
	for name, value := range map[string]any{"compute_capability": "9.0", "pci_id": "10de:2330", "vram_used_bytes": 0.0, "memory_kind": "dedicated", "health": "degraded"} {
		if raw[name] != value {
			t.Errorf("%s = %v, want %v", name, raw[name], value)
		}
	}
	slice := raw["mig"].([]any)[0].(map[string]any)
	if got := slices.Sorted(maps.Keys(slice)); !slices.Equal(got, []string{"gi", "memory_kind", "memory_source", "profile", "uuid", "vram_free_bytes", "vram_total_bytes"}) {
		t.Errorf("members of a slice: %v", got)
	}
	names, _ = members(gpuinfo.Device{Vendor: "amd", Health: gpuinfo.Health{State: gpuinfo.Healthy}})
	if !slices.Equal(names, []string{"health", "index", "vendor"}) {
		t.Errorf("members of an unknown device: %v", names)
	}
}

// TestJSONRoundTrip (GPU-5): LoadSnapshot(Marshal(s)) equals s, every field of it.
func TestJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := gpuinfo.LoadSnapshot(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("LoadSnapshot: %v\n%s", err, b)
		}
		if !reflect.DeepEqual(s, back) {
			t.Fatalf("got  %+v\nwant %+v", back, s)
		}
	})
}

// drawSnapshot draws a valid snapshot; all of its parts may be known or not.
func drawSnapshot(t *rapid.T) gpuinfo.Snapshot {
	word := rapid.StringMatching(`[ -~é世]{0,20}`)
	number := rapid.Ptr(rapid.Uint64(), true)
	when := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "s"), 5000).UTC()
	})
	memory := func(kind gpuinfo.MemoryKind) gpuinfo.Memory {
		return gpuinfo.Memory{
			Kind: kind, Total: number.Draw(t, "total"), Used: number.Draw(t, "used"), Free: number.Draw(t, "free"),
			Reserved: number.Draw(t, "reserved"), Source: word.Draw(t, "source"), At: when.Draw(t, "read"),
		}
	}
	s := gpuinfo.Snapshot{
		Detail: word.Draw(t, "detail"), Provider: "p", Driver: word.Draw(t, "driver"), Stale: rapid.Bool().Draw(t, "stale"), At: when.Draw(t, "at"),
		Took: time.Duration(rapid.IntRange(0, 9999).Draw(t, "took")) * time.Millisecond,
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "n") {
		d := fullDevice()
		d.Index, d.Name, d.PCIID = 2*i, word.Draw(t, "name"), rapid.Uint32().Draw(t, "pci")
		d.Vendor = rapid.SampledFrom([]string{"nvidia", "amd", "intel", "other"}).Draw(t, "vendor")
		d.Memory = memory(rapid.SampledFrom([]gpuinfo.MemoryKind{"", gpuinfo.Dedicated, gpuinfo.Unified, gpuinfo.Carveout}).Draw(t, "kind"))
		d.Compute = gpuinfo.Capability{Major: rapid.IntRange(0, 20).Draw(t, "major"), Minor: i}
		d.TempC = rapid.Ptr(rapid.IntRange(-20, 99), true).Draw(t, "temp")
		d.Health.State = rapid.SampledFrom([]gpuinfo.State{"ok", "degraded", "failed", "lost"}).Draw(t, "state")
		d.Health.Since, d.Health.Causes, d.Notes, d.MIG = when.Draw(t, "since"), nil, nil, nil
		d.MIGEnabled = rapid.Bool().Draw(t, "split")
		if d.MIGEnabled {
			for j := range rapid.IntRange(0, 3).Draw(t, "slices") {
				d.MIG = append(d.MIG, gpuinfo.MIGDevice{UUID: "MIG-" + string(rune('a'+j)), Profile: word.Draw(t, "profile"), GI: j - 1, CI: j, Memory: memory(gpuinfo.Slice)})
			}
		}
		s.Devices = append(s.Devices, d)
	}
	filled, err := gpuinfo.Static(gpuinfo.Snapshot{Devices: s.Devices}).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Reason = filled.Reason; s.Reason != gpuinfo.OK {
		s.Reason = rapid.SampledFrom(ranking).Draw(t, "reason")
	}
	return s
}

// TestLoadSnapshotRefuses: GPU-5's strictness; the error names the member and never
// repeats the input.
func TestLoadSnapshotRefuses(t *testing.T) {
	device := func(members string) string {
		return `{"reason":"failed","devices":[{"index":0,"vendor":"nvidia","health":"ok"` + members + `}]}`
	}
	for in, names := range map[string]string{
		``:   "JSON",
		`[]`: "wrong type",
		`{"reason":"no_device","devices":[],"SECRET":1}`:                                       "JSON",
		`{"reason":"no_device","devices":[]} {"SECRET":1}`:                                     "bytes after",
		`{"reason":"SECRET","devices":[]}`:                                                     "reason",
		`{"reason":"ok","devices":[]}`:                                                         "contradicts",
		`{"reason":"no_device","took_ms":-1,"devices":[]}`:                                     "took_ms",
		`{"reason":"no_device","detail":"` + strings.Repeat("a", 300) + `"}`:                   "detail",
		`{"reason":"no_device","detail":"SECRET\u001b[31m"}`:                                   "detail",
		`{"reason":"no_device","detail":"` + strings.Repeat("a", 2<<20) + `"}`:                 "1 MiB",
		`{"reason":"failed","devices":[{"index":0,"vendor":"SECRET","health":"ok"}]}`:          "vendor",
		`{"reason":"failed","devices":[{"index":0,"vendor":"amd","health":"SECRET"}]}`:         "health",
		`{"reason":"failed","devices":[{"index":-1,"vendor":"amd","health":"ok"}]}`:            "index",
		`{"reason":"failed","devices":[{"index":65536,"vendor":"amd","health":"ok"}]}`:         "index",
		strings.Replace(device(""), `}]`, `},{"index":0,"vendor":"nvidia","health":"ok"}]`, 1): "devices[1]",
		device(`,"SECRET":1`):                                                                                 "JSON",
		device(`,"vram_total_bytes":"SECRET"`):                                                                "vram_total_bytes",
		device(`,"vram_total_bytes":-1`):                                                                      "vram_total_bytes",
		device(`,"compute_capability":"SECRET"`):                                                              "compute_capability",
		device(`,"pci_id":"SECRET"`):                                                                          "pci_id",
		device(`,"pci_id":"10DE:2330"`):                                                                       "pci_id",
		device(`,"pci_bus_id":"SECRET"`):                                                                      "pci_bus_id",
		device(`,"pci_bus_id":"00000000:01:00.0"`):                                                            "pci_bus_id",
		device(`,"recovery":"SECRET"`):                                                                        "recovery",
		device(`,"memory_kind":"SECRET"`):                                                                     "memory_kind",
		device(`,"memory_source":"SECRET\u0000"`):                                                             "memory_source",
		device(`,"name":"SECRET\u202e"`):                                                                      "name",
		device(`,"name":"` + strings.Repeat("a", 257) + `"`):                                                  "name",
		device(`,"mig":[{"uuid":"MIG-a"}]`):                                                                   "mig_enabled",
		device(`,"mig_enabled":true,"mig":[{"uuid":"MIG-a","gi":-2}]`):                                        "mig",
		device(`,"mig_enabled":true,"mig":[{"profile":"SECRET"}]`):                                            "mig",
		device(`,"mig_enabled":true,"mig":[{"uuid":"MIG-a","memory_kind":"SECRET"}]`):                         "memory_kind",
		device(`,"notes":[{"field":"` + strings.Repeat("a", 65) + `","why":"x"}]`):                            "text",
		device(`,"health_causes":[` + strings.Repeat(`"a",`, 16) + `"a"]`):                                    "health_causes",
		device(`,"notes":[` + strings.Repeat(`{"field":"a","why":"b"},`, 64) + `{"field":"a","why":"b"}]`):    "notes",
		device(`,"mig_enabled":true,"mig":[` + strings.Repeat(`{"uuid":"MIG-a"},`, 64) + `{"uuid":"MIG-a"}]`): "mig",
	} {
		short := in[:min(len(in), 120)]
		s, err := gpuinfo.LoadSnapshot(strings.NewReader(in))
		switch {
		case err == nil:
			t.Errorf("%s: accepted as %+v", short, s)
		case strings.Contains(err.Error(), "SECRET"):
			t.Errorf("%s: error repeats the input: %v", short, err)
		case !strings.Contains(err.Error(), names):
			t.Errorf("%s: error %q does not name %s", short, err, names)
		}
	}
	var many strings.Builder
	many.WriteString(`{"reason":"failed","devices":[`)
	for i := range 257 {
		if i > 0 {
			many.WriteByte(',')
		}
		b, err := json.Marshal(gpuinfo.Device{Index: i, Vendor: "amd", Health: gpuinfo.Health{State: gpuinfo.Lost}})
		if err != nil {
			t.Fatal(err)
		}
		many.Write(b)
	}
	if _, err := gpuinfo.LoadSnapshot(strings.NewReader(many.String() + "]}")); err == nil || !strings.Contains(err.Error(), "too many devices") {
		t.Errorf("257 devices: %v", err)
	}
}
