package metrics_test

import (
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/llorch/llorch/orchestrator/metrics"
	"github.com/llorch/llorch/orchestrator/observe"
)

// family is one row of the contract as the specification has it.
type family struct{ name, kind, labels string }

// contract is every family with its type and its labels, sorted by name. Dashboards
// are written to it.
var contract = []family{
	{"admission_backpressure_events_total", "COUNTER", "engine node_id policy"},
	{"catalog_verifications_total", "COUNTER", "engine node_id reason result"},
	{"gpu_utilization", "GAUGE", "device engine engine_version node_id pool_id replica_id"},
	{"kv_cache_usage_ratio", "GAUGE", "engine engine_version node_id pool_id replica_id"},
	{"latency_decode_ms", "HISTOGRAM", "engine engine_version node_id pool_id priority"},
	{"latency_first_token_ms", "HISTOGRAM", "engine engine_version node_id pool_id priority"},
	{"model_state", "GAUGE", "model_id node_id state"},
	{"orchd_admission_seconds", "HISTOGRAM", "node_id outcome"},
	{"orchd_audit_errors_total", "COUNTER", "node_id"},
	{"orchd_cancel_seconds", "HISTOGRAM", "node_id reason"},
	{"orchd_deadline_outcomes_total", "COUNTER", "node_id outcome priority"},
	{"orchd_decision_gaps_total", "COUNTER", "node_id"},
	{"orchd_dispatch_attempts_total", "COUNTER", "node_id outcome pool_id"},
	{"orchd_fenced_writes_total", "COUNTER", "node_id op"},
	{"orchd_inter_token_seconds", "HISTOGRAM", "engine node_id"},
	{"orchd_leader", "GAUGE", "node_id"},
	{"orchd_loop_lag_seconds", "HISTOGRAM", "node_id"},
	{"orchd_model_load_seconds", "HISTOGRAM", "node_id outcome"},
	{"orchd_queue_evictions_total", "COUNTER", "node_id policy priority"},
	{"orchd_queue_oldest_seconds", "GAUGE", "node_id priority"},
	{"orchd_queue_wait_seconds", "HISTOGRAM", "node_id priority"},
	{"orchd_slot_release_duplicates_total", "COUNTER", "node_id"},
	{"orchd_slots_in_use", "GAUGE", "node_id pool_id"},
	{"orchd_slots_total", "GAUGE", "node_id pool_id"},
	{"orchd_store_op_seconds", "HISTOGRAM", "node_id op outcome"},
	{"orchd_streams_open", "GAUGE", "node_id"},
	{"orchd_worker_quarantined", "GAUGE", "node_id pool_id"},
	{"placement_candidates_considered", "GAUGE", "node_id"},
	{"placement_decisions_total", "COUNTER", "fallback node_id outcome pinned"},
	{"queue_depth", "GAUGE", "engine engine_version node_id pool_id priority"},
	{"sse_backpressure_drops_total", "COUNTER", "node_id"},
	{"tasks_canceled_total", "COUNTER", "engine engine_version node_id pool_id reason replica_id"},
	{"tasks_enqueued_total", "COUNTER", "engine engine_version node_id pool_id priority replica_id"},
	{"tasks_rejected_total", "COUNTER", "engine node_id reason"},
	{"tasks_started_total", "COUNTER", "engine engine_version node_id pool_id priority replica_id"},
	{"tokens_in_total", "COUNTER", "engine engine_version node_id pool_id replica_id"},
	{"tokens_out_total", "COUNTER", "engine engine_version node_id pool_id replica_id"},
	{"vram_used_bytes", "GAUGE", "device engine engine_version node_id pool_id replica_id"},
}

// canary stands for everything that a caller chose and no label may hold.
const canary = "canary7f3a"

// every is at least one event of each kind, with canaries where callers choose.
func every() []observe.Event {
	owner := observe.Owner{Tenant: canary, Subject: canary, Fingerprint: canary, Addr: canary}
	w := observe.Worker{Node: "gpu-1", Pool: "chat-a", Worker: "chat-a-r0-5f3b1c", Engine: "vllm", Version: "0.9"}
	finished := func(code, reason, failure string) observe.Finished {
		return observe.Finished{
			Task: canary, Correlation: canary, Owner: owner, Class: "batch", Model: canary, Worker: w, Code: code, Reason: reason, Failure: failure, Attempts: 2,
			TokensIn: 7, TokensOut: 20, Queued: time.Second, FirstToken: 2 * time.Second, Decode: 3 * time.Second, Stop: time.Millisecond, Total: 5 * time.Second,
		}
	}
	return []observe.Event{
		observe.Admitted{Task: canary, Correlation: canary, Owner: owner, Class: "interactive", Model: canary, PromptLen: 3, Took: time.Millisecond},
		observe.Rejected{Correlation: canary, Owner: owner, Class: "interactive", Model: canary, Code: "QUEUE_FULL", Took: time.Millisecond},
		observe.Rejected{Correlation: canary, Owner: owner, Class: "batch", Model: canary, Code: "DEADLINE_UNMET"},
		observe.Placed{Task: canary, Worker: w, Class: "interactive", Attempt: 1, Considered: 5, QueueWait: time.Second},
		observe.FirstToken{Task: canary, Worker: w, Class: "interactive", After: 120 * time.Millisecond},
		observe.Retried{Task: canary, Worker: w, Class: "connect", Attempt: 1},
		finished("", "", ""),
		finished("CANCELLED", "client", "reset"),
		finished("QUEUE_FULL_DROP_LRU", "", ""),
		finished("ADMISSION_REJECT", "", ""),
		finished("DEADLINE_UNMET", "deadline", "reset"),
		observe.Finished{Task: canary, Correlation: canary, Owner: owner, Class: "interactive", Model: canary, Code: "QUEUE_TIMEOUT"},
		observe.StoreOp{Op: "submit", Took: time.Millisecond},
		observe.StoreOp{Op: "start", Err: true},
		observe.Streams{Delta: 1},
		observe.Victim{Task: canary, Class: "batch", Policy: "drop-lru"},
		observe.Victim{Task: canary, Class: "batch", Policy: "shed-low-priority"},
		observe.Finished{Task: canary, Owner: owner, Class: "batch", Model: canary, Code: "DEADLINE_UNMET", Deadline: true},
		observe.Finished{Task: canary, Owner: owner, Class: "batch", Model: canary, Worker: w, Deadline: true},
		observe.Workers{List: []observe.WorkerFacts{{Worker: w, Model: "llama", Ready: true, Slots: 4, InUse: 3, KVUsed: 0.5, Devices: []observe.Device{{ID: "0", Utilization: 0.9, VRAMUsed: 1 << 30}}}}},
		observe.WorkerChanged{Worker: w, State: "quarantined"},
		observe.ModelLoad{Worker: w, Model: "llama", State: "loading"},
		observe.ModelLoad{Worker: w, Model: "llama", State: "loaded", Took: time.Second},
		observe.Verified{Node: "gpu-1", Result: "pass"},
		observe.Leader{Leads: true, Epoch: 3},
		observe.Fenced{Op: "complete"},
		observe.DecisionGap{Steps: 7},
		observe.AuditFailed{},
		observe.MetricsDropped{},
		observe.Limited{Owner: owner, Limit: "rpm", Count: 3},
		observe.Violation{Task: canary, Correlation: canary, Owner: owner},
		observe.Erased{Correlation: canary},
		observe.PolicyChanged{SHA256: canary},
		observe.Started{Task: canary, Worker: w},
		observe.Loop{Interactive: 3, Batch: 1, SlotsTotal: 4, SlotsFree: 1, Running: 3, Lag: time.Millisecond},
		observe.Queue{OldestBatch: time.Minute},
	}
}

func fed(t *testing.T) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(reg, metrics.Config{NodeID: "host-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range every() {
		m.Observe(e)
	}
	return reg
}

func scrape(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(rec.Result().Body)
	if err != nil || rec.Code != 200 {
		t.Fatalf("scrape = %d, %v", rec.Code, err)
	}
	return string(text)
}

// TestMetricsContract: names, types and labels are what dashboards rely on
// (ORC-890): the table of the code, a scrape and this page agree, every family is fed
// by some event and no other family appears.
func TestMetricsContract(t *testing.T) {
	families, err := fed(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got, table []family
	for _, f := range families {
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		got = append(got, family{f.GetName(), f.GetType().String(), strings.Join(slices.Sorted(maps.Keys(labels)), " ")})
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
	}
	for _, f := range metrics.Contract() {
		labels := slices.Sorted(slices.Values(append([]string{"node_id"}, f.Labels...)))
		table = append(table, family{f.Name, strings.ToUpper(f.Kind), strings.Join(labels, " ")})
	}
	if diff := cmp.Diff(contract, got, cmp.AllowUnexported(family{})); diff != "" {
		t.Errorf("scraped (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(contract, table, cmp.AllowUnexported(family{})); diff != "" {
		t.Errorf("in the code (-want +got):\n%s", diff)
	}
}

// TestDepthByClass (ORC-890): depth and age of the queue and what it turned away are
// there by class and policy without any setting.
func TestDepthByClass(t *testing.T) {
	const want = `
# HELP orchd_queue_oldest_seconds Age of the oldest waiting task.
# TYPE orchd_queue_oldest_seconds gauge
orchd_queue_oldest_seconds{node_id="host-1",priority="batch"} 60
orchd_queue_oldest_seconds{node_id="host-1",priority="interactive"} 0
# HELP queue_depth Waiting tasks.
# TYPE queue_depth gauge
queue_depth{engine="none",engine_version="none",node_id="host-1",pool_id="none",priority="batch"} 1
queue_depth{engine="none",engine_version="none",node_id="host-1",pool_id="none",priority="interactive"} 3
# HELP orchd_queue_evictions_total Waiting tasks that made room.
# TYPE orchd_queue_evictions_total counter
orchd_queue_evictions_total{node_id="host-1",policy="drop-lru",priority="batch"} 1
orchd_queue_evictions_total{node_id="host-1",policy="shed-low-priority",priority="batch"} 1
# HELP admission_backpressure_events_total Requests or waiting tasks that a full queue turned away.
# TYPE admission_backpressure_events_total counter
admission_backpressure_events_total{engine="none",node_id="host-1",policy="drop-lru"} 1
admission_backpressure_events_total{engine="none",node_id="host-1",policy="reject"} 1
admission_backpressure_events_total{engine="none",node_id="host-1",policy="shed-low-priority"} 1
`
	if err := testutil.GatherAndCompare(fed(t), strings.NewReader(want), "orchd_queue_oldest_seconds", "queue_depth", "orchd_queue_evictions_total", "admission_backpressure_events_total"); err != nil {
		t.Error(err)
	}
}

// TestSeriesAreBounded (G8, ORC-890): workers that are gone take their series with
// them, and more than 1,024 models share one.
func TestSeriesAreBounded(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(reg, metrics.Config{})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]observe.WorkerFacts, 1500)
	for i := range list {
		w := observe.Worker{Node: "n", Pool: fmt.Sprint("p", i), Worker: "r0"}
		list[i] = observe.WorkerFacts{Worker: w, Model: fmt.Sprint("m", i), Ready: true, Slots: 1, KVUsed: -1}
		m.Observe(observe.WorkerChanged{Worker: w, State: "quarantined"})
	}
	m.Observe(observe.Workers{List: list})
	if n, err := testutil.GatherAndCount(reg, "model_state"); err != nil || n != 1025 {
		t.Errorf("%d series of 1,500 models, %v; want 1,024 and other", n, err)
	}
	m.Observe(observe.Workers{})
	for _, name := range []string{"model_state", "orchd_slots_total", "orchd_worker_quarantined"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 0 {
			t.Errorf("%d series of %s after all workers went, %v", n, name, err)
		}
	}
}

// TestNoCallerInLabels: nothing that a caller chose becomes a series: not the
// task, correlation, tenant, user, token, address, nor the model (G8, G9).
func TestNoCallerInLabels(t *testing.T) {
	if text := scrape(t, fed(t)); strings.Contains(text, canary) {
		t.Errorf("a caller's text is in the scrape:\n%s", text)
	}
}

// TestReplicaIsAPlace: a worker's id is new with every process; the label is its
// place in the pool, so that restarts make no new series.
func TestReplicaIsAPlace(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(reg, metrics.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"chat-a-r0-5f3b1c", "chat-a-r0-99ab00", "chat-a-r0-zzzzzz"} {
		m.Observe(observe.Placed{Worker: observe.Worker{Node: "n", Pool: "chat-a", Worker: id, Engine: "vllm", Version: "1"}, Class: "batch"})
	}
	m.Observe(observe.Placed{Worker: observe.Worker{Node: "static", Pool: "local", Worker: "r0", Engine: "ollama"}, Class: "batch"})
	const want = `
# HELP tasks_started_total Attempts begun.
# TYPE tasks_started_total counter
tasks_started_total{engine="vllm",engine_version="1",node_id="n",pool_id="chat-a",priority="batch",replica_id="r0"} 3
tasks_started_total{engine="ollama",engine_version="none",node_id="static",pool_id="local",priority="batch",replica_id="r0"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "tasks_started_total"); err != nil {
		t.Error(err)
	}
}

// TestCounts: the numbers behind the events.
func TestCounts(t *testing.T) {
	const want = `
# HELP orchd_deadline_outcomes_total Tasks with a deadline: met, missed, rejected, expired.
# TYPE orchd_deadline_outcomes_total counter
orchd_deadline_outcomes_total{node_id="host-1",outcome="expired",priority="batch"} 1
orchd_deadline_outcomes_total{node_id="host-1",outcome="met",priority="batch"} 1
orchd_deadline_outcomes_total{node_id="host-1",outcome="missed",priority="batch"} 1
orchd_deadline_outcomes_total{node_id="host-1",outcome="rejected",priority="batch"} 1
# HELP orchd_dispatch_attempts_total Attempts, by how they ended.
# TYPE orchd_dispatch_attempts_total counter
orchd_dispatch_attempts_total{node_id="gpu-1",outcome="connect",pool_id="chat-a"} 1
orchd_dispatch_attempts_total{node_id="gpu-1",outcome="none",pool_id="chat-a"} 2
orchd_dispatch_attempts_total{node_id="gpu-1",outcome="ok",pool_id="chat-a"} 2
orchd_dispatch_attempts_total{node_id="gpu-1",outcome="reset",pool_id="chat-a"} 2
# HELP orchd_slots_in_use Slots reserved by this scheduler.
# TYPE orchd_slots_in_use gauge
orchd_slots_in_use{node_id="gpu-1",pool_id="chat-a"} 3
# HELP tasks_rejected_total Requests refused, by error code.
# TYPE tasks_rejected_total counter
tasks_rejected_total{engine="none",node_id="host-1",reason="DEADLINE_UNMET"} 1
tasks_rejected_total{engine="none",node_id="host-1",reason="QUEUE_FULL"} 1
# HELP tokens_out_total Tokens produced.
# TYPE tokens_out_total counter
tokens_out_total{engine="none",engine_version="none",node_id="none",pool_id="none",replica_id="none"} 0
tokens_out_total{engine="vllm",engine_version="0.9",node_id="gpu-1",pool_id="chat-a",replica_id="r0"} 100
`
	if err := testutil.GatherAndCompare(fed(t), strings.NewReader(want), "orchd_deadline_outcomes_total", "orchd_dispatch_attempts_total",
		"orchd_slots_in_use", "tasks_rejected_total", "tokens_out_total"); err != nil {
		t.Error(err)
	}
}

// TestIdleScrapesEqual: a scrape changes nothing.
func TestIdleScrapesEqual(t *testing.T) {
	reg := fed(t)
	if first, second := scrape(t, reg), scrape(t, reg); first != second {
		t.Errorf("two scrapes of an idle registry differ:\n%s\n%s", first, second)
	}
}

func TestRegisteredTwice(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	if _, err := metrics.New(reg, metrics.Config{}); err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.New(reg, metrics.Config{}); err == nil {
		t.Error("New on a registry that has the names = nil, want an error")
	}
}

// TestConcurrentSafeMetrics: many observers at once and a scrape beside them.
func TestConcurrentSafeMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(reg, metrics.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				for _, e := range every() {
					m.Observe(e)
				}
			}
		})
	}
	for range 10 {
		scrape(t, reg)
	}
	wg.Wait()
	if text := scrape(t, reg); !strings.Contains(text, `tasks_enqueued_total{engine="none",engine_version="none",node_id="none",pool_id="none",priority="interactive",replica_id="none"} 1600`) {
		t.Errorf("1,600 admitted tasks are not counted:\n%s", text)
	}
}

func ExampleNew() {
	reg := prometheus.NewRegistry()
	m, err := metrics.New(reg, metrics.Config{NodeID: "host-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// orchestrator.Config{Observer: m} feeds it; here one event by hand.
	m.Observe(observe.Admitted{Class: "interactive", Took: time.Millisecond})
	families, err := reg.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		if f.GetName() == "tasks_enqueued_total" {
			fmt.Println(f.GetHelp(), f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	// Output:
	// Tasks accepted. 1
}
