package gpuinfo_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/llorch/llorch/gpuinfo"
)

// TestTrap_UnifiedNotSupported (GPU-15): an integrated device has the memory of the
// host; a card whose driver tells nothing has unknown memory, never the host's.
func TestTrap_UnifiedNotSupported(t *testing.T) {
	in, err := os.ReadFile("testdata/smi/gb10.csv")
	if err != nil {
		t.Fatal(err)
	}
	for name, unified := range map[string]bool{
		"NVIDIA GB10": true, "NVIDIA Thor": true, "Orin (nvgpu)": true, "NVIDIA Tegra X1": true, "Jetson AGX Xavier": true, "nvidia gb10": true,
		"NVIDIA GB100": false, "NVIDIA GB102": false, "NVIDIA GeForce RTX 3090": false, "NVIDIA Authority": false, "NVIDIA XGB10": false, "": false,
	} {
		csv := strings.Replace(string(in), "NVIDIA GB10", name, 1)
		s := gpuinfo.SMIResult(csv, "", 0, false, goldenRoot(), "")
		m := s.Devices[0].Memory
		switch {
		case unified && (m.Kind != gpuinfo.Unified || *m.Total != 128<<30 || *m.Free != 100<<30 || m.Source != "meminfo" || s.Reason != gpuinfo.OK):
			t.Errorf("%s: %s, %+v; want unified, 100 of 128 GiB free", name, s.Reason, m)
		case !unified && (m.Total != nil || m.Free != nil || m.Kind != "" || s.Reason != gpuinfo.Failed || !hasNote(s.Devices[0], "vram_total_bytes", "not_available")):
			t.Errorf("%q: %s, %+v; want unknown memory with a note", name, s.Reason, m)
		}
	}
	// A device that needs a reset or may not be asked gets no numbers from the host.
	for _, value := range []string{"[GPU requires reset]", "[GPU is lost]", "[Insufficient Permissions]", "[Unknown Error]", "x"} {
		csv := strings.ReplaceAll(string(in), "000F:01:00.0, [N/A]", "000F:01:00.0, "+value)
		if m := gpuinfo.SMIResult(csv, "", 0, false, goldenRoot(), "").Devices[0].Memory; m.Total != nil || m.Free != nil {
			t.Errorf("%s: %v, want unknown", value, m)
		}
	}
	// A device with memory of its own keeps it, whatever its name.
	csv := strings.Replace(string(in), "[N/A]", "4096", 1)
	if m := gpuinfo.SMIResult(csv, "", 0, false, goldenRoot(), "").Devices[0].Memory; m.Kind != gpuinfo.Dedicated || *m.Total != 4<<30 || m.Free != nil {
		t.Errorf("4096 MiB of its own: %v", m)
	}
	for meminfo, want := range map[string]string{"": "unknown, ? of ? MiB free", "MemTotal: 1048576 kB\n": "unified, ? of 1024 MiB free", "MemTotal: 99999999999999999999 kB\n": "unknown, ? of ? MiB free"} {
		s := gpuinfo.SMIResult(string(in), "", 0, false, fstest.MapFS{"proc/meminfo": {Data: []byte(meminfo)}}, "")
		if got := s.Devices[0].Memory.String(); got != want {
			t.Errorf("meminfo %q: %s, want %s", meminfo, got, want)
		}
	}
}

func hasNote(d gpuinfo.Device, field, why string) bool {
	return slices.Contains(d.Notes, (gpuinfo.Note{Field: field, Why: why}))
}

// TestUnifiedInControlGroup (GPU-15): what is free is what the tightest limit leaves.
func TestUnifiedInControlGroup(t *testing.T) {
	const gib = 1 << 30
	base := map[string]string{"proc/meminfo": "MemTotal: 134217728 kB\nMemAvailable: 104857600 kB\n"}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  uint64
	}{
		{"none", nil, 100 * gib},
		{"version 1", map[string]string{"proc/self/cgroup": "4:memory:/a\n"}, 100 * gib},
		{"no limit", map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "5\n"}, 100 * gib},
		{"own", group("/a/b", map[string]uint64{"a/b": 8 * gib}), 7 * gib},
		{"above", group("/a/b", map[string]uint64{"a/b": 8 * gib, "a": 4 * gib}), 3 * gib},
		{"container", group("/", map[string]uint64{"": 16 * gib}), 15 * gib},
		{"outside", group("/../../x", map[string]uint64{"": 16 * gib}), 15 * gib},
		{"used up", group("/a", map[string]uint64{"a": gib / 2}), 0},
		{"sibling", group("/a", map[string]uint64{"b": gib}), 100 * gib},
	} {
		root := fstest.MapFS{}
		for _, files := range []map[string]string{base, c.files} {
			for name, text := range files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
		}
		if got := gpuinfo.Available(root); got == nil || *got != c.want {
			t.Errorf("%s: %v, want %d", c.name, got, c.want)
		}
	}
}

// group is a process in the control group at path, with limits of which 1 GiB is used.
func group(path string, limits map[string]uint64) map[string]string {
	out := map[string]string{"proc/self/cgroup": "0::" + path + "\n"}
	for dir, limit := range limits {
		at := strings.TrimSuffix("sys/fs/cgroup/"+dir, "/")
		out[at+"/memory.max"] = fmt.Sprintln(limit)
		out[at+"/memory.current"] = fmt.Sprintln(1 << 30)
	}
	return out
}
