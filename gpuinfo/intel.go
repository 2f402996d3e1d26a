package gpuinfo

import "io/fs"

const maxTiles = 16 // of one card

// readIntel fills in what the i915 or the xe driver tells of one function. A device
// without memory of its own is integrated: how much of the host's it may use nobody
// tells, so it stays unknown.
func readIntel(root fs.FS, f function, d *Device) {
	for _, dir := range []string{f.card, f.card + "/device"} {
		total := numberIn(root, dir+"/lmem_total_bytes")
		if total == 0 || total > maxDeviceBytes {
			continue
		}
		d.Memory.Kind, d.Memory.Total = Dedicated, &total
		if free := readBytes(root, dir+"/lmem_avail_bytes", vramFree, d); free != nil {
			if *free > total {
				d.note(vramFree, "clamped")
			}
			d.Memory.Free = new(min(*free, total))
			d.Memory.Used = new(total - *d.Memory.Free)
		}
		return
	}
	if total := xeMemory(root, f.card+"/device"); total > 0 {
		d.Memory.Kind, d.Memory.Total = Dedicated, &total
		d.note(vramUsed, "not_available")
		d.note(vramFree, "not_available")
		return
	}
	d.note(vramTotal, "not_available")
}

// xeMemory adds up the memory of a card's tiles; 0 is unknown.
func xeMemory(root fs.FS, dir string) (sum uint64) {
	for _, pattern := range []string{"/tile*/physical_vram_size_bytes", "/tile*/memory/physical_vram_size_bytes"} {
		names, _ := fs.Glob(root, dir+pattern) // the only error is that of the pattern
		for _, name := range names[:min(len(names), maxTiles)] {
			if n := numberIn(root, name); n <= maxDeviceBytes {
				sum += n
			}
		}
		if sum > 0 {
			break
		}
	}
	if sum > maxDeviceBytes {
		return 0
	}
	return sum
}
