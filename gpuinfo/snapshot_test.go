package gpuinfo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"os"
	"testing"

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
	if total, free := golden(t, "h100_mig").Totals(); total != (40+10+40)<<30+81559<<20 || free != 81008<<20 {
		t.Errorf("Totals of a split and a whole card = %d, %d", total, free)
	}
	if total, free := golden(t, "lost").Totals(); total != 24576<<20 || free != 23821<<20 {
		t.Errorf("Totals beside a lost card = %d, %d", total, free)
	}
}

// TestTotalsModel: Totals equals sums in big numbers, cut at the largest uint64.
func TestTotalsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		want := [2]*big.Int{new(big.Int), new(big.Int)}
		for _, u := range s.Units() {
			for i, v := range []*uint64{u.Memory().Total, u.Memory().Free} {
				if u.Usable() && v != nil {
					want[i].Add(want[i], new(big.Int).SetUint64(*v))
				}
			}
		}
		total, free := s.Totals()
		for i, got := range []uint64{total, free} {
			limit := new(big.Int).SetUint64(math.MaxUint64)
			if want[i].Cmp(limit) > 0 {
				want[i] = limit
			}
			if want[i].Cmp(new(big.Int).SetUint64(got)) != 0 {
				t.Fatalf("Totals = %d, %d; want %v", total, free, want)
			}
		}
	})
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

func FuzzLoadSnapshot(f *testing.F) {
	for _, name := range []string{"h200x8", "lost", "empty", "h100_mig", "gb10"} {
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
		again, err := json.Marshal(back)
		if err != nil || !bytes.Equal(wire, again) {
			t.Fatalf("not equal:\n%s\n%s", wire, again)
		}
	})
}
