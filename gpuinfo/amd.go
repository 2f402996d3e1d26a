package gpuinfo

import (
	"io/fs"
	"strconv"
	"strings"
)

// maxNames bounds the table of product names that libdrm installs.
const maxNames = 1 << 20

// readAMD fills in what the amdgpu driver tells of one function.
func readAMD(root fs.FS, f function, apu bool, d *Device) {
	dir := f.card + "/device"
	if name := amdName(root, dir, f); name != "" {
		d.Name = name
	}
	id := strings.ToLower(readText(root, dir+"/unique_id"))
	if n, err := strconv.ParseUint(id, 16, 64); err == nil && len(id) == 16 && n != 0 {
		d.UUID = "GPU-" + id
	}
	if n, why := readNumber(root, dir+"/gpu_busy_percent"); why == "" && n <= 100 {
		d.UtilPercent = new(int(n))
	}
	d.TempC = hwmonTemp(root, dir)
	d.Memory.Kind = Dedicated
	total := readBytes(root, dir+"/mem_info_vram_total", vramTotal, d)
	used := readBytes(root, dir+"/mem_info_vram_used", vramUsed, d)
	if total == nil {
		d.Memory.Kind = ""
		return
	}
	d.Memory.Total, d.Memory.Used = total, used
	if used != nil {
		d.Memory.Free = new(*total - min(*total, *used))
		if *used > *total {
			d.note(vramFree, "clamped")
		}
	}
	if apu {
		d.Memory.Kind = Carveout
		addGTT(root, dir, d)
	}
}

// addGTT adds the part of the host's memory that an APU may map beside its carve-out.
// Where the host's amount is not known, the carve-out alone is counted.
func addGTT(root fs.FS, dir string, d *Device) {
	total := readBytes(root, dir+"/mem_info_gtt_total", "gtt_total_bytes", d)
	used := readBytes(root, dir+"/mem_info_gtt_used", "gtt_used_bytes", d)
	host := readHostMemory(root)
	if total == nil || used == nil {
		return
	}
	if host.total == nil || host.available == nil {
		d.note("gtt_total_bytes", "not_available")
		return
	}
	m := &d.Memory
	m.Total = new(*m.Total + min(*total, *host.total))
	if m.Used != nil {
		m.Used = new(*m.Used + *used)
		m.Free = new(*m.Free + min(*total-min(*total, *used), *host.available))
	}
}

// amdName asks the driver for the product's name, then the table of libdrm.
func amdName(root fs.FS, dir string, f function) string {
	if name := readText(root, dir+"/product_name"); name != "" {
		return clean(name, maxName)
	}
	rev, why := readNumber(root, f.dir+"/revision")
	if why != "" {
		return ""
	}
	table, _ := readLimited(root, "usr/share/libdrm/amdgpu.ids", maxNames)
	return nameInTable(table, f.device, rev)
}

// nameInTable finds a device and its revision in lines "744C,	C8,	product name".
func nameInTable(table string, device uint16, revision uint64) string {
	for line := range strings.Lines(table) {
		parts := strings.SplitN(line, ",", 3)
		if len(parts) != 3 {
			continue // a comment, or the version of the format
		}
		id, err1 := strconv.ParseUint(strings.TrimSpace(parts[0]), 16, 16)
		rev, err2 := strconv.ParseUint(strings.TrimSpace(parts[1]), 16, 8)
		if err1 == nil && err2 == nil && uint16(id) == device && rev == revision {
			return clean(strings.TrimSpace(parts[2]), maxName)
		}
	}
	return ""
}

// hwmonTemp reads the first temperature that the driver measures, in °C.
func hwmonTemp(root fs.FS, dir string) *int {
	names, _ := fs.Glob(root, dir+"/hwmon/*/temp1_input") // the only error is that of the pattern
	if len(names) > 0 {
		if n, why := readNumber(root, names[0]); why == "" && n <= 250_000 {
			return new(int(n / 1000))
		}
	}
	return nil
}
