package orchestrator

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/poolregistry"
)

// milli returns thousandths of a figure, 0 for none.
func milli(x float64) int64 {
	if !(x > 0) {
		return 0
	}
	return int64(min(x, 1e12) * 1000)
}

// kinds are the capabilities that say what work a worker does; the others are
// features.
var kinds = []string{"chat", "completion", "embedding", "rerank"}

// abilities tells workloads and features apart, both sorted. A worker that names no
// workload leaves it open.
func abilities(capabilities []string) (workloads, features []string) {
	for _, c := range slices.Compact(slices.Sorted(slices.Values(capabilities))) {
		if slices.Contains(kinds, c) {
			workloads = append(workloads, c)
		} else {
			features = append(features, c)
		}
	}
	return workloads, features
}

// devices returns the mask of a pool, sorted, the lowest compute capability of the
// worker's GPUs and their memory. A worker that does not name its GPUs has those of
// the mask; without a mask, all. Compute capability and memory are 0 if one GPU does
// not state its own; then the memory is what the pool says.
func devices(n *poolregistry.Node, p *poolregistry.Pool, w *poolregistry.Worker) (mask []string, compute int, vram uint64) {
	mask = slices.Compact(slices.Sorted(slices.Values(p.DeviceMask)))
	of := mask
	if len(w.GPUUUIDs) > 0 {
		of = w.GPUUUIDs
	}
	known := true
	compute = -1
	for _, g := range n.Capabilities.GPUs {
		if len(of) > 0 && !slices.Contains(of, g.UUID) && !slices.Contains(of, strconv.Itoa(g.DeviceID)) {
			continue
		}
		if c := capability(g.ComputeCapability); compute < 0 || c < compute {
			compute = c
		}
		if known = known && g.VRAMTotalBytes != nil; known {
			vram += *g.VRAMTotalBytes
		}
	}
	if !known || vram == 0 {
		vram = p.VRAMTotalBytes
	}
	return mask, max(0, compute), vram
}

// capability reads "8.6" as 86; 0 is unknown.
func capability(s string) int {
	major, minor, ok := strings.Cut(s, ".")
	a, err := strconv.ParseUint(major, 10, 8)
	b, err2 := strconv.ParseUint(minor, 10, 8)
	if !ok || err != nil || err2 != nil || b > 9 {
		return 0
	}
	return int(a)*10 + int(b)
}

// models returns what a worker serves and what it could load instead, both sorted.
// An engine that loads on demand serves all that its pool has.
func models(p *poolregistry.Pool, x *placement.Worker) (serves []string, disk []placement.OnDisk) {
	serves = x.Models
	for _, m := range p.ModelsAvailable {
		loaded := slices.Contains(x.Models, m.Ref) || x.OnDemand && slices.Contains(p.ModelsLoaded, m.Ref)
		if x.OnDemand && !slices.Contains(serves, m.Ref) {
			serves = append(serves, m.Ref)
		}
		if loaded {
			continue
		}
		d := placement.OnDisk{Model: m.Ref, Need: m.NeedBytes}
		if m.Fits != nil {
			d.Fits = -1
			if *m.Fits {
				d.Fits = 1
			}
		}
		disk = append(disk, d)
	}
	slices.Sort(serves)
	slices.SortFunc(disk, func(a, b placement.OnDisk) int { return cmp.Compare(a.Model, b.Model) })
	return serves, disk
}
