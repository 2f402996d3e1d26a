//go:build linux

package gpuinfo_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// autoWith is Auto over a script that stands in for nvidia-smi and a tree of the kernel.
func autoWith(t *testing.T, body, sys string) (gpuinfo.Provider, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nDIR="+dir+"\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return gpuinfo.NewAutoUnchecked(gpuinfo.AutoConfig{SMIPath: path, Timeout: 10 * time.Second, Root: tree(t, sys)}), dir
}

const rtx3090 = `, 24576, 512, 23821, 243, 8.6, 550.54.14, [N/A], 41, 0, [N/A], None, NVIDIA GeForce RTX 3090`

// TestAutoMerges (GPU-3, GPU-17): functions that the tool reported are not listed
// twice, the others follow after the highest number of the driver in bus order.
func TestAutoMerges(t *testing.T) {
	p, dir := autoWith(t, `cat $DIR/rows; exit $(cat $DIR/code)`, "two_vendors")
	answer := func(rows, code string) gpuinfo.Snapshot {
		t.Helper()
		for name, text := range map[string]string{"rows": rows, "code": code} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return snapshot(t, p)
	}
	index := func(s gpuinfo.Snapshot) string {
		var out []string
		for _, d := range s.Devices {
			out = append(out, d.Vendor+string(rune('0'+d.Index)))
		}
		return strings.Join(out, " ")
	}
	s := answer("5, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0"+rtx3090+"\n", "0")
	if got, want := index(s), "nvidia5 intel6 amd7 amd8"; got != want || s.Reason != gpuinfo.OK || s.Detail != "" {
		t.Errorf("%s %q: devices %s, want %s", s.Reason, s.Detail, got, want)
	}
	if s.Provider != "nvidia-smi+sysfs" || s.Driver != "550.54.14" {
		t.Errorf("Provider = %s, Driver = %s", s.Provider, s.Driver)
	}
	for i := 1; i < len(s.Devices); i++ {
		if s.Devices[i-1].Index >= s.Devices[i].Index {
			t.Errorf("not sorted by index: %s", index(s))
		}
	}
	// The tool fails: the other devices keep their numbers, and the failure is said.
	s = answer("", "9")
	if got, want := index(s), "nvidia5 intel6 amd7 amd8"; got != want || s.Reason != gpuinfo.OK || !strings.Contains(s.Detail, "no driver") {
		t.Errorf("%s %q: devices %s, want %s", s.Reason, s.Detail, got, want)
	}
	s = answer("", "18")
	if got, want := index(s), "intel6 amd7 amd8"; got != want || s.Reason != gpuinfo.OK || !strings.Contains(s.Detail, "differ") {
		t.Errorf("%s %q: devices %s, want %s", s.Reason, s.Detail, got, want)
	}
	// GPU-10: exit code 15 lists the missing device as lost, under its number.
	s = answer("", "15")
	if got, want := index(s), "nvidia5 intel6 amd7 amd8"; got != want || s.Devices[0].Health.State != gpuinfo.Lost || s.Devices[0].UUID != "GPU-12340000-0000-1111-2222-333333333333" || s.Devices[0].Memory.Total != nil {
		t.Errorf("lost: devices %s, want %s; %+v", got, want, s.Devices[0])
	}
}

// TestLostUnknown (GPU-10): the tool has never named the device that is lost, the bus does.
func TestLostUnknown(t *testing.T) {
	p, _ := autoWith(t, `exit 15`, "two_vendors")
	s := snapshot(t, p)
	for _, d := range s.Devices {
		if d.Vendor == "nvidia" && (d.Health.State != gpuinfo.Lost || d.BusID != "0000:01:00.0") {
			t.Errorf("device = %+v, want lost", d)
		}
	}
	if len(s.Devices) != 4 {
		t.Errorf("%d devices, want 4", len(s.Devices))
	}
}

// TestDriverMissing (GPU-1): a device on the bus and no driver is told from no device.
func TestDriverMissing(t *testing.T) {
	for body, want := range map[string]gpuinfo.Reason{
		"exit 9": gpuinfo.DriverMissing, "exit 18": gpuinfo.DriverMismatch, "exit 4": gpuinfo.Permission,
		"exit 6": gpuinfo.NoDevice, "exit 3": gpuinfo.Failed, "echo hello": gpuinfo.ParseFailed,
	} {
		p, _ := autoWith(t, body, "nvidia_no_driver")
		if s := snapshot(t, p); s.Reason != want {
			t.Errorf("%s: Reason = %s (%s), want %s", body, s.Reason, s.Detail, want)
		}
	}
	if s := onTree(t, tree(t, "nvidia_no_driver")); s.Reason != gpuinfo.DriverMissing {
		t.Errorf("no tool: Reason = %s", s.Reason)
	}
	if s := onTree(t, fstest.MapFS{}); s.Reason != gpuinfo.NoTool {
		t.Errorf("no device: Reason = %s", s.Reason)
	}
}

// TestAutoDisabled: GPU-1's last reason.
func TestAutoDisabled(t *testing.T) {
	s := snapshot(t, gpuinfo.Auto(gpuinfo.AutoConfig{Disable: true, Root: tree(t, "rx7900")}))
	if s.Reason != gpuinfo.Disabled || len(s.Devices) != 0 {
		t.Errorf("snapshot = %+v", s)
	}
}

// TestAutoProcesses (GPU-13, GPU-34): Auto passes the question to nvidia-smi.
func TestAutoProcesses(t *testing.T) {
	p, dir := autoWith(t, `printf '%s\n' "$@" > $DIR/args
echo "GPU-1, 77, 100, /usr/bin/engine"`, "no_sys")
	lister := gpuinfo.NewCache(gpuinfo.First(gpuinfo.Static(gpuinfo.Snapshot{}), p), time.Second)
	list, err := lister.Processes(t.Context())
	if err != nil || len(list) != 1 || list[0].PID != 77 || list[0].UUID != "GPU-1" || *list[0].Used != 100<<20 || list[0].Name != "/usr/bin/engine" {
		t.Errorf("Processes = %+v, %v", list, err)
	}
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	if got, want := string(args), "--query-compute-apps=gpu_uuid,pid,used_memory,process_name\n--format=csv,noheader,nounits\n"; got != want {
		t.Errorf("arguments %q, want %q", got, want)
	}
	for body, unsupported := range map[string]bool{"exit 9": true, "exit 6": true, "exit 4": false, "exit 3": false} {
		p, _ := autoWith(t, body, "no_sys")
		_, err := p.(gpuinfo.ProcessLister).Processes(t.Context())
		if err == nil || errors.Is(err, gpuinfo.ErrUnsupported) != unsupported {
			t.Errorf("%s: err = %v, unsupported should be %v", body, err, unsupported)
		}
	}
	none := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI, Root: fstest.MapFS{}})
	if _, err := none.(gpuinfo.ProcessLister).Processes(t.Context()); !errors.Is(err, gpuinfo.ErrUnsupported) {
		t.Errorf("no tool: err = %v", err)
	}
	for _, err := range none.(gpuinfo.EventSource).Events(t.Context()) {
		if !errors.Is(err, gpuinfo.ErrUnsupported) {
			t.Errorf("Events: %v", err)
		}
	}
}

// TestAutoCancelled: a caller that gave up gets its own error.
func TestAutoCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI}).Snapshot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	p, _ := autoWith(t, "sleep 1000", "no_sys")
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Snapshot(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	if _, err := p.(gpuinfo.ProcessLister).Processes(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Processes: err = %v", err)
	}
}

// TestMIGThroughTool (GPU-14): the list is asked only when a device is split.
func TestMIGThroughTool(t *testing.T) {
	csv, err := filepath.Abs("testdata/smi/h100_mig.csv")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.TrimSuffix(csv, ".csv") + ".list"
	p, dir := autoWith(t, `echo "$1" >> $DIR/calls
case "$1" in
-L) cat `+list+`;;
*) cat `+csv+`;;
esac`, "no_sys")
	s := snapshot(t, p)
	if got := len(s.Devices[0].MIG); got != 3 {
		t.Errorf("%d slices, want 3", got)
	}
	units := s.Units()
	if len(units) != 4 || units[0].MIG == nil || !units[0].Usable() || units[0].Memory().Free != nil || *units[1].Memory().Total != 10<<30 || units[3].MIG != nil {
		t.Errorf("units = %+v", units)
	}
	p, dir2 := autoWith(t, `echo "$1" >> $DIR/calls; echo "0, GPU-12340000-0000-1111-2222-333333333333, 00000000:01:00.0`+rtx3090+`"`, "no_sys")
	snapshot(t, p)
	for dir, want := range map[string]int{dir: 2, dir2: 1} {
		calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
		if got := strings.Count(string(calls), "\n"); got != want {
			t.Errorf("%d calls, want %d:\n%s", got, want, calls)
		}
	}
}
