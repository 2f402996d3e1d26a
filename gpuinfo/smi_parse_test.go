package gpuinfo_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// goldenRoot is a host of 128 GiB with 100 GiB available.
func goldenRoot() fs.FS {
	return fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal:       134217728 kB\nMemFree:        1 kB\nMemAvailable:   104857600 kB\nHugePages_Total:       0\n")}}
}

// TestGoldenOutputs compares whole results with reviewed ones (GPU-4, GPU-9…GPU-12,
// GPU-14, GPU-15).
func TestGoldenOutputs(t *testing.T) {
	for _, c := range []struct {
		name   string
		basic  bool
		code   int
		reason gpuinfo.Reason
		list   string // file with the output of -L
	}{
		{"rtx3090_3060", false, 0, gpuinfo.OK, ""},
		{"h200x8", false, 0, gpuinfo.OK, ""},
		{"h100_mig", false, 0, gpuinfo.OK, "h100_mig.list"},
		{"a100_all_mig", false, 0, gpuinfo.OK, "a100_all_mig.list"},
		{"mig_unlisted", false, 0, gpuinfo.Failed, ""},
		{"thor", false, 0, gpuinfo.OK, ""},
		{"hidden_total", false, 0, gpuinfo.Failed, ""},
		{"gb200x4", false, 0, gpuinfo.OK, ""},
		{"gb10", false, 0, gpuinfo.OK, ""},
		{"wsl", false, 0, gpuinfo.OK, ""},
		{"driver470_basic", true, 0, gpuinfo.OK, ""},
		{"lost", false, 15, gpuinfo.OK, ""},
		{"reset_required", false, 0, gpuinfo.Failed, ""},
		{"permissions", false, 0, gpuinfo.OK, ""},
		{"empty", false, 0, gpuinfo.NoDevice, ""},
		{"truncated", false, 0, gpuinfo.OK, ""},
		{"comma_name", false, 0, gpuinfo.OK, ""},
		{"gap_in_index", false, 0, gpuinfo.OK, ""},
		{"odd_values", false, 0, gpuinfo.OK, ""},
		{"garbage", false, 0, gpuinfo.ParseFailed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := os.ReadFile(filepath.Join("testdata", "smi", c.name+".csv"))
			if err != nil {
				t.Fatal(err)
			}
			var list []byte
			if c.list != "" {
				if list, err = os.ReadFile(filepath.Join("testdata", "smi", c.list)); err != nil {
					t.Fatal(err)
				}
			}
			s := gpuinfo.SMIResult(string(in), "", c.code, c.basic, goldenRoot(), string(list))
			if s.Reason != c.reason {
				t.Errorf("Reason = %s (%s), want %s", s.Reason, s.Detail, c.reason)
			}
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "smi", c.name+".json")
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytes.TrimSpace(want), got) {
				t.Errorf("snapshot differs from %s:\n%s", golden, got)
			}
			back, err := gpuinfo.LoadSnapshot(bytes.NewReader(got))
			if err != nil {
				t.Fatalf("LoadSnapshot of our own JSON: %v", err)
			}
			again, _ := json.MarshalIndent(back, "", "  ")
			if !bytes.Equal(got, again) {
				t.Error("JSON round trip changed the snapshot")
			}
		})
	}
}

// TestTrap_ResetPendingLooksFree (GPU-12): a card that needs a reset says 0 MiB used.
func TestTrap_ResetPendingLooksFree(t *testing.T) {
	for _, file := range []string{"reset_required", "lost"} {
		in, err := os.ReadFile(filepath.Join("testdata", "smi", file+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		devices, _ := gpuinfo.ParseSMI(in, false)
		d := devices[len(devices)-1]
		if d.Memory.Free != nil || d.Usable() || d.Fits(1, 0) {
			t.Errorf("%s: free=%v usable=%v, want an unknown and useless device", file, d.Memory.Free, d.Usable())
		}
	}
}

// TestTrap_CommaInName: the name stands last in the query.
func TestTrap_CommaInName(t *testing.T) {
	in, err := os.ReadFile("testdata/smi/comma_name.csv")
	if err != nil {
		t.Fatal(err)
	}
	devices, _ := gpuinfo.ParseSMI(in, false)
	if got, want := devices[0].Name, "Acme, Inc. GPU, rev. 2"; got != want {
		t.Errorf("Name = %q, want %q", got, want)
	}
}

// TestNameIsShowable: what a terminal could obey or not show is replaced.
func TestNameIsShowable(t *testing.T) {
	in, err := os.ReadFile("testdata/smi/comma_name.csv")
	if err != nil {
		t.Fatal(err)
	}
	devices, _ := gpuinfo.ParseSMI(bytes.ReplaceAll(in, []byte("Acme,"), []byte("A\x1b\u202e\u200b\xff,")), false)
	if got, want := devices[0].Name, "A\ufffd\ufffd\ufffd\ufffd, Inc. GPU, rev. 2"; got != want {
		t.Errorf("Name = %q, want %q", got, want)
	}
}

// TestTrap_IndexVersusPosition: a line that cannot be read shifts nobody.
func TestTrap_IndexVersusPosition(t *testing.T) {
	in, err := os.ReadFile("testdata/smi/gap_in_index.csv")
	if err != nil {
		t.Fatal(err)
	}
	devices, skipped := gpuinfo.ParseSMI(in, false)
	if len(devices) != 2 || devices[0].Index != 0 || devices[1].Index != 2 || skipped != 1 {
		t.Fatalf("got %d devices, %d skipped; want indices 0 and 2, 1 skipped", len(devices), skipped)
	}
}

// TestTrap_NoGPUHidesError: output that nobody can read is not "no GPU".
func TestTrap_NoGPUHidesError(t *testing.T) {
	if s := gpuinfo.SMIResult("hello, world\n", "", 0, false, goldenRoot(), ""); s.Reason != gpuinfo.ParseFailed {
		t.Errorf("Reason = %s, want parse_failed", s.Reason)
	}
}

// TestExitCodes is the table of GPU-10.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		code   int
		stderr string
		want   gpuinfo.Reason
	}{
		{4, "", gpuinfo.Permission},
		{6, "No devices were found", gpuinfo.NoDevice},
		{9, "", gpuinfo.NoDriver},
		{12, "", gpuinfo.NoDriver},
		{13, "", gpuinfo.NoDriver},
		{18, "", gpuinfo.DriverMismatch},
		{255, "Failed to initialize NVML: Driver/library version mismatch", gpuinfo.DriverMismatch},
		{15, "", gpuinfo.Failed},
		{3, "", gpuinfo.Failed},
		{-1, "", gpuinfo.Failed},
	} {
		s := gpuinfo.SMIResult("", c.stderr, c.code, false, goldenRoot(), "")
		if s.Reason != c.want {
			t.Errorf("exit %d %q: Reason = %s, want %s", c.code, c.stderr, s.Reason, c.want)
		}
		if c.stderr != "" && strings.Contains(s.Detail, c.stderr) {
			t.Errorf("exit %d: Detail repeats the tool's output (GPU-2)", c.code)
		}
	}
}

// TestParserKeepsGoodRows (GPU-4): damaged lines never lose the rows beside them.
func TestParserKeepsGoodRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "devices")
		var out strings.Builder
		for i := range n {
			total := rapid.Uint64Range(1, 1<<20).Draw(t, "total")
			used := rapid.Uint64Range(0, total).Draw(t, "used")
			fmt.Fprintf(&out, "%d, GPU-%08d-0000-0000-0000-000000000000, 00000000:%02X:00.0, %d, %d, %d, 0, 8.6, 550.1, [N/A], 40, 0, 0, None, Card %d\n", i, i, i+1, total, used, total-used, i)
			if rapid.Bool().Draw(t, "damage") {
				bad := rapid.StringMatching(`[a-z ,\[\]%]{0,40}`).Draw(t, "bad")
				out.WriteString(bad + "\n")
			}
		}
		devices, _ := gpuinfo.ParseSMI([]byte(out.String()), false)
		if len(devices) != n {
			t.Fatalf("%d devices, want %d", len(devices), n)
		}
		for i, d := range devices {
			if d.Index != i || !d.Usable() || *d.Memory.Total != *d.Memory.Used+*d.Memory.Free {
				t.Fatalf("device %d = %+v", i, d)
			}
		}
	})
}

func FuzzParseSMI(f *testing.F) {
	files, err := filepath.Glob("testdata/smi/*.csv")
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
	f.Fuzz(func(t *testing.T, b []byte) {
		s := gpuinfo.SMIResult(string(b), "", 0, false, goldenRoot(), "")
		wire, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gpuinfo.LoadSnapshot(bytes.NewReader(wire)); err != nil {
			t.Fatalf("a parsed snapshot does not load: %v", err)
		}
	})
}
