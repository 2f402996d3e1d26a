// Package metrics counts what an orchestrator reports, for Prometheus. It is the
// only package of this module that links client_golang.
package metrics

import (
	"cmp"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
)

// Config tunes the metrics. The zero value is usable.
type Config struct {
	NodeID string // const label node_id of what belongs to no worker; "" = "local"
}

// none stands for a label value that is not known yet.
const none = "none"

// Metrics is an [observe.Observer]. It is safe for concurrent use.
type Metrics struct {
	enqueued, started, cancelled, rejected, evicted *prometheus.CounterVec
	tokensIn, tokensOut                             *prometheus.CounterVec
	firstToken, decode                              *prometheus.HistogramVec
	placements, attempts, deadlines                 *prometheus.CounterVec
	considered                                      prometheus.Gauge
	admission, queueWait, cancel, storeOp           *prometheus.HistogramVec
	depth                                           *prometheus.GaugeVec
	slotsTotal, slotsUsed, streams                  prometheus.Gauge
	duplicates                                      prometheus.Counter
	seenDuplicates                                  atomic.Int64
	lag                                             prometheus.Histogram
}

var _ observe.Observer = (*Metrics)(nil)

// New builds the metrics and registers them on reg; a name that is taken is an
// error. Label values come from registered workers and closed sets only.
func New(reg prometheus.Registerer, c Config) (*Metrics, error) {
	if c.NodeID == "" {
		c.NodeID = "local"
	}
	firstTokenMS := []float64{50, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10000}
	decodeMS := []float64{250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 30000, 60000}
	shortS, waitS := prometheus.ExponentialBuckets(50e-6, 2, 16), prometheus.ExponentialBuckets(1e-3, 4, 11)
	b := builder{reg: reg, node: prometheus.Labels{"node_id": c.NodeID}}
	engine := []string{"node_id", "engine", "engine_version", "pool_id", "replica_id"}
	m := &Metrics{
		enqueued:   b.counter("tasks_enqueued_total", "Tasks accepted.", true, "priority"),
		started:    b.counter("tasks_started_total", "Attempts begun.", false, append(engine, "priority")...),
		cancelled:  b.counter("tasks_canceled_total", "Tasks that ended by a cancel.", false, append(engine, "reason")...),
		rejected:   b.counter("tasks_rejected_total", "Requests refused, by error code.", true, "reason"),
		evicted:    b.counter("orchd_queue_evictions_total", "Waiting tasks that made room.", true, "policy", "priority"),
		tokensIn:   b.counter("tokens_in_total", "Prompt tokens of ended tasks.", false, engine...),
		tokensOut:  b.counter("tokens_out_total", "Tokens produced.", false, engine...),
		firstToken: b.histogram("latency_first_token_ms", "From acceptance to the first token, in milliseconds.", firstTokenMS, false, "node_id", "engine", "engine_version", "pool_id", "priority"),
		decode:     b.histogram("latency_decode_ms", "From the first token to the end, in milliseconds.", decodeMS, false, "node_id", "engine", "engine_version", "pool_id", "priority"),
		placements: b.counter("placement_decisions_total", "Placement decisions.", true, "outcome"),
		attempts:   b.counter("orchd_dispatch_attempts_total", "Attempts, by how they ended.", false, "node_id", "pool_id", "outcome"),
		deadlines:  b.counter("orchd_deadline_outcomes_total", "Tasks whose deadline could not be met.", true, "outcome", "priority"),
		considered: b.gauge("placement_candidates_considered", "Workers looked at by the last decision.").WithLabelValues(),
		admission:  b.histogram("orchd_admission_seconds", "From the request to the answer.", shortS, true, "outcome"),
		queueWait:  b.histogram("orchd_queue_wait_seconds", "From acceptance to dispatch.", waitS, true, "priority"),
		cancel:     b.histogram("orchd_cancel_seconds", "From the stop of a running attempt to its end.", waitS, true, "reason"),
		storeOp:    b.histogram("orchd_store_op_seconds", "Calls of the store.", shortS, true, "op", "outcome"),
		depth:      b.gauge("queue_depth", "Waiting tasks.", "priority"),
		slotsTotal: b.gauge("orchd_slots_total", "Slots of workers that may be given work.").WithLabelValues(),
		slotsUsed:  b.gauge("orchd_slots_in_use", "Slots reserved by this scheduler.").WithLabelValues(),
		streams:    b.gauge("orchd_streams_open", "Readers of event streams.").WithLabelValues(),
		duplicates: b.counter("orchd_slot_release_duplicates_total", "Releases of slots that were not held; always 0.", true).WithLabelValues(),
		lag:        b.histogram("orchd_loop_lag_seconds", "Age of the oldest event of a turn of the scheduling loop.", shortS, true).WithLabelValues().(prometheus.Histogram),
	}
	return m, errors.Join(b.errs...)
}

// builder registers families and collects what fails.
type builder struct {
	reg  prometheus.Registerer
	node prometheus.Labels
	errs []error
}

func (b *builder) register(c prometheus.Collector) { b.errs = append(b.errs, b.reg.Register(c)) }

func (b *builder) labels(own bool) prometheus.Labels {
	if own {
		return b.node
	}
	return nil
}

func (b *builder) counter(name, help string, own bool, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: b.labels(own)}, labels)
	b.register(c)
	return c
}

func (b *builder) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: b.node}, labels)
	b.register(g)
	return g
}

func (b *builder) histogram(name, help string, buckets []float64, own bool, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets, ConstLabels: b.labels(own)}, labels)
	b.register(h)
	return h
}

// known replaces an empty value.
func known(s string) string {
	if s == "" {
		return none
	}
	return s
}

// engine is the label group of a worker.
func engine(w observe.Worker) []string {
	return []string{known(w.Node), known(w.Engine), known(w.Version), known(w.Pool), known(replica(w))}
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
		m.enqueued.WithLabelValues(e.Class).Inc()
		m.admission.WithLabelValues("admitted").Observe(e.Took.Seconds())
	case observe.Rejected:
		m.rejected.WithLabelValues(e.Code).Inc()
		m.admission.WithLabelValues("rejected").Observe(e.Took.Seconds())
		if e.Code == "DEADLINE_UNMET" {
			m.deadlines.WithLabelValues("rejected", e.Class).Inc()
		}
	case observe.Placed:
		m.started.WithLabelValues(append(engine(e.Worker), e.Class)...).Inc()
		m.placements.WithLabelValues("placed").Inc()
		m.considered.Set(float64(e.Considered))
		m.queueWait.WithLabelValues(e.Class).Observe(e.QueueWait.Seconds())
	case observe.FirstToken:
		w := e.Worker
		m.firstToken.WithLabelValues(known(w.Node), known(w.Engine), known(w.Version), known(w.Pool), e.Class).Observe(ms(e.After))
	case observe.Retried:
		m.attempts.WithLabelValues(known(e.Worker.Node), known(e.Worker.Pool), e.Class).Inc()
	case observe.Finished:
		m.finished(e)
	case observe.StoreOp:
		outcome := "ok"
		if e.Err {
			outcome = "error"
		}
		m.storeOp.WithLabelValues(e.Op, outcome).Observe(e.Took.Seconds())
	case observe.Streams:
		m.streams.Add(float64(e.Delta))
	case observe.Loop:
		m.depth.WithLabelValues("interactive").Set(float64(e.Interactive))
		m.depth.WithLabelValues("batch").Set(float64(e.Batch))
		m.slotsTotal.Set(float64(e.SlotsTotal))
		m.slotsUsed.Set(float64(e.Running))
		if n := int64(e.DuplicateReleases); n > 0 {
			m.duplicates.Add(float64(n - m.seenDuplicates.Swap(n)))
		}
		m.lag.Observe(e.Lag.Seconds())
	}
}

func (m *Metrics) finished(e observe.Finished) {
	w := e.Worker
	m.tokensIn.WithLabelValues(engine(w)...).Add(float64(e.TokensIn))
	m.tokensOut.WithLabelValues(engine(w)...).Add(float64(e.TokensOut))
	if e.FirstToken > 0 {
		m.decode.WithLabelValues(known(w.Node), known(w.Engine), known(w.Version), known(w.Pool), e.Class).Observe(ms(e.Decode))
	}
	if e.Stop > 0 {
		m.cancel.WithLabelValues(known(e.Reason)).Observe(e.Stop.Seconds())
	}
	switch e.Code {
	case "CANCELLED":
		m.cancelled.WithLabelValues(append(engine(w), known(e.Reason))...).Inc()
	case "QUEUE_FULL_DROP_LRU":
		m.evicted.WithLabelValues("drop-lru", e.Class).Inc()
	case "ADMISSION_REJECT":
		m.evicted.WithLabelValues("shed-low-priority", e.Class).Inc()
	case "DEADLINE_UNMET":
		m.deadlines.WithLabelValues("expired", e.Class).Inc()
	}
	if w != (observe.Worker{}) {
		outcome := "ok"
		if e.Code != "" {
			outcome = known(cmp.Or(e.Failure, e.Reason))
		}
		m.attempts.WithLabelValues(known(w.Node), known(w.Pool), outcome).Inc()
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
