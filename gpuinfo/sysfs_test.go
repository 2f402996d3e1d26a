//go:build linux

package gpuinfo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// tree reads a txtar archive of the kernel's files.
func tree(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "sys", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	var file *fstest.MapFile
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, " --\n"), "-- "); ok {
			file = &fstest.MapFile{}
			out[path] = file
		} else if file != nil { // lines before the first file describe the machine
			file.Data = append(file.Data, line...)
		}
	}
	return out
}

// noSMI is a path where no tool is.
const noSMI = "/nonexistent/nvidia-smi"

func onTree(t testing.TB, root fs.FS, apus ...uint16) gpuinfo.Snapshot {
	t.Helper()
	s, err := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI, Root: root, APUs: apus}).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.At, s.Took = time.Time{}, 0
	return s
}

// TestSysfsTrees compares whole results with reviewed ones: GPU-16, GPU-17, GPU-18,
// GPU-19 and GPU-1's driver_missing.
func TestSysfsTrees(t *testing.T) {
	for name, reason := range map[string]gpuinfo.Reason{
		"rx7900": gpuinfo.OK, "strix_halo": gpuinfo.OK, "small_card_big_host": gpuinfo.OK, "arc_i915": gpuinfo.OK, "arc_xe": gpuinfo.OK,
		"nvidia_no_driver": gpuinfo.DriverMissing, "two_vendors": gpuinfo.OK, "server_console": gpuinfo.NoTool,
		"amd_damaged": gpuinfo.OK, "vfio": gpuinfo.NoDriver, "no_sys": gpuinfo.NoTool,
	} {
		t.Run(name, func(t *testing.T) {
			s := onTree(t, tree(t, name))
			if s.Reason != reason {
				t.Errorf("Reason = %s (%s), want %s", s.Reason, s.Detail, reason)
			}
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "sys", name+".json")
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
			if _, err := gpuinfo.LoadSnapshot(bytes.NewReader(got)); err != nil {
				t.Errorf("LoadSnapshot of our own JSON: %v", err)
			}
		})
	}
}

// TestTrap_APUCarveout (GPU-16): a processor with graphics has its carve-out and what
// it may map of the host's memory, each free part bounded by what the host has left.
func TestTrap_APUCarveout(t *testing.T) {
	const gib = 1 << 30
	check := func(name string, d gpuinfo.Device, total, free uint64) {
		t.Helper()
		if m := d.Memory; m.Kind != gpuinfo.Carveout || *m.Total != total || *m.Free != free {
			t.Errorf("%s: Memory = %v (%d free of %d), want a carveout with %d of %d", name, m, *m.Free, *m.Total, free, total)
		}
	}
	root := tree(t, "strix_halo")
	check("plenty", onTree(t, root).Devices[0], gib/2+120*gib, gib/4+100*gib)
	root["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemTotal: 67108864 kB\nMemAvailable: 1048576 kB\n")}
	check("busy host", onTree(t, root).Devices[0], gib/2+64*gib, gib/4+1*gib)

	root["sys/class/drm/card0/device/mem_info_gtt_used"] = &fstest.MapFile{Data: []byte("128849018880\n")}
	check("all mapped", onTree(t, root).Devices[0], gib/2+64*gib, gib/4)

	delete(root, "proc/meminfo")
	check("unknown host", onTree(t, root).Devices[0], gib/2, gib/4)

	discrete := onTree(t, tree(t, "rx7900"), 0x744c).Devices[0]
	check("AutoConfig.APUs", discrete, 24*gib+32*gib, 22*gib+31*gib)
}

// TestTrap_DiscreteWithBigGTT (GPU-16): the host's memory is not a card's.
func TestTrap_DiscreteWithBigGTT(t *testing.T) {
	m := onTree(t, tree(t, "small_card_big_host")).Devices[0].Memory
	if m.Kind != gpuinfo.Dedicated || *m.Total != 4<<30 || *m.Free != 3<<30 {
		t.Errorf("Memory = %v, want dedicated, 3072 of 4096 MiB free", m)
	}
}

// TestAPUList: GPU-16's list, and nothing beside it.
func TestAPUList(t *testing.T) {
	listed := map[uint16]bool{}
	for _, id := range []uint16{
		0x1114, 0x13c0, 0x1435, 0x1506, 0x150e, 0x1586, 0x15bf, 0x15c8, 0x15d8, 0x15dd, 0x15e7, 0x1636, 0x1638,
		0x163f, 0x164c, 0x164e, 0x1681, 0x1900, 0x1901,
	} {
		listed[id] = true
	}
	for id := range 1 << 16 {
		if got := gpuinfo.IsAPU(uint16(id)); got != listed[uint16(id)] {
			t.Errorf("IsAPU(%04x) = %v", id, got)
		}
	}
}

// TestDRMCardByLink: GPU-17 joins a card to its function by the device link too.
func TestDRMCardByLink(t *testing.T) {
	root := tree(t, "small_card_big_host")
	for path, file := range root {
		if rest, ok := strings.CutPrefix(path, "sys/class/drm/card0/device/"); ok {
			delete(root, path)
			if rest != "uevent" {
				root["sys/devices/pci0000:00/0000:2d:00.0/"+rest] = file
			}
		}
	}
	if s := onTree(t, root); s.Reason != gpuinfo.NoDriver {
		t.Fatalf("without the card: Reason = %s", s.Reason)
	}
	root["sys/class/drm/card0/device"] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte("../../../devices/pci0000:00/0000:2d:00.0")}
	if s := onTree(t, root); s.Reason != gpuinfo.OK || *s.Devices[0].Memory.Total != 4<<30 {
		t.Errorf("snapshot = %+v", s)
	}
}

// TestSysfsBounds: GPU-17 reads 4 KiB of a file and 256 functions.
func TestSysfsBounds(t *testing.T) {
	root := tree(t, "small_card_big_host")
	root["sys/class/drm/card0/device/mem_info_vram_used"] = &fstest.MapFile{Data: []byte("1073741824" + strings.Repeat("\n", 4087))}
	if m := onTree(t, root).Devices[0].Memory; m.Used != nil || m.Free != nil {
		t.Errorf("a file of 4097 bytes was read: %v", m)
	}
	root["sys/class/drm/card0/device/mem_info_vram_used"] = &fstest.MapFile{Data: []byte("1073741824" + strings.Repeat("\n", 4086))}
	if m := onTree(t, root).Devices[0].Memory; m.Used == nil {
		t.Errorf("a file of 4096 bytes was not read: %v", m)
	}
	many := fstest.MapFS{}
	for i := range 300 {
		dir := "sys/bus/pci/devices/0000:" + hex2(i/8) + ":00." + string(rune('0'+i%8))
		many[dir+"/class"] = &fstest.MapFile{Data: []byte("0x030000\n")}
		many[dir+"/vendor"] = &fstest.MapFile{Data: []byte("0x1002\n")}
		many[dir+"/device"] = &fstest.MapFile{Data: []byte("0x744c\n")}
	}
	if s := onTree(t, many); len(s.Devices) != 256 || s.Devices[255].Index != 255 || s.Devices[255].BusID != "0000:1f:00.7" {
		t.Errorf("%d devices, want the first 256", len(s.Devices))
	}
}

func hex2(n int) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[n>>4&15], digits[n&15]})
}

// denyFS refuses the paths that begin with prefix.
type denyFS struct {
	fs.FS
	prefix string
}

func (d denyFS) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, d.prefix) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.FS.Open(name)
}

// TestSysfsPermission (GPU-19): what may not be read is said, and hides nothing else.
func TestSysfsPermission(t *testing.T) {
	root := tree(t, "rx7900")
	if s := onTree(t, denyFS{root, "sys/bus/pci/devices"}); s.Reason != gpuinfo.Permission {
		t.Errorf("no bus: Reason = %s, want permission", s.Reason)
	}
	s := onTree(t, denyFS{root, "sys/class/drm/card1/device/mem_info_vram_used"})
	if d := s.Devices[0]; s.Reason != gpuinfo.OK || d.Memory.Free != nil || len(d.Notes) != 1 || d.Notes[0] != (gpuinfo.Note{Field: "vram_used_bytes", Why: "no_permission"}) {
		t.Errorf("no use: %s, %+v", s.Reason, s.Devices[0])
	}
}

// stuckFS blocks whoever opens a file below sys/class, as a driver that hangs does.
type stuckFS struct {
	fs.FS
	release chan struct{}
}

func (f stuckFS) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "sys/class/drm/card1/device/mem_info") {
		<-f.release
	}
	return f.FS.Open(name)
}

// TestSysfsHungDriver (G1): a file that never answers costs one time limit, then
// nothing more until the read has ended.
func TestSysfsHungDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI, Timeout: time.Second, Root: stuckFS{tree(t, "rx7900"), release}})
		for i, want := range []time.Duration{time.Second, 0, 0} {
			start := time.Now()
			s, err := p.Snapshot(t.Context())
			if err != nil || s.Reason != gpuinfo.DriverHung || time.Since(start) != want {
				t.Errorf("call %d: %s, %v after %v; want driver_hung after %v", i, s.Reason, err, time.Since(start), want)
			}
		}
		close(release)
		synctest.Wait()
		if s, err := p.Snapshot(t.Context()); err != nil || s.Reason != gpuinfo.OK {
			t.Errorf("after the driver woke: %s, %v", s.Reason, err)
		}
	})
}

// TestSysfsSharedReading (GPU-34): callers that share one reading share no memory.
func TestSysfsSharedReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := gpuinfo.Auto(gpuinfo.AutoConfig{SMIPath: noSMI, Root: stuckFS{tree(t, "rx7900"), release}})
		var snaps [2]gpuinfo.Snapshot
		var wg sync.WaitGroup
		for i := range snaps {
			wg.Go(func() { snaps[i], _ = p.Snapshot(t.Context()) })
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		*snaps[0].Devices[0].Memory.Total, snaps[0].Devices[0].Name = 1, "mine"
		if d := snaps[1].Devices[0]; *d.Memory.Total != 24<<30 || d.Name == "mine" {
			t.Errorf("one caller's changes reached the other: %+v", d)
		}
	})
}

// TestAMDNames: GPU-18 names a product by its id and revision.
func TestAMDNames(t *testing.T) {
	table := string(tree(t, "rx7900")["usr/share/libdrm/amdgpu.ids"].Data)
	for _, c := range []struct {
		id   uint16
		rev  uint64
		want string
	}{{0x744c, 0xc8, "Made-up Radeon One"}, {0x744c, 0xcc, "Made-up Radeon Two"}, {0x744c, 0, ""}, {0x1586, 0xc1, "Made-up Halo, with a comma"}, {1, 0, ""}} {
		if got := gpuinfo.NameInTable(table, c.id, c.rev); got != c.want {
			t.Errorf("name of %04x revision %02x = %q, want %q", c.id, c.rev, got, c.want)
		}
	}
}

// TestRealAMDNames reads the table that Debian's libdrm-common installs: every line
// that is no comment and no version is found again (GPU-18).
func TestRealAMDNames(t *testing.T) {
	b, err := os.ReadFile("/usr/share/libdrm/amdgpu.ids")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("libdrm-common is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	names := map[[2]uint64]bool{}
	for line := range strings.Lines(string(b)) {
		var id uint16
		var rev uint8
		if n, _ := fmt.Sscanf(line, "%x,\t%x,", &id, &rev); n != 2 {
			continue
		}
		key := [2]uint64{uint64(id), uint64(rev)}
		if names[key] {
			continue // listed twice: the first counts
		}
		names[key] = true
		want := strings.TrimSpace(line[strings.LastIndex(line, "\t")+1:])
		if got := gpuinfo.NameInTable(string(b), id, uint64(rev)); got != want {
			t.Errorf("name of %04x revision %02x = %q, want %q", id, rev, got, want)
		}
	}
	if len(names) < 100 {
		t.Errorf("%d names read", len(names))
	}
}

// FuzzSysfs reads trees whose paths and contents are arbitrary.
func FuzzSysfs(f *testing.F) {
	files, err := filepath.Glob("testdata/sys/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds")
	}
	for _, name := range files {
		var flat bytes.Buffer
		for path, file := range tree(f, strings.TrimSuffix(filepath.Base(name), ".txtar")) {
			flat.WriteString(path + "\x00" + string(file.Data) + "\x01")
		}
		f.Add(flat.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root := fstest.MapFS{}
		for entry := range bytes.SplitSeq(b, []byte{1}) {
			path, data, _ := bytes.Cut(entry, []byte{0})
			if fs.ValidPath(string(path)) {
				root[string(path)] = &fstest.MapFile{Data: data}
			}
		}
		s := onTree(t, root)
		wire, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gpuinfo.LoadSnapshot(bytes.NewReader(wire)); err != nil {
			t.Fatalf("what was read does not load: %v\n%s", err, wire)
		}
	})
}
