//go:build linux && cgo

package nvml_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/gpuinfotest"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

func presets() map[string]func() gonvml.Interface {
	return map[string]func() gonvml.Interface{
		"DGX A100":          a100,
		"H100 with MIG":     func() gonvml.Interface { return h100() },
		"H200":              func() gonvml.Interface { return eight("NVIDIA H200", 0x10de2335, 143771<<20, 9) },
		"B200":              func() gonvml.Interface { return eight("NVIDIA B200", 0x10de2901, 183359<<20, 10) },
		"GB10":              func() gonvml.Interface { return gb10() },
		"card without info": func() gonvml.Interface { return blind() },
		"no driver": func() gonvml.Interface {
			l := newLibrary()
			l.init = gonvml.ERROR_DRIVER_NOT_LOADED
			return l
		},
	}
}

// TestConformance (GPU-22) runs the suite of all providers over every machine.
func TestConformance(t *testing.T) {
	for name, machine := range presets() {
		t.Run(name, func(t *testing.T) {
			gpuinfotest.TestProvider(t, func(t *testing.T) gpuinfo.Provider { return open(t, machine(), nvml.Config{}) })
		})
	}
	t.Run("this machine", func(t *testing.T) {
		gpuinfotest.TestProvider(t, func(t *testing.T) gpuinfo.Provider {
			p, err := nvml.New(nvml.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return p
		})
	})
}

func noteOf(d gpuinfo.Device, field string) string {
	for _, n := range d.Notes {
		if n.Field == field {
			return n.Why
		}
	}
	return ""
}

// TestH200 (GPU-21): everything that a data centre card tells.
func TestH200(t *testing.T) {
	s := snapshot(t, open(t, presets()["H200"](), nvml.Config{}))
	if s.Reason != gpuinfo.OK || len(s.Devices) != 8 || s.Driver != "570.86.15" || s.Provider != "nvml" || s.Detail != "" {
		t.Fatalf("snapshot = %+v", s)
	}
	d := s.Devices[3]
	if d.Index != 3 || d.BusID != "0000:48:00.0" || d.PCIID != 0x10de2335 || d.Name != "NVIDIA H200" || d.Compute.String() != "9.0" || d.Driver != s.Driver ||
		*d.TempC != 41 || *d.UtilPercent != 7 || *d.ECCUncorrected != 0 || d.Health.State != gpuinfo.Healthy || len(d.Notes) != 0 {
		t.Errorf("device = %+v", d)
	}
	m := d.Memory
	if m.Kind != gpuinfo.Dedicated || *m.Total != 143771<<20 || *m.Used != 1<<30 || *m.Reserved != 1<<29 || *m.Free != 143771<<20-1<<30-1<<29 || m.Source != "nvml" {
		t.Errorf("memory = %v", m)
	}
}

// TestMemoryInfoFallsBack (GPU-21): old libraries and drivers have the first version
// only, which does not tell what is reserved.
func TestMemoryInfoFallsBack(t *testing.T) {
	for name, spoil := range map[string]func(*library){
		"no symbol":     func(l *library) { l.missing["nvmlDeviceGetMemoryInfo_v2"] = true },
		"no function":   func(l *library) { l.cards[0].fails["memory2"] = gonvml.ERROR_FUNCTION_NOT_FOUND },
		"other version": func(l *library) { l.cards[0].fails["memory2"] = gonvml.ERROR_ARGUMENT_VERSION_MISMATCH },
	} {
		l := newLibrary(newGPU("NVIDIA L4", 2, 0x10de27b8, 23034<<20, 8, 9))
		spoil(l)
		m := snapshot(t, open(t, l, nvml.Config{})).Devices[0].Memory
		if m.Reserved != nil || m.Total == nil || *m.Total != 23034<<20 || *m.Used != 1<<30+1<<29 {
			t.Errorf("%s: memory = %v", name, m)
		}
	}
	l := newLibrary(newGPU("NVIDIA L4", 2, 0x10de27b8, 17<<40, 8, 9))
	if d := snapshot(t, open(t, l, nvml.Config{})).Devices[0]; d.Memory.Total != nil || d.Usable() {
		t.Errorf("17 TiB: %v", d.Memory)
	}
}

// TestUnified (GPU-21, GPU-15): a device whose addressing mode says so gets the
// host's memory; a discrete card that hides its memory never does.
func TestUnified(t *testing.T) {
	l := gb10()
	l.cards[0].GetNameFunc = func() (string, gonvml.Return) { return "NVIDIA newer product", gonvml.SUCCESS }
	d := snapshot(t, open(t, l, nvml.Config{})).Devices[0]
	if d.Memory.Kind != gpuinfo.Unified || *d.Memory.Total != 125829120<<10 || *d.Memory.Free != 104857600<<10 || !d.Usable() {
		t.Errorf("memory = %v, notes %v", d.Memory, d.Notes)
	}
	l = gb10()
	l.missing["nvmlDeviceGetAddressingMode"] = true // an older library: the name decides
	if d := snapshot(t, open(t, l, nvml.Config{})).Devices[0]; d.Memory.Kind != gpuinfo.Unified {
		t.Errorf("memory = %v", d.Memory)
	}
	d = snapshot(t, open(t, blind(), nvml.Config{})).Devices[0]
	if d.Memory.Total != nil || d.Memory.Kind != "" || noteOf(d, "vram_total_bytes") != "not_supported" || d.Health.State != gpuinfo.Healthy || d.Usable() {
		t.Errorf("card without memory info: %v %v %s", d.Memory, d.Notes, d.Health.State)
	}
}

// TestMIG (GPU-21): slices have exact memory; profiles are what nvidia-smi calls them.
func TestMIG(t *testing.T) {
	s := snapshot(t, open(t, h100(), nvml.Config{}))
	var got []string
	for _, u := range s.Units() {
		line := fmt.Sprint(u.Index, " ", u.UUID, " ", u.Usable())
		if u.MIG != nil {
			line = fmt.Sprint(u.Index, " ", u.UUID, " ", u.MIG.Profile, " ", u.MIG.GI, " ", u.MIG.CI, " ", u.MIG.Memory)
		}
		got = append(got, line)
	}
	want := []string{
		"0 " + sliceA + " 1g.10gb+me 13 0 slice, 8448 of 9984 MiB free",
		"0 " + sliceB + " 3g.40gb 1 0 slice, 38912 of 40448 MiB free",
		"0 " + sliceC + " 1c.2g.20gb 2 0 slice, 18560 of 20096 MiB free",
		"1 GPU-10de2330-0043-5000-8000-000000000000 true",
	}
	if !slices.Equal(got, want) || s.Devices[0].Usable() {
		t.Errorf("units:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	l := h100()
	l.cards[0].fails["fields"] = gonvml.ERROR_GPU_IS_LOST
	for _, u := range snapshot(t, open(t, l, nvml.Config{})).Units()[:3] {
		if u.Usable() || u.Memory().Free != nil {
			t.Errorf("GPU-12: a slice of a lost device: %v", u.Memory())
		}
	}
}

// TestProcesses (GPU-21): with memory, per slice where there are slices.
func TestProcesses(t *testing.T) {
	l := h100()
	l.cards[0].slices[1].GetComputeRunningProcessesFunc = func() ([]gonvml.ProcessInfo, gonvml.Return) {
		return []gonvml.ProcessInfo{{Pid: 7, UsedGpuMemory: 5}, {Pid: 8, UsedGpuMemory: 1<<64 - 1}, {Pid: 7, UsedGpuMemory: 6}}, gonvml.SUCCESS
	}
	l.cards[1].GetComputeRunningProcessesFunc = func() ([]gonvml.ProcessInfo, gonvml.Return) {
		return []gonvml.ProcessInfo{{Pid: 7, UsedGpuMemory: 9}}, gonvml.SUCCESS
	}
	ps, err := open(t, l, nvml.Config{}).Processes(t.Context())
	var got []string
	for _, q := range ps {
		used := "?"
		if q.Used != nil {
			used = fmt.Sprint(*q.Used)
		}
		got = append(got, fmt.Sprint(q.PID, " ", q.UUID, " ", q.Name, " ", used))
	}
	want := []string{"7 " + sliceB + " engine-7\ufffd 11", "8 " + sliceB + " engine-8\ufffd ?", "7 GPU-10de2330-0043-5000-8000-000000000000 engine-7\ufffd 9"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("processes = %q, %v", got, err)
	}
	l = h100()
	for _, v := range []string{"", "_v2", "_v3"} {
		l.missing["nvmlDeviceGetComputeRunningProcesses"+v] = true
	}
	if _, err := open(t, l, nvml.Config{}).Processes(t.Context()); !errors.Is(err, gpuinfo.ErrUnsupported) {
		t.Errorf("without the symbol: %v", err)
	}
}

// TestReasons (GPU-20): the table of failures that concern the machine.
func TestReasons(t *testing.T) {
	for ret, want := range map[gonvml.Return]gpuinfo.Reason{
		gonvml.ERROR_LIBRARY_NOT_FOUND: gpuinfo.NoTool, gonvml.ERROR_DRIVER_NOT_LOADED: gpuinfo.NoDriver,
		gonvml.ERROR_LIB_RM_VERSION_MISMATCH: gpuinfo.DriverMismatch, gonvml.ERROR_NO_PERMISSION: gpuinfo.Permission,
		gonvml.ERROR_UNKNOWN: gpuinfo.Failed, gonvml.ERROR_UNINITIALIZED: gpuinfo.Failed, gonvml.Return(12345): gpuinfo.Failed,
	} {
		l := newLibrary()
		l.init = ret
		if s := snapshot(t, open(t, l, nvml.Config{})); s.Reason != want || s.Detail == "" || len(s.Devices) != 0 {
			t.Errorf("nvmlInit = %d: %+v, want %s", ret, s, want)
		}
		l = h100()
		l.count = ret
		if s := snapshot(t, open(t, l, nvml.Config{})); s.Reason != want || s.Detail == "" || len(s.Devices) != 0 || l.downs != 1 {
			t.Errorf("nvmlDeviceGetCount = %d: %+v, want %s", ret, s, want)
		}
	}
	if s := snapshot(t, open(t, newLibrary(), nvml.Config{})); s.Reason != gpuinfo.NoDevice {
		t.Errorf("no card: %+v", s)
	}
}

// TestNotes (GPU-20, GPU-11, GPU-12): the table of failures that concern one value:
// "cannot tell" is not "broken", and a lost card has unknown free memory.
func TestNotes(t *testing.T) {
	for ret, want := range map[gonvml.Return]struct {
		why   string
		state gpuinfo.State
	}{
		gonvml.ERROR_NOT_SUPPORTED: {"not_supported", gpuinfo.Healthy}, gonvml.ERROR_FUNCTION_NOT_FOUND: {"not_supported", gpuinfo.Healthy},
		gonvml.ERROR_ARGUMENT_VERSION_MISMATCH: {"not_supported", gpuinfo.Healthy}, gonvml.ERROR_NO_PERMISSION: {"no_permission", gpuinfo.Healthy},
		gonvml.ERROR_NO_DATA: {"not_available", gpuinfo.Healthy}, gonvml.ERROR_UNKNOWN: {"unknown_error", gpuinfo.Degraded},
		gonvml.ERROR_RESET_REQUIRED: {"reset_required", gpuinfo.Broken}, gonvml.ERROR_GPU_IS_LOST: {"lost", gpuinfo.Lost},
	} {
		for function, field := range map[string]string{
			"name": "name", "compute": "compute_capability", "temperature": "temperature_c", "utilization": "utilization_percent",
			"ecc": "ecc_uncorrected", "mig": "mig_enabled", "field": "recovery", "fields": "recovery",
		} {
			l := eight("NVIDIA H200", 0x10de2335, 143771<<20, 9)
			l.cards[0].fails[function] = ret
			s := snapshot(t, open(t, l, nvml.Config{}))
			d := s.Devices[0]
			if noteOf(d, field) != want.why || d.Health.State != want.state || len(s.Devices) != 8 || s.Devices[1].Health.State != gpuinfo.Healthy {
				t.Errorf("%s = %d: note %q, %s; want %q, %s", function, ret, noteOf(d, field), d.Health.State, want.why, want.state)
			}
			if gone := want.state == gpuinfo.Broken || want.state == gpuinfo.Lost; gone != (d.Memory.Free == nil) {
				t.Errorf("%s = %d: %s with %v", function, ret, d.Health.State, d.Memory)
			}
		}
	}
}

// TestRecoveryAction (GPU-21): field 230.
func TestRecoveryAction(t *testing.T) {
	for value, want := range map[uint32]gpuinfo.Action{
		0: "", 1: gpuinfo.Reset, 2: gpuinfo.Reboot, 3: gpuinfo.DrainReset, 4: gpuinfo.DrainReset, 5: gpuinfo.Contact, 77: gpuinfo.Contact,
	} {
		l := eight("NVIDIA H200", 0x10de2335, 143771<<20, 9)
		l.cards[0].recovery = value
		d := snapshot(t, open(t, l, nvml.Config{})).Devices[0]
		if d.Health.Recovery != want || (d.Health.State == gpuinfo.Broken) != (want != "") || (d.Memory.Free == nil) != (want != "") {
			t.Errorf("%d: %+v %v, want %q", value, d.Health, d.Memory, want)
		}
	}
}

// TestLostDeviceKeepsItsName (GPU-20): a card that fell off the bus gives no handle;
// it is listed as lost under what it was, and one never seen is counted.
func TestLostDeviceKeepsItsName(t *testing.T) {
	l := eight("NVIDIA H200", 0x10de2335, 143771<<20, 9)
	p := open(t, l, nvml.Config{})
	before := snapshot(t, p).Devices[2]
	l.cards[2].handle = gonvml.ERROR_GPU_IS_LOST
	s := snapshot(t, p)
	if d := s.Devices[2]; d.UUID != before.UUID || d.BusID != before.BusID || d.Health.State != gpuinfo.Lost || d.Memory.Free != nil || s.Reason != gpuinfo.OK || len(s.Devices) != 8 {
		t.Errorf("lost device = %+v", d)
	}
	s = snapshot(t, open(t, l, nvml.Config{}))
	if len(s.Devices) != 7 || s.Detail != "skipped 1" || s.Devices[2].Index != 3 {
		t.Errorf("never seen: %d devices, %q", len(s.Devices), s.Detail)
	}
}

// TestBusIDOfALargeDomain (GPU-3): a domain beyond four digits has eight, as in the
// other providers.
func TestBusIDOfALargeDomain(t *testing.T) {
	l := h100()
	l.cards[0].GetPciInfoFunc = func() (gonvml.PciInfo, gonvml.Return) {
		return gonvml.PciInfo{Domain: 0x10000, Bus: 0x3b}, gonvml.SUCCESS
	}
	s := snapshot(t, open(t, l, nvml.Config{}))
	if got := s.Devices[0].BusID; got != "00010000:3b:00.0" {
		t.Errorf("BusID = %q", got)
	}
	if err := gpuinfotest.CheckSnapshot(s); err != nil {
		t.Error(err)
	}
}
