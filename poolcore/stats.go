package poolcore

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolregistry"
)

// Stats are the counters and gauges of a host since New.
type Stats struct {
	NodeID          poolregistry.NodeID
	Pools           []PoolStats // sorted by pool id
	Workers         map[string]int
	Preloads        uint64            // that ended well
	PreloadFailures map[string]uint64 // by code
	HealthChecks    map[string]uint64 // ready workers: ok, failed, foreign
	HealthSeconds   Histogram
	StartSeconds    map[string]Histogram // by engine
	Drains          uint64               // that came to their end
	DrainSeconds    Histogram
	Reloads         uint64            // that ended well
	ReloadFailures  map[string]uint64 // by code
	FetchedBytes    uint64            // of models, that came over the network
	DroppedEvents   uint64
	ReservedBytes   map[string]uint64 // by device's UUID: promised to workers
	Devices         []gpuinfo.Device  // as of the last Snapshot or Describe
}

// PoolStats are the numbers of one pool.
type PoolStats struct {
	ID                            poolregistry.PoolID
	Ready                         bool
	SlotsTotal, SlotsFree, Active int
	Restarts                      int
	Breaker                       string // closed, open, half_open
}

// Histogram counts durations in seconds; Buckets hold cumulative counts by upper
// bound.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64
}

// Stats returns a consistent copy.
func (h *Host) Stats() Stats {
	s := h.stats.copy()
	s.NodeID = h.cfg.NodeID
	s.Workers = map[string]int{}
	for p := range h.Pools() {
		v := p.view.Load()
		s.Pools = append(s.Pools, PoolStats{
			ID: p.id, Ready: v.status.Ready, SlotsTotal: v.status.SlotsTotal, SlotsFree: v.status.SlotsFree,
			Active: v.active, Restarts: v.restarts, Breaker: v.breaker,
		})
		for _, w := range v.workers {
			s.Workers[string(w.Status)]++
		}
	}
	if l, ok := h.runningCrew().(ledgered); ok {
		s.ReservedBytes = l.reserved()
	}
	if g := h.gpus.Load(); g != nil {
		s.Devices = g.Devices
	}
	return s
}

// ledgered is a crew that knows what it promised of each device's memory.
type ledgered interface{ reserved() map[string]uint64 }

func (h *Host) runningCrew() crew {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.crew
}

// counters are written by loops and their helpers.
type counters struct {
	fetched atomic.Uint64

	mu sync.Mutex
	s  Stats
}

func newCounters() *counters {
	return &counters{s: Stats{
		PreloadFailures: map[string]uint64{}, HealthChecks: map[string]uint64{}, StartSeconds: map[string]Histogram{},
		HealthSeconds: newHistogram(), DrainSeconds: newHistogram(), ReloadFailures: map[string]uint64{},
	}}
}

func newHistogram() Histogram {
	h := Histogram{Buckets: map[float64]uint64{}}
	for _, b := range []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600} {
		h.Buckets[b] = 0
	}
	return h
}

// add is for the owner of the histogram.
func (h Histogram) add(d time.Duration) Histogram {
	s := d.Seconds()
	h.Count++
	h.Sum += s
	for bound := range h.Buckets {
		if s <= bound {
			h.Buckets[bound]++
		}
	}
	return h
}

func (h Histogram) clone() Histogram {
	h.Buckets = maps.Clone(h.Buckets)
	return h
}

// count changes the numbers.
func (c *counters) count(change func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.s)
}

func (c *counters) copy() (s Stats) {
	c.count(func(own *Stats) {
		s = *own
		s.PreloadFailures, s.HealthChecks, s.ReloadFailures = maps.Clone(s.PreloadFailures), maps.Clone(s.HealthChecks), maps.Clone(s.ReloadFailures)
		s.HealthSeconds, s.DrainSeconds = s.HealthSeconds.clone(), s.DrainSeconds.clone()
		s.StartSeconds = maps.Clone(s.StartSeconds)
		for k, v := range s.StartSeconds {
			s.StartSeconds[k] = v.clone()
		}
	})
	s.FetchedBytes = c.fetched.Load()
	return s
}

// probed counts health checks of workers that were ready; probes of a start are
// not health checks.
func (c *counters) probed(served bool, p probe, took time.Duration) {
	if !served {
		return
	}
	outcome := "ok"
	switch {
	case p.foreign:
		outcome = "foreign"
	case p.failed || !p.ready:
		outcome = "failed"
	}
	c.count(func(s *Stats) {
		s.HealthChecks[outcome]++
		s.HealthSeconds = s.HealthSeconds.add(took)
	})
}

func (c *counters) startTook(engine string, d time.Duration) {
	c.count(func(s *Stats) {
		h, ok := s.StartSeconds[engine]
		if !ok {
			h = newHistogram()
		}
		s.StartSeconds[engine] = h.add(d)
	})
}

func (c *counters) preloaded(err error) {
	c.count(func(s *Stats) {
		if err == nil {
			s.Preloads++
			return
		}
		s.PreloadFailures[reason(err)]++
	})
}

func (c *counters) dropped(n int) {
	c.count(func(s *Stats) { s.DroppedEvents += uint64(n) })
}

// reason is the code of a failed operation; the set of codes is closed.
func reason(err error) string {
	if p, ok := errors.AsType[*PreflightError](err); ok && len(p.Faults) > 0 {
		return string(p.Faults[0].Code)
	}
	if c, ok := errors.AsType[*CrashError](err); ok {
		return string(startCode(c.Class))
	}
	if c, ok := errors.AsType[Code](err); ok {
		return string(c)
	}
	return string(WorkerStartFailed)
}
