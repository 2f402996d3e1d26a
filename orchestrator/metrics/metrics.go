// Package metrics counts what an orchestrator reports, for Prometheus. It is the
// only package of this module that links client_golang.
package metrics

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
)

// Config tunes the metrics. The zero value is usable.
type Config struct {
	NodeID string // node_id of what belongs to no worker; "" = "local"
}

// none stands for a label value that is not known yet, other for what is beyond a bound.
const (
	none      = "none"
	other     = "other"
	maxModels = 1024 // values of model_id
)

// Metrics is an [observe.Observer]. It is safe for concurrent use.
type Metrics struct {
	node       string
	counters   map[string]*prometheus.CounterVec
	gauges     map[string]*prometheus.GaugeVec
	histograms map[string]*prometheus.HistogramVec

	mu          sync.Mutex
	duplicates  int                           // as last told
	quarantined map[observe.Worker]struct{}   // told so, and not restored
	pools       map[[2]string]struct{}        // with slots, as last told: node, pool
	models      map[string]struct{}           // values of model_id in use
	loading     map[string]map[string]float64 // model, state: workers
}

var _ observe.Observer = (*Metrics)(nil)

// New builds the metrics and registers them on reg; a name that is taken is an
// error. Label values come from registered workers and closed sets only.
func New(reg prometheus.Registerer, c Config) (*Metrics, error) {
	m := &Metrics{
		node: cmp.Or(c.NodeID, "local"), counters: map[string]*prometheus.CounterVec{}, gauges: map[string]*prometheus.GaugeVec{},
		histograms: map[string]*prometheus.HistogramVec{}, quarantined: map[observe.Worker]struct{}{}, pools: map[[2]string]struct{}{},
		models: map[string]struct{}{}, loading: map[string]map[string]float64{},
	}
	var errs []error
	for _, f := range Contract() {
		labels := append([]string{"node_id"}, f.Labels...)
		var v prometheus.Collector
		switch f.Kind {
		case "counter":
			m.counters[f.Name] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, labels)
			v = m.counters[f.Name]
		case "gauge":
			m.gauges[f.Name] = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.Name, Help: f.Help}, labels)
			v = m.gauges[f.Name]
		default:
			m.histograms[f.Name] = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.Name, Help: f.Help, Buckets: f.buckets}, labels)
			v = m.histograms[f.Name]
		}
		errs = append(errs, reg.Register(v))
		if len(f.Labels) == 0 { // shown from the start
			m.touch(f)
		}
	}
	return m, errors.Join(errs...)
}

func (m *Metrics) touch(f Family) {
	switch f.Kind {
	case "counter":
		m.counters[f.Name].WithLabelValues(m.node)
	case "gauge":
		m.gauges[f.Name].WithLabelValues(m.node)
	default:
		m.histograms[f.Name].WithLabelValues(m.node)
	}
}

// count adds to a counter; labels begin with node_id.
func (m *Metrics) count(name string, n float64, labels ...string) {
	m.counters[name].WithLabelValues(labels...).Add(n)
}

func (m *Metrics) set(name string, v float64, labels ...string) {
	m.gauges[name].WithLabelValues(labels...).Set(v)
}

func (m *Metrics) took(name string, v float64, labels ...string) {
	m.histograms[name].WithLabelValues(labels...).Observe(v)
}

// known replaces an empty value.
func known(s string) string { return cmp.Or(s, none) }

// engine is the label group of a worker.
func engine(w observe.Worker, more ...string) []string {
	return append([]string{known(w.Node), known(w.Engine), known(w.Version), known(w.Pool), known(replica(w))}, more...)
}

// pool is the label group of a worker's pool, with a class.
func pool(w observe.Worker, class string) []string {
	return []string{known(w.Node), known(w.Engine), known(w.Version), known(w.Pool), known(class)}
}

// replica is the worker's place in its pool. A worker id is new with every
// process, so it would make a series per restart.
func replica(w observe.Worker) string {
	return placement.Key{Node: w.Node, Pool: w.Pool, Worker: w.Worker}.Place()
}

// Observe counts an event.
func (m *Metrics) Observe(e observe.Event) {
	switch e := e.(type) {
	case observe.Admitted:
		m.count("tasks_enqueued_total", 1, engine(observe.Worker{}, e.Class)...)
		m.took("orchd_admission_seconds", e.Took.Seconds(), m.node, "admitted")
	case observe.Rejected:
		m.rejected(e)
	case observe.Placed:
		m.count("tasks_started_total", 1, engine(e.Worker, e.Class)...)
		m.count("placement_decisions_total", 1, m.node, "placed", strconv.FormatBool(e.Pinned), strconv.FormatBool(e.Fallback))
		m.set("placement_candidates_considered", float64(e.Considered), m.node)
		m.took("orchd_queue_wait_seconds", e.QueueWait.Seconds(), m.node, known(e.Class))
	case observe.FirstToken:
		m.took("latency_first_token_ms", ms(e.After), pool(e.Worker, e.Class)...)
	case observe.Retried:
		m.count("orchd_dispatch_attempts_total", 1, known(e.Worker.Node), known(e.Worker.Pool), known(e.Class))
	case observe.Victim:
		m.count("orchd_queue_evictions_total", 1, m.node, known(e.Policy), known(e.Class))
		m.count("admission_backpressure_events_total", 1, m.node, none, known(e.Policy))
	case observe.Finished:
		m.finished(e)
	case observe.StoreOp:
		outcome := "ok"
		if e.Err {
			outcome = "error"
		}
		m.took("orchd_store_op_seconds", e.Took.Seconds(), m.node, e.Op, outcome)
	case observe.Streams:
		m.gauges["orchd_streams_open"].WithLabelValues(m.node).Add(float64(e.Delta))
	case observe.Loop:
		m.loop(e)
	case observe.WorkerChanged, observe.ModelLoad, observe.Workers:
		m.workers(e)
	default:
		m.rare(e)
	}
}

// rare counts what seldom happens.
func (m *Metrics) rare(e observe.Event) {
	switch e := e.(type) {
	case observe.Queue:
		m.set("orchd_queue_oldest_seconds", e.OldestInteractive.Seconds(), m.node, "interactive")
		m.set("orchd_queue_oldest_seconds", e.OldestBatch.Seconds(), m.node, "batch")
	case observe.MetricsDropped:
		m.count("sse_backpressure_drops_total", 1, m.node)
	case observe.Verified:
		m.count("catalog_verifications_total", 1, known(e.Node), known(e.Result), known(e.Reason), none)
	case observe.Leader:
		leads := 0.0
		if e.Leads {
			leads = 1
		}
		m.set("orchd_leader", leads, m.node)
	case observe.Fenced:
		m.count("orchd_fenced_writes_total", 1, m.node, e.Op)
	case observe.DecisionGap:
		m.count("orchd_decision_gaps_total", float64(e.Steps), m.node)
	case observe.AuditFailed:
		m.count("orchd_audit_errors_total", 1, m.node)
	}
}

func (m *Metrics) rejected(e observe.Rejected) {
	m.count("tasks_rejected_total", 1, m.node, none, known(e.Code))
	m.took("orchd_admission_seconds", e.Took.Seconds(), m.node, "rejected")
	switch e.Code {
	case "DEADLINE_UNMET":
		m.count("orchd_deadline_outcomes_total", 1, m.node, "rejected", known(e.Class))
	case "QUEUE_FULL", "ADMISSION_REJECT":
		m.count("admission_backpressure_events_total", 1, m.node, none, "reject")
	case "NO_EU_WORKER_AVAILABLE", "NO_REGION_WORKER_AVAILABLE", "POOL_UNAVAILABLE", "POOL_UNREADY", "NODE_UNAVAILABLE", "MODEL_NOT_AVAILABLE", "INSUFFICIENT_VRAM":
		m.count("placement_decisions_total", 1, m.node, "no_capacity", "false", "false")
	}
}

func (m *Metrics) finished(e observe.Finished) {
	w := e.Worker
	m.count("tokens_in_total", float64(e.TokensIn), engine(w)...)
	m.count("tokens_out_total", float64(e.TokensOut), engine(w)...)
	if e.FirstToken > 0 {
		m.took("latency_decode_ms", ms(e.Decode), pool(w, e.Class)...)
	}
	if e.TokensOut > 1 && e.Decode > 0 {
		m.took("orchd_inter_token_seconds", e.Decode.Seconds()/float64(e.TokensOut-1), m.node, known(w.Engine))
	}
	if e.Stop > 0 {
		m.took("orchd_cancel_seconds", e.Stop.Seconds(), m.node, known(e.Reason))
	}
	if e.Code == "CANCELLED" {
		m.count("tasks_canceled_total", 1, engine(w, known(e.Reason))...)
	}
	if outcome := deadlineOutcome(e); outcome != "" {
		m.count("orchd_deadline_outcomes_total", 1, m.node, outcome, known(e.Class))
	}
	if w != (observe.Worker{}) {
		outcome := "ok"
		if e.Code != "" {
			outcome = known(cmp.Or(e.Failure, e.Reason))
		}
		m.count("orchd_dispatch_attempts_total", 1, known(w.Node), known(w.Pool), outcome)
	}
}

// deadlineOutcome says how a task stood to its deadline; "" if it had none.
func deadlineOutcome(e observe.Finished) string {
	switch {
	case e.Code == "DEADLINE_UNMET" && e.Worker == (observe.Worker{}):
		return "expired"
	case e.Code == "DEADLINE_UNMET":
		return "missed"
	case e.Code == "" && e.Deadline:
		return "met"
	}
	return ""
}

func (m *Metrics) loop(e observe.Loop) {
	m.set("queue_depth", float64(e.Interactive), m.node, none, none, none, "interactive")
	m.set("queue_depth", float64(e.Batch), m.node, none, none, none, "batch")
	m.took("orchd_loop_lag_seconds", e.Lag.Seconds(), m.node)
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := e.DuplicateReleases; n > m.duplicates {
		m.count("orchd_slot_release_duplicates_total", float64(n-m.duplicates), m.node)
		m.duplicates = n
	}
}

// workers follows what workers report and what becomes of them. Series of workers
// that are gone go with them.
func (m *Metrics) workers(e observe.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e := e.(type) {
	case observe.WorkerChanged:
		e.Worker.Engine, e.Worker.Version = "", ""
		if e.State == "quarantined" {
			m.quarantined[e.Worker] = struct{}{}
		} else {
			delete(m.quarantined, e.Worker)
		}
		m.showQuarantined()
	case observe.ModelLoad:
		if e.State != "loading" {
			m.took("orchd_model_load_seconds", e.Took.Seconds(), m.node, known(e.State))
		}
		m.loads(e)
	case observe.Workers:
		m.facts(e.List)
	}
}

func (m *Metrics) showQuarantined() {
	g := m.gauges["orchd_worker_quarantined"]
	g.Reset()
	for w := range m.quarantined {
		g.WithLabelValues(known(w.Node), known(w.Pool)).Inc()
	}
}

// loads counts the loads under way; the rest of model_state comes with the facts.
func (m *Metrics) loads(e observe.ModelLoad) {
	model := m.model(e.Model)
	if m.loading[model] == nil {
		m.loading[model] = map[string]float64{}
	}
	by := 1.0
	if e.State != "loading" {
		by = -1
	}
	m.loading[model]["loading"] = max(0, m.loading[model]["loading"]+by)
	m.set("model_state", m.loading[model]["loading"], m.node, model, "loading")
}

// model bounds the values of a label.
func (m *Metrics) model(id string) string {
	if _, ok := m.models[id]; !ok && len(m.models) >= maxModels {
		return other
	}
	m.models[id] = struct{}{}
	return known(id)
}

func (m *Metrics) facts(list []observe.WorkerFacts) {
	for _, name := range []string{"kv_cache_usage_ratio", "gpu_utilization", "vram_used_bytes", "orchd_slots_total", "orchd_slots_in_use"} {
		m.gauges[name].Reset()
	}
	loaded := map[string]float64{}
	alive := map[observe.Worker]struct{}{}
	for _, f := range list {
		alive[observe.Worker{Node: f.Worker.Node, Pool: f.Worker.Pool, Worker: f.Worker.Worker}] = struct{}{}
		if f.Model != "" && f.Ready {
			loaded[m.model(f.Model)]++
		}
		if f.KVUsed >= 0 {
			m.set("kv_cache_usage_ratio", f.KVUsed, engine(f.Worker)...)
		}
		for _, d := range f.Devices {
			if d.Utilization >= 0 {
				m.set("gpu_utilization", d.Utilization, engine(f.Worker, d.ID)...)
			}
			m.set("vram_used_bytes", float64(d.VRAMUsed), engine(f.Worker, d.ID)...)
		}
		m.gauges["orchd_slots_total"].WithLabelValues(known(f.Worker.Node), known(f.Worker.Pool)).Add(float64(f.Slots))
		m.gauges["orchd_slots_in_use"].WithLabelValues(known(f.Worker.Node), known(f.Worker.Pool)).Add(float64(f.InUse))
	}
	maps.DeleteFunc(m.quarantined, func(w observe.Worker, _ struct{}) bool { _, here := alive[w]; return !here })
	m.showQuarantined()
	state := m.gauges["model_state"]
	state.DeletePartialMatch(prometheus.Labels{"state": "loaded"})
	for _, model := range slices.Sorted(maps.Keys(loaded)) {
		state.WithLabelValues(m.node, model, "loaded").Set(loaded[model])
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
