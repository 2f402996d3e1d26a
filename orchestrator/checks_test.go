package orchestrator_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// silent is an engine that says nothing until its job is stopped.
func silent(ctx context.Context, _ worker.Target, _ *worker.Job) (worker.Stream, error) {
	return script(func() (worker.Event, error) { <-ctx.Done(); return worker.Event{}, ctx.Err() }), nil
}

// fault lets one check fail, whatever else fails.
type fault struct {
	check  string
	code   taskapi.Code
	policy func(*orchestrator.TenantPolicy)
	spec   func(*orchestrator.Spec)
	cfg    func(*orchestrator.Config)
	setup  func(t *testing.T, o *orchestrator.Orchestrator, st *faulty, stop func() error)
}

// taken is the id of the task that occupies the only slot.
var taken = orchestrator.TaskID{6: 0x70, 8: 0x80, 15: 1}

func faults() []fault {
	return []fault{
		{check: "accepting", code: taskapi.ShuttingDown, setup: func(t *testing.T, o *orchestrator.Orchestrator, _ *faulty, stop func() error) {
			stopped := make(chan struct{})
			go func() { defer close(stopped); _ = stop() }()
			t.Cleanup(func() { o.Cut(); <-stopped })
			synctest.Wait()
		}},
		{check: "tenant", code: taskapi.TenantMismatch, spec: func(s *orchestrator.Spec) { s.Tenant = "other" }},
		{check: "request_rate", code: taskapi.RateLimited, policy: func(p *orchestrator.TenantPolicy) { p.RPM = 1 }, setup: func(t *testing.T, o *orchestrator.Orchestrator, _ *faulty, _ func() error) {
			refusedWith(t, o, orchestrator.Spec{}, taskapi.InvalidParams) // takes the one request
		}},
		{check: "shape", code: taskapi.InvalidParams, spec: func(s *orchestrator.Spec) { s.MaxTokens = -1 }},
		{check: "tokens", code: taskapi.ContextTooLarge, spec: func(s *orchestrator.Spec) { s.Ctx = 9000 }},
		{check: "idempotency", code: taskapi.Conflict, spec: func(s *orchestrator.Spec) { s.ID = taken }},
		{check: "deadline_past", code: taskapi.DeadlineUnmet, spec: func(s *orchestrator.Spec) { s.Deadline = time.Now().Add(-time.Second) }},
		{check: "consent", code: taskapi.ConsentRequired, spec: func(s *orchestrator.Spec) { s.Purposes = []string{"training"} }},
		{check: "model", code: taskapi.ModelDeprecated, setup: func(t *testing.T, o *orchestrator.Orchestrator, _ *faulty, _ func() error) {
			admin := me
			admin.Roles |= orchestrator.RoleOperator
			if _, err := o.PutModel(t.Context(), admin, orchestrator.Model{ID: "sim-8b", State: "Active"}); err != nil {
				t.Fatal(err)
			}
			if _, err := o.SetModelState(t.Context(), admin, "sim-8b", "Retired", time.Hour); err != nil {
				t.Fatal(err)
			}
		}},
		{check: "session", code: taskapi.BudgetExceeded, spec: func(s *orchestrator.Spec) { s.Session = "s" }, setup: func(t *testing.T, o *orchestrator.Orchestrator, _ *faulty, _ func() error) {
			if _, err := o.OpenSession(t.Context(), me, "s", 1); err != nil {
				t.Fatal(err)
			}
		}},
		{check: "quota", code: taskapi.QuotaExceeded, policy: func(p *orchestrator.TenantPolicy) { p.TokensPerDay = 1 }},
		{check: "feasible", code: taskapi.ModelNotAvailable, spec: func(s *orchestrator.Spec) { s.Engine = "vllm" }},
		{check: "deadline", code: taskapi.DeadlineUnmet, spec: func(s *orchestrator.Spec) { s.Deadline = time.Now().Add(time.Second) }},
		{check: "place", code: taskapi.QueueFull, cfg: func(c *orchestrator.Config) { c.Queue.Capacity = 1 }, setup: func(t *testing.T, o *orchestrator.Orchestrator, _ *faulty, _ func() error) {
			if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})); err != nil {
				t.Fatal(err)
			}
		}},
		{check: "store", code: taskapi.StoreUnavailable, setup: func(_ *testing.T, _ *orchestrator.Orchestrator, st *faulty, _ func() error) {
			st.plant("submit", store.ErrUnavailable, 9)
		}},
	}
}

// TestOrderOfChecks (ORC-240): of two checks that fail together the earlier one is
// the answer, for every pair that can; and the check without effects names both.
func TestOrderOfChecks(t *testing.T) {
	all := faults()
	for i, first := range all {
		for _, second := range append([]fault{{}}, all[i+1:]...) {
			if first.check == "deadline_past" && second.check == "deadline" {
				continue // one deadline
			}
			if first.check == "feasible" && second.check == "deadline" {
				continue // without a worker nothing is predicted
			}
			synctest.Test(t, func(t *testing.T) { orderOf(t, first, second) })
		}
	}
}

func orderOf(t *testing.T, pair ...fault) {
	var policy atomic.Pointer[orchestrator.TenantPolicy]
	policy.Store(new(orchestrator.TenantPolicy))
	w := fake("a", 1)
	w.TokensPerS = 5000 // 20 tokens last 4 s
	st := &faulty{Memory: store.NewMemory()}
	cfg := orchestrator.Config{
		Pools: over(w), Workers: adapter{silent}, Store: st, Timing: orchestrator.Timing{Drain: time.Minute, FirstToken: time.Hour, Interactive: time.Hour, Max: time.Hour},
		Tenants: func(string) (orchestrator.TenantPolicy, bool) { return *policy.Load(), true },
	}
	spec, p := fill(orchestrator.Spec{Expected: 20}), orchestrator.TenantPolicy{}
	for _, f := range slices.Backward(pair) {
		if f.cfg != nil {
			f.cfg(&cfg)
		}
		if f.policy != nil {
			f.policy(&p)
		}
		if f.spec != nil {
			f.spec(&spec)
		}
	}
	o, stop := serve(t, cfg)
	if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{ID: taken, Keep: true})); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	setup := func(late bool) {
		for _, f := range slices.Backward(pair) {
			if f.setup != nil && late == slices.Contains([]string{"accepting", "request_rate", "store"}, f.check) {
				f.setup(t, o, st, stop)
			}
		}
	}
	setup(false)
	policy.Store(&p)
	time.Sleep(2 * time.Second) // it is read again
	setup(true)
	first, second := pair[0], pair[1]
	if !spec.Deadline.IsZero() && (first.check == "deadline" || second.check == "deadline") {
		spec.Deadline = time.Now().Add(time.Second)
	}
	failed := make(map[string]string)
	for _, c := range orchestrator.Checks(o, me, spec) {
		if c.Code != "" {
			failed[c.Name] = c.Code
		}
	}
	_, err := o.Submit(t.Context(), me, spec)
	e, ok := errors.AsType[*taskapi.Error](err)
	if !ok || e.Code != first.code {
		t.Errorf("%s and %s: %v, want %s", first.check, second.check, err, first.code)
	}
	if first.check == "tokens" || second.check == "tokens" {
		delete(failed, "feasible") // the core finds the same
	}
	if first.check == "deadline_past" || second.check == "deadline_past" {
		delete(failed, "deadline") // and so here
	}
	for _, f := range []fault{first, second} {
		if f.check == "feasible" && first.check == "tokens" {
			continue
		}
		early := slices.Contains([]string{"accepting", "tenant", "request_rate", "shape"}, first.check)
		if f.check != "" && f.check != "store" && (f.check == first.check || !early) && failed[f.check] != string(f.code) {
			t.Errorf("%s and %s: the checks without effect say %v", first.check, second.check, failed)
		}
		delete(failed, f.check)
	}
	if len(failed) > 0 {
		t.Errorf("%s and %s: also failed: %v", first.check, second.check, failed)
	}
}

// TestChecksChangeNothing (ORC-240): asking what would happen takes no request, no
// tokens, no place and no line of the ledger, as often as one likes.
func TestChecksChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := orchestrator.TenantPolicy{RPM: 6, TPM: 600, TokensPerDay: 60}
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 1)), Workers: adapter{silent}, Tenants: one(policy), Queue: queue.Config{Capacity: 1}})
		for range 50 {
			checks := orchestrator.Checks(o, me, fill(orchestrator.Spec{}))
			if len(checks) != 15 {
				t.Fatalf("%d checks, want 15", len(checks))
			}
			for _, c := range checks {
				if c.Code != "" {
					t.Fatalf("%s fails with %s", c.Name, c.Code)
				}
			}
		}
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})); err != nil {
			t.Errorf("Submit = %v", err)
		}
	})
}
