package gpuinfo_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

// TestParseList is GPU-14's grammar.
func TestParseList(t *testing.T) {
	for line, want := range map[string]uint64{
		"  MIG 1g.10gb     Device  0: (UUID: MIG-a)":    10 << 30,
		"MIG 1c.3g.20gb+me Device 12: (UUID: MIG-a)":    20 << 30,
		"MIG 7g.141gb Device 0: (UUID: MIG-a)":          141 << 30,
		"MIG 1g.10gb Device 0: (UUID: GPU-a)":           0,
		"MIG 1g.10gb Device 0: (UUID: MIG-a":            0,
		"MIG 1g.10gb Device: (UUID: MIG-a)":             0,
		"MIG 1g.tengb Device 0: (UUID: MIG-a)":          0,
		"MIG 10gb Device 0: (UUID: MIG-a)":              0,
		"MIG 1g.99999999999gb Device 0: (UUID: MIG-a)":  0,
		"MIG 1x.1g.10gb Device 0: (UUID: MIG-a)":        0,
		"MIG 1g.-1gb Device 0: (UUID: MIG-a)":           0,
		"MIG 1g.10gb Device 0: (UUID: MIG-a b)":         0,
		"GIM 1g.10gb Device 0: (UUID: MIG-a)":           0,
		"MIG 1g.10gb Device 0: (UUID: MIG-\x1b[31mred)": 0,
	} {
		got := gpuinfo.ParseList([]byte("GPU 3: H100 (UUID: GPU-b)\n" + line + "\n"))[3]
		switch {
		case want == 0 && len(got) != 0:
			t.Errorf("%q = %+v, want nothing", line, got)
		case want != 0 && (len(got) != 1 || *got[0].Memory.Total != want || got[0].Memory.Free != nil || got[0].Memory.Kind != gpuinfo.Slice || got[0].UUID != "MIG-a"):
			t.Errorf("%q = %+v, want %d bytes, free unknown", line, got, want)
		}
	}
	// A device line that cannot be read takes no slices from the one before it.
	found := gpuinfo.ParseList([]byte("MIG 1g.10gb Device 0: (UUID: MIG-a)\nGPU 0: A\nGPU x: B\nMIG 1g.10gb Device 0: (UUID: MIG-a)\n"))
	if len(found) != 0 {
		t.Errorf("slices without a device: %+v", found)
	}
	g := gpuinfo.ParseList([]byte("GPU 0: A\nMIG 3g.20gb Device 0: (UUID: MIG-GPU-a/1/2)\nMIG 3g.20gb Device 1: (UUID: MIG-a)\nMIG 3g.20gb Device 2: (UUID: MIG-GPU-a/1/x)\n"))[0]
	if len(g) != 2 || g[0].GI != 1 || g[0].CI != 2 || g[1].GI != -1 || g[1].CI != -1 {
		t.Errorf("instances: %+v", g)
	}
	if n := len(gpuinfo.ParseList([]byte("GPU 0: A\n" + strings.Repeat("MIG 1g.10gb Device 0: (UUID: MIG-a)\n", 500)))[0]); n != 64 {
		t.Errorf("%d slices of one device, want at most 64", n)
	}
}

// TestParseProcesses is GPU-13: commas in names, unknown amounts, sums.
func TestParseProcesses(t *testing.T) {
	out := `GPU-a, 100, 1000, /opt/my engine, with a comma
GPU-a, 100, 24, /opt/my engine, with a comma
GPU-b, 100, 7, x
GPU-a, 200, [N/A], [Insufficient Permissions]
GPU-a, 200, 5, late
GPU-c, 300, 5, known
GPU-c, 300, [Not Supported], unknown
[N/A], 1, 1, nobody
GPU-a, 0, 1, zero
GPU-a, -5, 1, negative
GPU-a, 99999999999, 1, huge
GPU-a, 400, 99999999999999, absurd
GPU-a, 500
No running processes found
`
	got := gpuinfo.ParseProcesses([]byte(out))
	var text strings.Builder
	for _, p := range got {
		used := "?"
		if p.Used != nil {
			used = fmt.Sprint(*p.Used >> 20)
		}
		fmt.Fprintf(&text, "%s %d %s %q\n", p.UUID, p.PID, used, p.Name)
	}
	want := `GPU-a 100 1024 "/opt/my engine, with a comma"
GPU-b 100 7 "x"
GPU-a 200 ? ""
GPU-c 300 ? "known"
GPU-a 400 ? "absurd"
`
	if text.String() != want {
		t.Errorf("processes:\n%swant:\n%s", text.String(), want)
	}
	var many strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&many, "GPU-a, %d, 1, x\n", i+1)
	}
	if n := len(gpuinfo.ParseProcesses([]byte(many.String()))); n != 4096 {
		t.Errorf("%d processes, want at most 4096", n)
	}
}

// TestProcessSums (GPU-13): the sums over random rows equal a naive model's.
func TestProcessSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var out strings.Builder
		want := map[string]int64{}
		for range rapid.IntRange(0, 30).Draw(t, "rows") {
			pid := rapid.IntRange(1, 3).Draw(t, "pid")
			uuid := rapid.SampledFrom([]string{"GPU-a", "GPU-b"}).Draw(t, "uuid")
			used := rapid.Int64Range(-1, 1000).Draw(t, "used")
			value := fmt.Sprint(used)
			k := fmt.Sprint(uuid, pid)
			if used < 0 {
				value, want[k] = "[N/A]", math.MinInt32
			} else if want[k] >= 0 {
				want[k] += used
			}
			fmt.Fprintf(&out, "%s, %d, %s, x\n", uuid, pid, value)
		}
		got := gpuinfo.ParseProcesses([]byte(out.String()))
		if len(got) != len(want) {
			t.Fatalf("%d processes, want %d", len(got), len(want))
		}
		for _, p := range got {
			w := want[fmt.Sprint(p.UUID, p.PID)]
			if (p.Used == nil) != (w < 0) || p.Used != nil && *p.Used != uint64(w)<<20 {
				t.Fatalf("%s %d: %v, want %d MiB", p.UUID, p.PID, p.Used, w)
			}
		}
	})
}

// FuzzParseSMIList feeds both parsers of lists.
func FuzzParseSMIList(f *testing.F) {
	files, err := filepath.Glob("testdata/smi/*.list")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds")
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("GPU-a, 100, 1000, /opt/engine\nGPU-a, 100, [N/A], x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for index, slices := range gpuinfo.ParseList(b) {
			if index < 0 || len(slices) > 64 {
				t.Fatalf("device %d has %d slices", index, len(slices))
			}
			for _, g := range slices {
				if g.UUID == "" || len(g.UUID) > 64 || len(g.Profile) > 64 || *g.Memory.Total > 16<<40 {
					t.Fatalf("slice = %+v", g)
				}
			}
		}
		for _, p := range gpuinfo.ParseProcesses(b) {
			if p.PID <= 0 || p.UUID == "" || len(p.UUID) > 64 || len(p.Name) > 256 {
				t.Fatalf("process = %+v", p)
			}
		}
	})
}
