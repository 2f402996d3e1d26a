package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Family is one row of the contract with dashboards and alerts (ORC-890).
type Family struct {
	Name   string
	Kind   string   // counter, gauge or histogram
	Labels []string // beside node_id, which every family has
	Help   string

	worker  bool // node_id is the worker's node; else the program's own
	buckets []float64
}

// Contract returns every family that [New] registers, sorted by name.
func Contract() []Family {
	worker := func(more ...string) []string {
		return append([]string{"engine", "engine_version", "pool_id", "replica_id"}, more...)
	}
	pool := []string{"engine", "engine_version", "pool_id", "priority"}
	firstTokenMS := []float64{50, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10000}
	decodeMS := []float64{250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 30000, 60000}
	short, wait := prometheus.ExponentialBuckets(50e-6, 2, 16), prometheus.ExponentialBuckets(1e-3, 4, 11)
	all := []Family{
		{"tasks_enqueued_total", "counter", worker("priority"), "Tasks accepted.", true, nil},
		{"tasks_started_total", "counter", worker("priority"), "Attempts begun.", true, nil},
		{"tasks_canceled_total", "counter", worker("reason"), "Tasks that ended by a cancel.", true, nil},
		{"tasks_rejected_total", "counter", []string{"engine", "reason"}, "Requests refused, by error code.", false, nil},
		{"queue_depth", "gauge", pool, "Waiting tasks.", false, nil},
		{"latency_first_token_ms", "histogram", pool, "From acceptance to the first token, in milliseconds.", true, firstTokenMS},
		{"latency_decode_ms", "histogram", pool, "From the first token to the end, in milliseconds.", true, decodeMS},
		{"tokens_in_total", "counter", worker(), "Prompt tokens of ended tasks.", true, nil},
		{"tokens_out_total", "counter", worker(), "Tokens produced.", true, nil},
		{"kv_cache_usage_ratio", "gauge", worker(), "Share of its context memory that a worker uses, as it reports.", true, nil},
		{"gpu_utilization", "gauge", worker("device"), "Share of the time in which the GPU of a worker computed, 0 to 1.", true, nil},
		{"vram_used_bytes", "gauge", worker("device"), "Memory in use on the GPU of a worker.", true, nil},
		{"admission_backpressure_events_total", "counter", []string{"engine", "policy"}, "Requests or waiting tasks that a full queue turned away.", false, nil},
		{"catalog_verifications_total", "counter", []string{"result", "reason", "engine"}, "Models verified on a node.", false, nil},
		{"model_state", "gauge", []string{"model_id", "state"}, "Workers that have the model in that state.", false, nil},
		{"placement_decisions_total", "counter", []string{"outcome", "pinned", "fallback"}, "Placement decisions.", false, nil},
		{"placement_candidates_considered", "gauge", nil, "Workers looked at by the last decision.", false, nil},
		{"sse_backpressure_drops_total", "counter", nil, "Metrics events left out because a reader lagged.", false, nil},
		{"orchd_admission_seconds", "histogram", []string{"outcome"}, "From the request to the answer.", false, short},
		{"orchd_queue_wait_seconds", "histogram", []string{"priority"}, "From acceptance to dispatch.", false, wait},
		{"orchd_queue_oldest_seconds", "gauge", []string{"priority"}, "Age of the oldest waiting task.", false, nil},
		{"orchd_queue_evictions_total", "counter", []string{"policy", "priority"}, "Waiting tasks that made room.", false, nil},
		{"orchd_deadline_outcomes_total", "counter", []string{"outcome", "priority"}, "Tasks with a deadline: met, missed, rejected, expired.", false, nil},
		{"orchd_dispatch_attempts_total", "counter", []string{"pool_id", "outcome"}, "Attempts, by how they ended.", true, nil},
		{"orchd_worker_quarantined", "gauge", []string{"pool_id"}, "Workers in quarantine.", true, nil},
		{"orchd_slots_total", "gauge", []string{"pool_id"}, "Slots of workers that may be given work.", true, nil},
		{"orchd_slots_in_use", "gauge", []string{"pool_id"}, "Slots reserved by this scheduler.", true, nil},
		{"orchd_slot_release_duplicates_total", "counter", nil, "Releases of slots that were not held; always 0.", false, nil},
		{"orchd_model_load_seconds", "histogram", []string{"outcome"}, "Loads of models.", false, wait},
		{"orchd_streams_open", "gauge", nil, "Readers of event streams.", false, nil},
		{"orchd_inter_token_seconds", "histogram", []string{"engine"}, "Mean time between the tokens of a task.", false, short},
		{"orchd_cancel_seconds", "histogram", []string{"reason"}, "From the stop of a running attempt to its end.", false, short},
		{"orchd_store_op_seconds", "histogram", []string{"op", "outcome"}, "Calls of the store.", false, short},
		{"orchd_loop_lag_seconds", "histogram", nil, "Age of the oldest event of a turn of the scheduling loop.", false, short},
		{"orchd_leader", "gauge", nil, "1 while this process admits and places tasks.", false, nil},
		{"orchd_fenced_writes_total", "counter", []string{"op"}, "Writes refused because another term leads.", false, nil},
		{"orchd_decision_gaps_total", "counter", nil, "Steps that the decision log left out.", false, nil},
		{"orchd_audit_errors_total", "counter", nil, "Events that the audit log refused.", false, nil},
	}
	slices.SortFunc(all, func(a, b Family) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}
