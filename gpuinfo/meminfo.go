package gpuinfo

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// hostMemory is what the kernel says about the host's memory, in bytes; nil is unknown.
type hostMemory struct {
	total     *uint64
	available *uint64 // MemAvailable
	free      *uint64 // available, and not more than what is left below the limits of our control groups
}

func readHostMemory(root fs.FS) hostMemory {
	text := readText(root, "proc/meminfo")
	h := hostMemory{total: memInfo(text, "MemTotal"), available: memInfo(text, "MemAvailable")}
	if h.available != nil {
		h.free = new(min(*h.available, groupLeft(root)))
	}
	return h
}

// memInfo reads one line of meminfo, such as "MemTotal:  131072 kB".
func memInfo(text, name string) *uint64 {
	m := regexp.MustCompile(`(?m)^` + name + `: *([0-9]{1,13}) kB$`).FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	n, _ := strconv.ParseUint(m[1], 10, 64) // 13 digits
	return new(n << 10)
}

// maxGroupDepth bounds the walk up the tree of control groups.
const maxGroupDepth = 32

// groupLeft returns how much memory the limits of our control group and of those
// above it leave (version 2), or the largest number where nothing limits.
func groupLeft(root fs.FS) uint64 {
	const unlimited = 1<<64 - 1
	left := uint64(unlimited)
	for line := range strings.Lines(readText(root, "proc/self/cgroup")) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		group = path.Clean("/" + group)
		for range maxGroupDepth {
			dir := path.Join("sys/fs/cgroup", group)
			limit, why1 := readNumber(root, dir+"/memory.max") // "max" is no number: no limit
			current, why2 := readNumber(root, dir+"/memory.current")
			if why1 == "" && why2 == "" {
				left = min(left, limit-min(limit, current))
			}
			if group == "/" {
				break
			}
			group = path.Dir(group)
		}
	}
	return left
}

// ShareHostMemory is for providers: a device of which the driver said that it has
// no amount of memory to tell, and that is integrated by the driver's word or its
// product name, computes in the memory of the host and gets the numbers of the host
// below root, with the kind Unified. All others stay as they are: what a driver hides
// stays unknown.
func (d *Device) ShareHostMemory(root fs.FS, integrated bool) {
	if works := d.Health.State == Healthy || d.Health.State == Degraded; d.Memory.Total != nil || !works || !lacksTotal(d.Notes) || !integrated && !isIntegrated(d.Name) {
		return
	}
	h := readHostMemory(root)
	if h.total == nil {
		return
	}
	d.Memory = Memory{Kind: Unified, Total: h.total, Free: h.free, Source: "meminfo"}
	d.Notes = slices.DeleteFunc(d.Notes, func(n Note) bool { return n.Field == vramTotal || n.Field == vramFree })
	if h.free == nil {
		d.note(vramFree, "not_available")
	}
}

// lacksTotal reports whether the driver said that there is no amount of memory to
// tell; a fault or a missing permission is no reason to look elsewhere.
func lacksTotal(notes []Note) bool {
	at := slices.IndexFunc(notes, func(n Note) bool { return n.Field == vramTotal })
	return at >= 0 && (notes[at].Why == "not_available" || notes[at].Why == "not_supported")
}

// isIntegrated reports whether a product name is that of an NVIDIA device that
// shares the host's memory. Whole words are compared: GB100 is no GB10.
func isIntegrated(name string) bool {
	return regexp.MustCompile(`(?i)\b(gb10|thor|orin|tegra|xavier)\b`).MatchString(name)
}
