// Package metrics turns the numbers of a poolcore.Host into Prometheus metrics. It
// is the only package of the module that links the Prometheus client.
package metrics

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
)

// Metrics reads one host at every scrape.
type Metrics struct {
	host                                                                        *poolcore.Host
	preloads, preloadFailures, restarts, breaker, slotsTotal, slotsFree, active *prometheus.Desc
	ready, workers, checks, checkSeconds, starts, vramTotal, vramFree           *prometheus.Desc
	vramReserved, drains, reloads, reloadFailures, fetched, dropped             *prometheus.Desc
}

var _ prometheus.Collector = (*Metrics)(nil)

// New makes the collector of h, registers it with reg and returns it. Every series
// carries the constant label node_id; the other labels are closed sets or
// configured ids.
func New(reg prometheus.Registerer, h *poolcore.Host) (*Metrics, error) {
	node := prometheus.Labels{"node_id": string(h.Stats().NodeID)}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, node)
	}
	m := &Metrics{
		host:            h,
		preloads:        desc("preload_success_total", "Pools that became ready after a preload."),
		preloadFailures: desc("preload_failure_total", "Preloads that failed, by error code.", "reason"),
		restarts:        desc("restart_total", "Workers started again after a failure.", "pool_id"),
		breaker:         desc("circuit_breaker_state", "0 closed, 1 open, 2 half open.", "pool_id"),
		slotsTotal:      desc("slots_total", "Slots of workers that serve.", "pool_id"),
		slotsFree:       desc("slots_free", "Slots without an active request.", "pool_id"),
		active:          desc("active_leases", "Requests that the scheduler has running here.", "pool_id"),
		ready:           desc("pool_ready", "1 if at least one worker serves.", "pool_id"),
		workers:         desc("pool_mgr_workers", "Workers by status.", "status"),
		checks:          desc("pool_health_checks_total", "Health checks of workers that were ready.", "outcome"),
		checkSeconds:    desc("pool_health_check_seconds", "Duration of health checks."),
		starts:          desc("worker_start_seconds", "From the start of an attempt to ready.", "engine"),
		vramTotal:       desc("vram_total_bytes", "Memory of a device.", "device"),
		vramFree:        desc("vram_free_bytes", "Free memory of a device.", "device"),
		vramReserved:    desc("vram_reserved_bytes", "Memory of a device, its slices included, that is promised to workers.", "device"),
		drains:          desc("drain_duration_ms", "Duration of drains that came to their end, in milliseconds."),
		reloads:         desc("reload_success_total", "Reloads that ended with the new engines ready."),
		reloadFailures:  desc("reload_failure_total", "Reloads that failed, by error code.", "reason"),
		fetched:         desc("model_fetch_bytes_total", "Bytes of models that were fetched."),
		dropped:         desc("pool_events_dropped_total", "Events lost because nobody took them in time."),
	}
	if err := reg.Register(m); err != nil {
		return nil, fmt.Errorf("register pool metrics: %w", err)
	}
	return m, nil
}

// Describe sends the descriptions of all families.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.preloads, m.preloadFailures, m.restarts, m.breaker, m.slotsTotal, m.slotsFree, m.active, m.ready, m.workers,
		m.checks, m.checkSeconds, m.starts, m.vramTotal, m.vramFree,
		m.vramReserved, m.drains, m.reloads, m.reloadFailures, m.fetched, m.dropped,
	} {
		ch <- d
	}
}

// Collect sends the present numbers.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := m.host.Stats()
	counter(m.preloads, s.Preloads)
	counter(m.dropped, s.DroppedEvents)
	for code, n := range s.PreloadFailures {
		counter(m.preloadFailures, n, code)
	}
	for outcome, n := range s.HealthChecks {
		counter(m.checks, n, outcome)
	}
	for status, n := range s.Workers {
		gauge(m.workers, float64(n), status)
	}
	for _, p := range s.Pools {
		id := string(p.ID)
		counter(m.restarts, uint64(p.Restarts), id)
		gauge(m.breaker, breakerNumber(p.Breaker), id)
		gauge(m.slotsTotal, float64(p.SlotsTotal), id)
		gauge(m.slotsFree, float64(p.SlotsFree), id)
		gauge(m.active, float64(p.Active), id)
		gauge(m.ready, flag(p.Ready), id)
	}
	counter(m.reloads, s.Reloads)
	for code, n := range s.ReloadFailures {
		counter(m.reloadFailures, n, code)
	}
	counter(m.fetched, s.FetchedBytes)
	ch <- histogram(m.checkSeconds, s.HealthSeconds, 1)
	ch <- histogram(m.drains, s.DrainSeconds, 1000)
	for engine, h := range s.StartSeconds {
		ch <- histogram(m.starts, h, 1, engine)
	}
	for _, d := range s.Devices {
		device := strconv.Itoa(d.Index)
		if d.Memory.Total != nil {
			gauge(m.vramTotal, float64(*d.Memory.Total), device)
		}
		if d.Memory.Free != nil {
			gauge(m.vramFree, float64(*d.Memory.Free), device)
		}
		gauge(m.vramReserved, float64(reserved(d, s.ReservedBytes)), device)
	}
}

// reserved is what is promised of a device and of its slices.
func reserved(d gpuinfo.Device, promised map[string]uint64) uint64 {
	sum := promised[d.UUID]
	for _, m := range d.MIG {
		sum += promised[m.UUID]
	}
	return sum
}

// histogram writes h in another unit: scale of it make one second.
func histogram(d *prometheus.Desc, h poolcore.Histogram, scale float64, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for bound, n := range h.Buckets {
		buckets[bound*scale] = n
	}
	return prometheus.MustNewConstHistogram(d, h.Count, h.Sum*scale, buckets, labels...)
}

func breakerNumber(state string) float64 {
	switch state {
	case "open":
		return 1
	case "half_open":
		return 2
	}
	return 0
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
