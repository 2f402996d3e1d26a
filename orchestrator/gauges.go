package orchestrator

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/poolregistry"
)

// factsEvery is how often observers hear what workers report. Up to maxFacts of them.
const (
	factsEvery = 5 * time.Second
	maxFacts   = 10_000
)

// gauges is implemented by sources that know more of a worker than placement needs.
type gauges interface {
	// gauge adds what the worker of f reports: context memory and GPUs.
	gauge(f *observe.WorkerFacts)
}

// tellFacts tells observers how the workers stand, and how long tasks have waited.
func (o *Orchestrator) tellFacts(ctx context.Context) {
	tick := time.NewTicker(factsEvery)
	defer tick.Stop()
	for {
		var list []observe.WorkerFacts
		var waits observe.Queue
		o.loop.ask(func(c *sched.Core) {
			now := o.loop.now()
			waits.OldestInteractive, waits.OldestBatch = c.Oldest(now, queue.Interactive), c.Oldest(now, queue.Batch)
			for w := range c.View().Workers() {
				if len(list) < maxFacts {
					list = append(list, factsOf(w, c.View().Reserved(w.Key)))
				}
			}
		})
		if g, ok := o.cfg.Pools.(gauges); ok {
			for i := range list {
				g.gauge(&list[i])
			}
		}
		o.observe.Observe(observe.Workers{List: list})
		o.observe.Observe(waits)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func factsOf(w *placement.Worker, reserved int) observe.WorkerFacts {
	f := observe.WorkerFacts{Worker: whereIs(w), Ready: w.Online && w.Ready, Slots: w.SlotsTotal, InUse: reserved, KVUsed: -1}
	if len(w.Models) > 0 {
		f.Model = w.Models[0]
	}
	return f
}

func (j joined) gauge(f *observe.WorkerFacts) {
	for _, p := range j {
		if g, ok := p.(gauges); ok {
			g.gauge(f)
		}
	}
}

func (p registryPools) gauge(f *observe.WorkerFacts) {
	n, ok := p.reg.View().Node(poolregistry.NodeID(f.Worker.Node))
	if !ok {
		return
	}
	pool, ok := n.Pool(poolregistry.PoolID(f.Worker.Pool))
	if !ok {
		return
	}
	i := slices.IndexFunc(pool.Workers, func(w poolregistry.Worker) bool { return string(w.ID) == f.Worker.Worker })
	if i < 0 {
		return
	}
	w := &pool.Workers[i]
	if w.KVUsedRatio != nil {
		f.KVUsed = *w.KVUsedRatio
	}
	for _, g := range n.Capabilities.GPUs {
		if !slices.Contains(w.GPUUUIDs, g.UUID) {
			continue
		}
		d := observe.Device{ID: strconv.Itoa(g.DeviceID), Utilization: -1}
		if g.UtilizationPercent != nil {
			d.Utilization = *g.UtilizationPercent / 100
		}
		if g.VRAMTotalBytes != nil && g.VRAMFreeBytes != nil {
			d.VRAMUsed = *g.VRAMTotalBytes - min(*g.VRAMTotalBytes, *g.VRAMFreeBytes)
		}
		f.Devices = append(f.Devices, d)
	}
}
