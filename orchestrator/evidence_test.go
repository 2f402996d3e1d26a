package orchestrator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
)

// strict is a real audit log that says what it refused.
type strict struct {
	t *testing.T
	*audit.Log
	types *[]string
}

func (s strict) note(e audit.Event, err error) {
	if err != nil {
		s.t.Errorf("the audit log refused %T %s: %v", e.Data, e.Type, err)
	}
	*s.types = append(*s.types, fmt.Sprintf("%s %T", e.Type, e.Data))
}

func (s strict) Emit(ctx context.Context, e audit.Event) (audit.Ticket, error) {
	ticket, err := s.Log.Emit(ctx, e)
	s.note(e, err)
	return ticket, err
}

func (s strict) Append(ctx context.Context, e audit.Event) (audit.Receipt, error) {
	r, err := s.Log.Append(ctx, e)
	s.note(e, err)
	return r, err
}

// TestAuditTypes: a real log takes every record that this module makes; types,
// members and needs are those of the table of audit (ORC-845).
func TestAuditTypes(t *testing.T) {
	log, err := audit.Open(t.Context(), audit.Config{Dir: t.TempDir() + "/audit", Service: "test", Types: append(events.Types(), orchestrator.AuditTypes()...)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close(context.Background())
	var got []string
	rec := strict{t, log, &got}
	seen := orchestrator.NewAuditLog(rec, slog.New(slog.DiscardHandler))
	who := observe.Owner{Tenant: "acme", Subject: "acme/eve", Addr: "10.0.0.1"}
	w := observe.Worker{Node: "n", Pool: "p", Worker: "w"}
	for _, e := range []observe.Event{
		observe.Admitted{Task: "1", Owner: who, Model: "m", PromptLen: 3, PromptSHA256: [32]byte{1}, MaxTokens: 5},
		observe.Rejected{Owner: who, Code: string(taskapi.Forbidden)},
		observe.Rejected{Code: string(taskapi.TenantMismatch)},
		observe.Rejected{Owner: who, Code: string(taskapi.QueueFull)}, // no question of rights
		observe.Limited{Owner: who, Limit: "rpm", Count: 7},
		observe.Violation{Task: "1", Owner: who, Rule: "residency"},
		observe.Finished{Task: "1", Owner: who, Model: "m", Worker: w, TokensOut: 5},
		observe.Finished{Task: "2", Owner: who, Model: "m", Worker: w, TokensOut: 5},
		observe.Finished{Task: "3", Owner: who, Model: "m", Code: string(taskapi.Cancelled), Reason: "client"},
		observe.Finished{Task: "4", Owner: observe.Owner{Tenant: "acme"}, Model: "m", Code: string(taskapi.WorkerReset)},
	} {
		seen.Observe(e)
	}
	if _, err := rec.Emit(t.Context(), orchestrator.DecisionsSealed("decisions-1-1.ndjson", strings.Repeat("ab", 32))); err != nil {
		t.Error(err)
	}
	if _, err := log.Emit(t.Context(), orchestrator.DecisionsSealed("decisions-1-1.ndjson", "ab")); err == nil {
		t.Error("a segment without a digest was recorded")
	}
	st, leads := store.NewMemory(), make(leading, 1)
	ctx, cancel := context.WithCancel(t.Context())
	o, err := orchestrator.New(orchestrator.Config{Pools: over(), Store: st, Recorder: rec, Observer: leads})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	<-leads
	for _, granted := range []bool{true, false} {
		if err := o.SetConsent(ctx, alice, orchestrator.Consent{Purpose: "research", Granted: granted}); err != nil {
			t.Error(err)
		}
	}
	for _, err := range o.Export(ctx, alice, "") {
		if err != nil {
			t.Error(err)
		}
	}
	receipt, err := o.Erase(ctx, alice, "", "")
	if err != nil || receipt.AuditSeq == 0 {
		t.Errorf("Erase = %+v, %v, want the number of its record", receipt, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	want := []string{
		" events.TaskSubmitted", "authz.denied orchestrator.authzDenied", "authz.denied orchestrator.authzDenied",
		"security.rate_limit_exceeded orchestrator.rateLimitExceeded", "security.policy_violation orchestrator.policyViolation",
		" events.TaskCompleted", "data.inference_executed orchestrator.inferenceExecuted", "data.model_accessed orchestrator.modelAccessed",
		" events.TaskCompleted", "data.inference_executed orchestrator.inferenceExecuted", " events.TaskCanceled", " events.TaskCompleted",
		"orchestrator.decisions_sealed orchestrator.decisionsSealed", "compliance.consent_granted orchestrator.consentGranted", "compliance.consent_revoked orchestrator.consentRevoked",
		"compliance.gdpr_data_access_request orchestrator.accessRequest", "compliance.gdpr_data_export orchestrator.dataExport",
		"compliance.gdpr_right_to_erasure orchestrator.rightToErasure", "data.deleted orchestrator.dataDeleted",
	}
	if !slices.Equal(got, want) {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// leading says when an orchestrator began to lead.
type leading chan struct{}

func (l leading) Observe(e observe.Event) {
	if e, ok := e.(observe.Leader); ok && e.Leads {
		l <- struct{}{}
	}
}

// flipping is a store that calls back when a task is being stored.
type flipping struct {
	*store.Memory
	stored func()
}

func (f flipping) Submit(ctx context.Context, e store.Epoch, b []store.NewTask) ([]store.Submitted, error) {
	f.stored()
	return f.Memory.Submit(ctx, e, b)
}

// TestResidencyRecheck: rules that became narrower after the admission hold when
// the body is about to be opened: no worker sees it, the task ends with the code
// of residency, and the violation is durable evidence (ORC-844, I8).
func TestResidencyRecheck(t *testing.T) {
	for _, c := range []struct {
		region poolregistry.Region
		want   taskapi.Code
	}{
		{poolregistry.Region{Group: "EU"}, taskapi.NoEUWorkerAvailable},
		{poolregistry.Region{Country: "DE", Group: "EU"}, taskapi.NoRegionWorkerAvailable},
		{poolregistry.Region{Country: "US", Group: "US"}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			var narrow atomic.Bool
			rec, heard, started := new(recorder), new(seen), 0
			engine := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) {
				started++
				return tokens(3), nil
			}}
			w := fake("a", 1)
			w.Country, w.Group = "US", "US"
			o, _ := serve(t, orchestrator.Config{
				Pools: over(w), Workers: engine, Recorder: rec, Observer: heard, Store: flipping{store.NewMemory(), func() { narrow.Store(true) }},
				Tenants: func(string) (p orchestrator.TenantPolicy, ok bool) {
					if narrow.Load() {
						p.Regions = []poolregistry.Region{c.region}
					}
					return p, true
				},
			})
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatal(err)
			}
			if _, got := ends(t, o, acc.ID); got != string(c.want) {
				t.Errorf("ended with %q, want %q", got, c.want)
			}
			n, last := count[observe.Violation](heard)
			appended := 0
			for _, e := range rec.take() {
				if e.Type == "security.policy_violation" {
					appended++
				}
			}
			if c.want == "" && (started != 1 || n != 0 || appended != 0) {
				t.Errorf("inside: %d jobs, %d violations", started, n)
			}
			if c.want != "" && (started != 0 || n != 1 || appended != 1 || last.Task != acc.ID.String()) {
				t.Errorf("outside: %d jobs, violations %d seen, %d recorded, %+v", started, n, appended, last)
			}
		})
	}
}

// TestWideLog: one record per event of interest, a sentence without ids, at the
// level that its cause deserves; refusals are sampled, with their number (ORC-882).
func TestWideLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := new(records)
		w := orchestrator.NewWideLog(lines.logger())
		at := observe.Worker{Node: "node-7", Pool: "p", Worker: "w-7"}
		for _, e := range []observe.Event{
			observe.Finished{Task: "job-1", Session: "s-1", Trace: "t-1", Decision: "d-1"},
			observe.Finished{Task: "job-2", Code: string(taskapi.DeadlineUnmet)},
			observe.Finished{Task: "job-3", Code: string(taskapi.WorkerReset)},
			observe.Finished{Task: "job-4", Code: string(taskapi.Internal)},
			observe.Rejected{Code: string(taskapi.DeadlineUnmet)},
			observe.Victim{Task: "job-5"},
			observe.WorkerChanged{Worker: at, State: "quarantined", Why: "connect"},
			observe.WorkerChanged{Worker: at, State: "restored"},
			observe.ModelLoad{Worker: at, State: "loading"},
			observe.ModelLoad{Worker: at, State: "failed"},
			observe.Leader{Leads: true, Epoch: 3},
			observe.Leader{Epoch: 3},
			observe.DecisionGap{Steps: 2},
			observe.PolicyChanged{SHA256: "aa"},
			observe.Erased{Tasks: 1},
			observe.Violation{Task: "job-6"},
			observe.StoreOp{Op: "submit", Err: true},
			observe.StoreOp{Op: "submit", Err: true},
			observe.StoreOp{Op: "submit"},
			observe.Streams{Delta: 1},
			observe.Loop{},
			observe.Placed{Task: "job-8"},
		} {
			w.Observe(e)
		}
		time.Sleep(2 * time.Second)
		w.Observe(observe.StoreOp{Op: "submit"})
		for range 25 {
			w.Observe(observe.Rejected{Code: string(taskapi.QueueFull)})
		}
		time.Sleep(time.Second)
		w.Observe(observe.Rejected{Code: string(taskapi.QueueFull)})
		var got []string
		for line := range strings.Lines(lines.text()) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			msg := r["msg"].(string)
			if strings.Contains(msg, "job-") || strings.Contains(msg, "-7") || !strings.HasSuffix(msg, ".") {
				t.Errorf("message %q, want a sentence without ids", msg)
			}
			got = append(got, fmt.Sprint(r["event"], " ", r["level"]))
			if n := r["left_out"]; n == 15.0 {
				got = append(got, "left out 15")
			}
		}
		want := []string{
			"task_finished INFO", "task_finished INFO", "task_finished WARN", "task_finished ERROR", "task_rejected INFO", "queue_victim INFO",
			"worker_quarantined WARN", "worker_restored INFO", "model_load INFO", "model_load WARN", "leader_gained INFO", "leader_lost INFO",
			"decision_gap WARN", "policy_changed INFO", "subject_erased INFO", "residency_refused ERROR", "store_degraded WARN", "store_restored INFO",
		}
		for range 10 {
			want = append(want, "task_rejected INFO")
		}
		want = append(want, "task_rejected INFO", "left out 15")
		if !slices.Equal(got, want) {
			t.Errorf("log\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if all := lines.text(); !strings.Contains(all, `"session_id":"s-1"`) || !strings.Contains(all, `"trace_id":"t-1"`) || !strings.Contains(all, `"decision_id":"d-1"`) {
			t.Errorf("the wide record lacks a field: %s", all)
		}
	})
}
