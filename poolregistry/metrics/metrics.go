// Package metrics shows a registry and an agent to Prometheus. It is the only
// package of its module that links the Prometheus client.
package metrics

import (
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// maxPools is how many pool ids become label values; the rest counts as "other".
const maxPools = 256

// other is the label value of what has none of its own.
const other = "other"

// Metrics is a collector that reads its numbers when it is scraped.
type Metrics struct {
	describe []*prometheus.Desc
	collect  func(chan<- prometheus.Metric)
}

var _ prometheus.Collector = (*Metrics)(nil)

// Describe sends the families.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.describe {
		ch <- d
	}
}

// Collect sends the numbers as they are now.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) { m.collect(ch) }

// New registers the families of a registry. Label values are outcomes, states,
// and ids of registered nodes and their pools, at most 256 of each.
func New(reg prometheus.Registerer, r *poolregistry.Registry) (*Metrics, error) {
	c := newRegistryFamilies()
	return register(reg, &Metrics{describe: c.all(), collect: func(ch chan<- prometheus.Metric) { c.collect(ch, r) }})
}

// NewAgent registers the family of an agent.
func NewAgent(reg prometheus.Registerer, a *nodeagent.Agent) (*Metrics, error) {
	sent := prometheus.NewDesc("pool_heartbeat_sent_total", "Heartbeats sent to the registry.", []string{"outcome"}, nil)
	return register(reg, &Metrics{describe: []*prometheus.Desc{sent}, collect: func(ch chan<- prometheus.Metric) {
		counters(ch, sent, a.Stats().Beats)
	}})
}

func register(reg prometheus.Registerer, m *Metrics) (*Metrics, error) {
	if err := reg.Register(m); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

type registryFamilies struct {
	registrations, deregistrations, heartbeats, online, nodes, pools, delay, held, stalled *prometheus.Desc
}

func newRegistryFamilies() *registryFamilies {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &registryFamilies{
		registrations:   d("orchd_node_registrations_total", "Registrations of nodes.", "outcome"),
		deregistrations: d("orchd_node_deregistrations_total", "Nodes that left.", "outcome"),
		heartbeats:      d("orchd_node_heartbeats_total", "Heartbeats received.", "node_id", "outcome"),
		online:          d("orchd_nodes_online", "Nodes that are online."),
		nodes:           d("orchd_nodes", "Nodes by status, each counted once.", "status"),
		pools:           d("orchd_pools_available", "Online nodes on which a pool takes work.", "pool_id"),
		delay:           d("orchd_node_detection_delay_seconds", "Silence of a node when it was declared offline."),
		held:            d("orchd_registry_guard_held", "Whether the mass-failure guard is held."),
		stalled:         d("orchd_registry_stall_seconds_total", "Pauses of this process that were not held against nodes."),
	}
}

func (f *registryFamilies) all() []*prometheus.Desc {
	return []*prometheus.Desc{f.registrations, f.deregistrations, f.heartbeats, f.online, f.nodes, f.pools, f.delay, f.held, f.stalled}
}

func (f *registryFamilies) collect(ch chan<- prometheus.Metric, r *poolregistry.Registry) {
	st, v := r.Stats(), r.View()
	counters(ch, f.registrations, st.Registrations)
	counters(ch, f.deregistrations, st.Deregistrations)
	for id, byOutcome := range st.Heartbeats {
		if id == other { // a node may really be called so
			for outcome, n := range byOutcome {
				st.OtherHeartbeats[outcome] += n
			}
			continue
		}
		counters(ch, f.heartbeats, byOutcome, string(id))
	}
	counters(ch, f.heartbeats, st.OtherHeartbeats, other)

	gauge(ch, f.online, float64(v.Online))
	byStatus := map[string]int{}
	for _, n := range v.Nodes {
		byStatus[n.Status()]++
	}
	for _, status := range []string{"registering", "online", "draining", "suspect", "offline", "failed"} {
		gauge(ch, f.nodes, float64(byStatus[status]), status)
	}
	f.collectPools(ch, v)

	held := 0.0
	if v.GuardHeld {
		held = 1
	}
	gauge(ch, f.held, held)
	ch <- prometheus.MustNewConstMetric(f.stalled, prometheus.CounterValue, st.Stalled.Seconds())
	d := st.DetectionDelay
	ch <- prometheus.MustNewConstHistogram(f.delay, d.Count, d.Sum.Seconds(), d.Buckets)
}

func (f *registryFamilies) collectPools(ch chan<- prometheus.Metric, v *poolregistry.View) {
	available := map[poolregistry.PoolID]int{}
	for _, n := range v.Nodes {
		ok, _ := n.Placeable()
		for i := range n.Pools {
			p := &n.Pools[i]
			available[p.ID] += 0
			if ok && p.Available() {
				available[p.ID]++
			}
		}
	}
	rest, folded := 0, false
	for i, id := range slices.Sorted(maps.Keys(available)) {
		if i < maxPools && id != other {
			gauge(ch, f.pools, float64(available[id]), string(id))
			continue
		}
		rest, folded = rest+available[id], true
	}
	if folded {
		gauge(ch, f.pools, float64(rest), other)
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// counters sends one series per outcome; before are the labels that come first.
func counters(ch chan<- prometheus.Metric, d *prometheus.Desc, byOutcome map[string]uint64, before ...string) {
	for outcome, n := range byOutcome {
		labels := append(slices.Clone(before), outcome)
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
}
