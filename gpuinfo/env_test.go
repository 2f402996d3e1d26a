package gpuinfo_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

// cudaSees is a model of how CUDA reads its variables: devices in PCI order only
// when told so (else the fastest, here the last, come first); entries are numbers in
// that order, UUIDs or prefixes of them; everything from the first bad or repeated
// entry on is ignored; of MIG slices only one is shown.
func cudaSees(env []string, cards []gpuinfo.Device) (seen []string) {
	vars := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		vars[name] = value
	}
	order := slices.Clone(cards)
	if vars["CUDA_DEVICE_ORDER"] != "PCI_BUS_ID" {
		slices.Reverse(order)
	}
	list, masked := vars["CUDA_VISIBLE_DEVICES"]
	if !masked {
		for _, d := range order {
			seen = append(seen, d.UUID)
		}
		return seen
	}
	for entry := range strings.SplitSeq(list, ",") {
		uuid := ""
		if n, err := strconv.Atoi(entry); err == nil && n >= 0 && n < len(order) {
			uuid = order[n].UUID
		} else if err != nil {
			for _, d := range order {
				if strings.HasPrefix(d.UUID, entry) {
					uuid = d.UUID
				}
			}
		}
		if uuid == "" || slices.Contains(seen, uuid) {
			return seen
		}
		seen = append(seen, uuid)
	}
	return seen
}

// machine has n healthy cards with the numbers 0 to n−1.
func machine(n int) (s gpuinfo.Snapshot) {
	for i := range n {
		s.Devices = append(s.Devices, gpuinfo.Device{
			Index: i, Vendor: "nvidia", UUID: testUUID(i), BusID: testBus(i), Health: gpuinfo.Health{State: gpuinfo.Healthy},
			Memory: gpuinfo.Memory{Kind: gpuinfo.Dedicated, Total: new(uint64(1 << 30)), Free: new(uint64(1 << 30))},
		})
	}
	s.Reason = gpuinfo.OK
	return s
}

// TestEnvShowsExactlyTheMask (GPU-30): what a model of CUDA makes of the environment
// is the resolved mask, in order, whatever the parent had set.
func TestEnvShowsExactlyTheMask(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "cards")
		s := machine(n)
		picks := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, n, rapid.ID[int]).Draw(t, "picks")
		byUUID := rapid.Bool().Draw(t, "uuid mask")
		var entries, want []string
		for _, p := range picks {
			want = append(want, testUUID(p))
			if entries = append(entries, strconv.Itoa(p)); byUUID {
				entries[len(entries)-1] = testUUID(p)
			}
		}
		m, err := gpuinfo.ParseMask(strings.Join(entries, ","))
		if err != nil {
			t.Fatal(err)
		}
		base := []string{"PATH=/bin", "CUDA_VISIBLE_DEVICES=" + strconv.Itoa(rapid.IntRange(-1, n).Draw(t, "inherited")), "CUDA_DEVICE_ORDER=FASTEST_FIRST"}
		before := slices.Clone(base)
		env, err := m.Env(s, base, rapid.Bool().Draw(t, "indices"))
		if err != nil || !slices.Equal(base, before) || env[0] != "PATH=/bin" {
			t.Fatalf("Env = %v, %v; base %v", env, err, base)
		}
		if got := cudaSees(env, s.Devices); !slices.Equal(got, want) {
			t.Fatalf("CUDA sees %v, the mask %q means %v", got, m, want)
		}
	})
}

func envOf(t *testing.T, m string, s gpuinfo.Snapshot, base []string, indices bool) map[string]string {
	t.Helper()
	env, err := mask(t, m).Env(s, base, indices)
	if err != nil {
		t.Fatalf("Env of mask %q: %v", m, err)
	}
	out := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		if _, twice := out[name]; twice {
			t.Errorf("%s is set twice", name)
		}
		out[name] = value
	}
	return out
}

// TestEnvPerVendor (GPU-30, GPU-31): each vendor has its own variable; the empty
// mask only fixes the order; "cpu" hides all. Intel's runtime takes an empty mask for
// none and a number that no device has for a mask without devices.
func TestEnvPerVendor(t *testing.T) {
	s := mixedMachine()
	intel := s.Devices[3]
	intel.Index, intel.Vendor, intel.UUID, intel.BusID = 5, "intel", "", "0000:06:00.0"
	apu := s.Devices[3]
	apu.Index, apu.UUID, apu.BusID = 6, "", "0000:07:00.0"
	s.Devices = append(s.Devices, intel, apu)
	for _, tt := range []struct {
		mask    string
		indices bool
		want    map[string]string
	}{
		{"", false, map[string]string{"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}},
		{"", true, map[string]string{"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}},
		{"none", false, map[string]string{"CUDA_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "", "ZE_AFFINITY_MASK": "65535"}},
		{"1,0", false, map[string]string{"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": uuidB + "," + uuidA}},
		{"1,0", true, map[string]string{"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,0"}},
		{slice, false, map[string]string{"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": slice}},
		{"3", false, map[string]string{"ROCR_VISIBLE_DEVICES": "GPU-0123456789abcdef"}},
		{"3", true, map[string]string{"ROCR_VISIBLE_DEVICES": "0"}},
		{"6,3", false, map[string]string{"ROCR_VISIBLE_DEVICES": "1,0"}}, // one has no UUID
		{"5", false, map[string]string{"ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1", "ZE_AFFINITY_MASK": "0"}},
	} {
		if got := envOf(t, tt.mask, s, nil, tt.indices); !maps.Equal(got, tt.want) {
			t.Errorf("mask %q, indices %v: %v, want %v", tt.mask, tt.indices, got, tt.want)
		}
	}
}

// TestEnvRefusesMIGByNumber (GPU-30, GPU-31): a slice has no index, and CUDA shows
// one slice only.
func TestEnvRefusesMIGByNumber(t *testing.T) {
	if _, err := mask(t, slice).Env(mixedMachine(), nil, true); maskFailure(t, err) != "!mig_index 0" {
		t.Errorf("err = %v", err)
	}
	_, err := mask(t, slice+",MIG-22222222-0000-1111-2222-777777777777").Env(mixedMachine(), nil, false)
	if maskFailure(t, err) != "!mig_many 1" {
		t.Errorf("err = %v", err)
	}
}

// TestTrap_InheritedMaskFiltersTwice: a mask that the parent was started with would
// be applied to the child's numbers a second time (GPU-30).
func TestTrap_InheritedMaskFiltersTwice(t *testing.T) {
	base := []string{"HOME=/x", "CUDA_VISIBLE_DEVICES=3", "NVIDIA_VISIBLE_DEVICES=void", "ROCR_VISIBLE_DEVICES=1", "HIP_VISIBLE_DEVICES=1", "GPU_DEVICE_ORDINAL=1", "ZE_AFFINITY_MASK=0.1", "CUDA_DEVICE_ORDER=FASTEST_FIRST", "CUDA_VISIBLE_DEVICES_X=stays"}
	for _, text := range []string{"", "0", "cpu"} {
		got := envOf(t, text, machine(4), base, false)
		for _, name := range []string{"NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"} {
			if _, inherited := got[name]; inherited {
				t.Errorf("mask %q: %s is inherited", text, name)
			}
		}
		if got["HOME"] != "/x" || got["CUDA_VISIBLE_DEVICES_X"] != "stays" || got["CUDA_VISIBLE_DEVICES"] == "3" || got["ZE_AFFINITY_MASK"] == "0.1" || got["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST" {
			t.Errorf("mask %q: %v", text, got)
		}
	}
}

// TestTrap_InvalidMaskEntryHidesRest: CUDA drops everything after an entry that it
// does not know and the program runs on fewer devices than asked (G6, GPU-29).
func TestTrap_InvalidMaskEntryHidesRest(t *testing.T) {
	s := machine(3)
	if seen := cudaSees([]string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=0,9,1"}, s.Devices); len(seen) != 1 {
		t.Fatalf("the model of CUDA sees %v", seen)
	}
	env, err := mask(t, "0,9,1").Env(s, nil, true)
	e, ok := errors.AsType[*gpuinfo.MaskError](err)
	if !ok || e.Reason != "unknown_device" || e.Position != 1 || e.Devices != 3 || env != nil {
		t.Errorf("Env = %v, %v", env, err)
	}
}

// TestTrap_FastestFirstOrder: CUDA numbers devices by speed unless told otherwise,
// nvidia-smi by bus (GPU-30, GPU-31).
func TestTrap_FastestFirstOrder(t *testing.T) {
	s := machine(2)
	if seen := cudaSees([]string{"CUDA_VISIBLE_DEVICES=0"}, s.Devices); seen[0] == testUUID(0) {
		t.Fatal("the model of CUDA does not order by speed")
	}
	env, err := mask(t, "0").Env(s, nil, true)
	if seen := cudaSees(env, s.Devices); err != nil || !slices.Equal(seen, []string{testUUID(0)}) {
		t.Errorf("CUDA sees %v, %v", seen, err)
	}
	env, err = mask(t, "").Env(s, nil, false)
	if seen := cudaSees(env, s.Devices); err != nil || !slices.Equal(seen, []string{testUUID(0), testUUID(1)}) {
		t.Errorf("without a mask CUDA sees %v, %v", seen, err)
	}
}

// TestTrap_UUIDMaskCrashesEngine: an engine that calls int() on every entry needs
// numbers (vllm-project/vllm#20939), which a slice does not have (GPU-30).
func TestTrap_UUIDMaskCrashesEngine(t *testing.T) {
	got := envOf(t, testUUID(2)+","+testUUID(0), machine(3), nil, true)
	if got["CUDA_VISIBLE_DEVICES"] != "2,0" {
		t.Errorf("CUDA_VISIBLE_DEVICES = %q", got["CUDA_VISIBLE_DEVICES"])
	}
	if _, err := mask(t, slice).Env(mixedMachine(), nil, true); err == nil {
		t.Error("a MIG slice got a number")
	}
}

func ExampleParseMask() {
	m, err := gpuinfo.ParseMask("GPU1, GPU0")
	fmt.Println(m, m.Restricts(), err)
	_, err = gpuinfo.ParseMask("0,01")
	fmt.Println(err)
	// Output:
	// GPU1,GPU0 true <nil>
	// gpuinfo: device mask: entry 2 ("01"): not an index, GPU<n>, UUID, UUID prefix, MIG UUID or bus id
}

func ExampleMask_Env() {
	snap := machine(2) // on a real machine: a provider's snapshot
	m, err := gpuinfo.ParseMask("GPU1")
	if err != nil {
		fmt.Println(err)
		return
	}
	env, err := m.Env(snap, []string{"PATH=/usr/bin", "CUDA_VISIBLE_DEVICES=0"}, false)
	fmt.Println(env, err)
	// Output: [PATH=/usr/bin CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=GPU-00001f00-0000-1111-2222-333333333333] <nil>
}
