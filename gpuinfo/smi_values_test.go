package gpuinfo_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/llorch/llorch/gpuinfo"
)

// rowWith is a good row in which one column has another value.
func rowWith(column int, value string) string {
	good := strings.Split("0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0"+rtx3090Row, ", ")
	good[column] = value
	return strings.Join(good, ", ") + "\n"
}

const rtx3090Row = `, 24576, 512, 23821, 243, 8.6, 550.54.14, Disabled, 41, 0, 0, None, NVIDIA GeForce RTX 3090`

// TestValues is GPU-11's table: words in place of values, in any case, with and
// without brackets, and numbers out of range.
func TestValues(t *testing.T) {
	const total, used, free, reserved, temp, util, ecc, action = 3, 4, 5, 6, 10, 11, 12, 13
	for _, c := range []struct {
		column   int
		value    string
		field    string
		why      string
		state    gpuinfo.State
		recovery gpuinfo.Action
	}{
		{used, "N/A", "vram_used_bytes", "not_available", gpuinfo.Healthy, ""},
		{used, "[n/a]", "vram_used_bytes", "not_available", gpuinfo.Healthy, ""},
		{used, "", "vram_used_bytes", "not_available", gpuinfo.Healthy, ""},
		{free, "[Not Supported]", "vram_free_bytes", "not_supported", gpuinfo.Healthy, ""},
		{reserved, "Not Supported", "vram_reserved_bytes", "not_supported", gpuinfo.Healthy, ""},
		{temp, "[Insufficient Permissions]", "temperature_c", "no_permission", gpuinfo.Healthy, ""},
		{util, "[Unknown Error]", "utilization_percent", "unknown_error", gpuinfo.Degraded, ""},
		{util, "ERR!", "utilization_percent", "unknown_error", gpuinfo.Degraded, ""},
		{ecc, "[GPU requires reset]", "ecc_uncorrected", "reset_required", gpuinfo.Broken, gpuinfo.Reset},
		{ecc, "GPU IS LOST", "ecc_uncorrected", "lost", gpuinfo.Lost, ""},
		{total, "16777217", "vram_total_bytes", "unparsable", gpuinfo.Healthy, ""},
		{total, "-1", "vram_total_bytes", "unparsable", gpuinfo.Healthy, ""},
		{free, "0x10", "vram_free_bytes", "unparsable", gpuinfo.Healthy, ""},
		{free, "24576", "vram_free_bytes", "clamped", gpuinfo.Healthy, ""},
		{temp, "251", "temperature_c", "unparsable", gpuinfo.Healthy, ""},
		{util, "101", "utilization_percent", "unparsable", gpuinfo.Healthy, ""},
		{ecc, "-1", "ecc_uncorrected", "unparsable", gpuinfo.Healthy, ""},
		{action, "Reset", "", "", gpuinfo.Broken, gpuinfo.Reset},
		{action, "Reboot", "", "", gpuinfo.Broken, gpuinfo.Reboot},
		{action, "Drain P2P", "", "", gpuinfo.Broken, gpuinfo.DrainReset},
		{action, "Drain and Reset", "", "", gpuinfo.Broken, gpuinfo.DrainReset},
		{action, "Sing", "", "", gpuinfo.Broken, gpuinfo.Contact},
		{action, "[N/A]", "", "", gpuinfo.Healthy, ""},
	} {
		devices, skipped := gpuinfo.ParseSMI([]byte(rowWith(c.column, c.value)), false)
		if len(devices) != 1 || skipped != 0 {
			t.Errorf("column %d %q: %d devices, %d skipped", c.column, c.value, len(devices), skipped)
			continue
		}
		d := devices[0]
		if d.Health.State != c.state || d.Health.Recovery != c.recovery {
			t.Errorf("column %d %q: %s %q, want %s %q", c.column, c.value, d.Health.State, d.Health.Recovery, c.state, c.recovery)
		}
		if c.field == "" && len(d.Notes) != 0 || c.field != "" && !hasNote(d, c.field, c.why) {
			t.Errorf("column %d %q: notes %v, want %s %s", c.column, c.value, d.Notes, c.field, c.why)
		}
		if broken := c.state == gpuinfo.Broken || c.state == gpuinfo.Lost; broken && d.Memory.Free != nil {
			t.Errorf("column %d %q: GPU-12: %d bytes free on a device that is %s", c.column, c.value, *d.Memory.Free, c.state)
		}
	}
	devices, _ := gpuinfo.ParseSMI([]byte(rowWith(total, "16777216")), false)
	if m := devices[0].Memory; *m.Total != 16<<40 || *m.Used != 512<<20 || *m.Free != 23821<<20 || *m.Reserved != 243<<20 {
		t.Errorf("16 TiB: %v", m)
	}
	devices, _ = gpuinfo.ParseSMI([]byte(rowWith(free, "24307")), false) // total − used + reserved, to the MiB
	if hasNote(devices[0], "vram_free_bytes", "clamped") {
		t.Error("free memory within what the driver reserves was clamped")
	}
	devices, _ = gpuinfo.ParseSMI([]byte(rowWith(free, "24308")), false)
	if m := devices[0].Memory; *m.Free != (24576-512)<<20 || !hasNote(devices[0], "vram_free_bytes", "clamped") {
		t.Errorf("used + free beyond the total: %v", m)
	}
}

// TestRowsAreBounded is GPU-4: what has no name is skipped and counted, text and
// devices have their limits.
func TestRowsAreBounded(t *testing.T) {
	var out strings.Builder
	for i := range 300 {
		fmt.Fprintf(&out, "%d, GPU-%08d, 0000%04x:01:00.0%s%s\n", i, i, i, rtx3090Row, strings.Repeat("é", 300))
	}
	devices, skipped := gpuinfo.ParseSMI([]byte(out.String()), false)
	if len(devices) != 256 || skipped != 44 {
		t.Errorf("%d devices, %d skipped; want 256 and 44", len(devices), skipped)
	}
	if n := len(devices[0].Name); n > 256 || n < 254 || !utf8.ValidString(devices[0].Name) {
		t.Errorf("a name of %d bytes", n)
	}
	for column, value := range []string{"0", "GPU-12340000-0000-1111-2222-333333333333", "00000000:01:00.0"} {
		other := []string{"1", "GPU-other", "00000000:02:00.0"}
		other[column] = value
		if devices, skipped := gpuinfo.ParseSMI([]byte(rowWith(0, "0")+strings.Join(other, ", ")+rtx3090Row), false); len(devices) != 1 || skipped != 1 {
			t.Errorf("column %d twice: %d devices, %d skipped", column, len(devices), skipped)
		}
	}
	devices, _ = gpuinfo.ParseSMI([]byte(rowWith(1, "GPU-"+strings.Repeat("a", 100))), false)
	if n := len(devices[0].UUID); n != 64 {
		t.Errorf("a UUID of %d bytes", n)
	}
	nameless := strings.Replace(rowWith(1, "[N/A]"), "00000000:01:00.0", "[N/A]", 1)
	s := gpuinfo.SMIResult(rowWith(0, "1")+nameless, "", 0, false, goldenRoot(), "")
	if len(s.Devices) != 1 || s.Detail != "skipped 1" {
		t.Errorf("%d devices, Detail %q", len(s.Devices), s.Detail)
	}
	if s := gpuinfo.SMIResult(strings.Repeat("garbage, ", 1<<17), "", 0, false, goldenRoot(), ""); s.Reason != gpuinfo.ParseFailed || s.Detail != "no line of nvidia-smi could be read, skipped 1" {
		t.Errorf("1 MiB of garbage: %s %q", s.Reason, s.Detail)
	}
}

// TestBusIDs: GPU-3's one form.
func TestBusIDs(t *testing.T) {
	for in, want := range map[string]string{
		"00000000:3B:00.0": "0000:3b:00.0", "0000:3b:00.0": "0000:3b:00.0", "0000000F:01:00.1": "000f:01:00.1",
		"00010019:01:00.0": "00010019:01:00.0", "10000:e1:00.0": "00010000:e1:00.0", "10000:E1:1f.7": "00010000:e1:1f.7",
		"3b:00.0": "", "000:3b:00.0": "", "000000000:3b:00.0": "", "0000:3b:00": "", "0000:3g:00.0": "", "0000:3b:00:0": "", "-001:3b:00.0": "", "": "",
	} {
		if got, ok := gpuinfo.NormalBusID(in); got != want || ok != (want != "") {
			t.Errorf("NormalBusID(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}

// TestDetailIsOurs is GPU-2: no word of the tool's output gets into Detail.
func TestDetailIsOurs(t *testing.T) {
	for _, code := range []int{0, 2, 3, 4, 6, 9, 12, 13, 15, 18, 77, 255} {
		s := gpuinfo.SMIResult("SECRET out /home/user\n", "SECRET err version mismatch", code, false, goldenRoot(), "")
		if strings.Contains(s.Detail, "SECRET") || strings.Contains(s.Detail, "/") || s.Detail == "" || s.Reason == gpuinfo.OK {
			t.Errorf("exit %d: %s %q", code, s.Reason, s.Detail)
		}
		if code != 0 && code != 15 && !strings.Contains(s.Detail, fmt.Sprintf("(exit code %d)", code)) {
			t.Errorf("exit %d: Detail %q does not say the code", code, s.Detail)
		}
	}
}

// TestReasonOKMeansUsable is the first half of GPU-1 over all golden outputs.
func TestReasonOKMeansUsable(t *testing.T) {
	entries, err := os.ReadDir("testdata/smi")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, isJSON := strings.CutSuffix(e.Name(), ".json")
		if !isJSON {
			continue
		}
		s := golden(t, name)
		usable := false
		for _, u := range s.Units() {
			usable = usable || u.Usable()
		}
		if (s.Reason == gpuinfo.OK) != usable {
			t.Errorf("%s: Reason = %s, a usable unit: %v", name, s.Reason, usable)
		}
	}
}
