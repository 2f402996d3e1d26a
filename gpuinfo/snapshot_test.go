package gpuinfo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

func golden(t testing.TB, name string) gpuinfo.Snapshot {
	t.Helper()
	f, err := os.Open("testdata/smi/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := gpuinfo.LoadSnapshot(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLookup(t *testing.T) {
	s := golden(t, "h200x8")
	for _, id := range []string{"3", "GPU3", "GPU-00000003-aaaa-bbbb-cccc-000000000003", "GPU-00000003", "00000003-aaaa", "0000:5d:00.0", "00000000:5D:00.0"} {
		d, err := s.Lookup(id)
		if err != nil || d.Index != 3 {
			t.Errorf("Lookup(%q) = %d, %v; want device 3", id, d.Index, err)
		}
	}
	for id, want := range map[string]error{
		"8": gpuinfo.ErrUnknownDevice, "03": gpuinfo.ErrUnknownDevice, "+3": gpuinfo.ErrUnknownDevice, "-1": gpuinfo.ErrUnknownDevice,
		"": gpuinfo.ErrUnknownDevice, "GPU": gpuinfo.ErrUnknownDevice, "GPU-0000000": gpuinfo.ErrUnknownDevice,
	} {
		if _, err := s.Lookup(id); !errors.Is(err, want) {
			t.Errorf("Lookup(%q) = %v, want %v", id, err, want)
		}
	}
	same := s
	same.Devices = append([]gpuinfo.Device(nil), s.Devices...)
	same.Devices[1].UUID = s.Devices[0].UUID
	if _, err := same.Lookup("GPU-00000000"); !errors.Is(err, gpuinfo.ErrAmbiguous) {
		t.Errorf("Lookup of a shared prefix = %v, want ErrAmbiguous", err)
	}
}

// TestTrap_SumOverflow: totals stop at the largest number.
func TestTrap_SumOverflow(t *testing.T) {
	big := uint64(math.MaxUint64 - 1)
	d := gpuinfo.Device{Vendor: "nvidia", Health: gpuinfo.Health{State: gpuinfo.Healthy}, Memory: gpuinfo.Memory{Total: &big, Free: &big}}
	total, free := gpuinfo.Snapshot{Devices: []gpuinfo.Device{d, d}}.Totals()
	if total != math.MaxUint64 || free != math.MaxUint64 {
		t.Errorf("Totals = %d, %d", total, free)
	}
}

func TestMemoryAndFits(t *testing.T) {
	d := golden(t, "rtx3090_3060").Devices[0]
	const gib = 1 << 30
	if got := d.Memory.Available(4*gib, 16*gib); got != 4*gib {
		t.Errorf("Available = %d, want 4 GiB", got)
	}
	if got := d.Memory.Available(math.MaxUint64, math.MaxUint64); got != 0 {
		t.Errorf("Available under a huge reserve = %d", got)
	}
	if got := (gpuinfo.Memory{}).Available(0, 0); got != 0 {
		t.Errorf("Available of unknown memory = %d", got)
	}
	for _, c := range []struct {
		need     uint64
		headroom float64
		want     bool
	}{
		{23821 << 20, 0, true},
		{23821<<20 + 1, 0, false},
		{23000 << 20, 0.10, false},
		{20000 << 20, 0.10, true},
		{1, math.NaN(), false},
		{1, math.Inf(1), false},
		{1, -0.5, false},
		{math.MaxUint64, 0, false},
	} {
		if got := d.Fits(c.need, c.headroom); got != c.want {
			t.Errorf("Fits(%d, %g) = %v, want %v", c.need, c.headroom, got, c.want)
		}
	}
	if got, want := d.Memory.String(), "dedicated, 23821 of 24576 MiB free"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	if !d.Compute.AtLeast(8, 0) || d.Compute.AtLeast(9, 0) || (gpuinfo.Capability{}).AtLeast(0, 0) {
		t.Error("AtLeast compares wrongly")
	}
}

// TestMIGParentIsNotUsable (GPU-14): a card that is split gets no whole-card work.
func TestMIGParentIsNotUsable(t *testing.T) {
	s := golden(t, "h100_mig")
	if s.Devices[0].Usable() || !s.Devices[1].Usable() {
		t.Error("only device 1 is usable as a whole")
	}
}

// TestJSONRoundTrip (GPU-5): LoadSnapshot(Marshal(s)) equals s.
func TestJSONRoundTrip(t *testing.T) {
	word := rapid.StringMatching(`[ -~]{0,30}`)
	number := rapid.Ptr(rapid.Uint64(), true)
	rapid.Check(t, func(t *rapid.T) {
		s := gpuinfo.Snapshot{
			Detail: word.Draw(t, "detail"), Provider: "p", Stale: rapid.Bool().Draw(t, "stale"),
			At:   time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "at"), 5000).UTC(),
			Took: time.Duration(rapid.IntRange(0, 9999).Draw(t, "took")) * time.Millisecond,
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "n") {
			s.Devices = append(s.Devices, gpuinfo.Device{
				Index: i, Name: word.Draw(t, "name"), Vendor: "nvidia", UUID: "u", Compute: gpuinfo.Capability{Major: 8, Minor: i},
				Memory:     gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: number.Draw(t, "total"), Free: number.Draw(t, "free"), Source: "x"},
				MIGEnabled: rapid.Bool().Draw(t, "mig"),
				TempC:      rapid.Ptr(rapid.IntRange(0, 99), true).Draw(t, "temp"),
				Health:     gpuinfo.Health{State: rapid.SampledFrom([]gpuinfo.State{"ok", "degraded", "failed", "lost"}).Draw(t, "state")},
			})
		}
		filled, err := gpuinfo.Static(s).Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.Reason = filled.Reason
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := gpuinfo.LoadSnapshot(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("LoadSnapshot: %v\n%s", err, b)
		}
		if !reflect.DeepEqual(s, back) {
			t.Fatalf("got %+v\nwant %+v", back, s)
		}
	})
}

func TestLoadSnapshotRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":         ``,
		"array":         `[]`,
		"unknown":       `{"reason":"no_device","devices":[],"x":1}`,
		"trailing":      `{"reason":"no_device","devices":[]} {}`,
		"reason":        `{"reason":"hello","devices":[]}`,
		"contradiction": `{"reason":"ok","devices":[]}`,
		"vendor":        `{"reason":"failed","devices":[{"index":0,"vendor":"acme","health":"ok"}]}`,
		"health":        `{"reason":"failed","devices":[{"index":0,"vendor":"nvidia","health":"great"}]}`,
		"duplicate":     `{"reason":"failed","devices":[{"index":0,"vendor":"nvidia","health":"ok"},{"index":0,"vendor":"nvidia","health":"ok"}]}`,
		"took":          `{"reason":"no_device","took_ms":-1,"devices":[]}`,
		"large":         `{"reason":"no_device","detail":"` + strings.Repeat("a", 2<<20) + `"}`,
		"capability":    `{"reason":"failed","devices":[{"index":0,"vendor":"nvidia","health":"ok","compute_capability":"SECRET"}]}`,
	} {
		_, err := gpuinfo.LoadSnapshot(strings.NewReader(in))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: error repeats the input: %v", name, err)
		}
	}
}

func FuzzLoadSnapshot(f *testing.F) {
	for _, name := range []string{"h200x8", "lost", "empty"} {
		b, err := os.ReadFile("testdata/smi/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := gpuinfo.LoadSnapshot(bytes.NewReader(b))
		if err != nil {
			return
		}
		wire, err := json.Marshal(s)
		if err != nil {
			t.Skip() // a year beyond 9999
		}
		back, err := gpuinfo.LoadSnapshot(bytes.NewReader(wire))
		if err != nil {
			t.Fatalf("not stable: %v", err)
		}
		if s.Reason != back.Reason || len(s.Devices) != len(back.Devices) {
			t.Fatal("not equal")
		}
	})
}
