package sched_test

import (
	"math"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/queue"
)

func of(tenant queue.Tenant) func(*sched.Task) {
	return func(t *sched.Task) { t.Tenant, t.Cost = tenant, 10_000 }
}

// TestRunningQuota: above the running quota a tenant is refused, or waits without
// holding up others, as its rules say; the queued quota refuses always (ORC-243).
func TestRunningQuota(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 8))
	tb.step(sched.Tenant{ID: tenantA, Rules: sched.Rules{MaxRunning: 1}})
	tb.step(sched.Tenant{ID: tenantB, Rules: sched.Rules{MaxRunning: 1, MaxQueued: 2, Wait: true}})
	tb.submit(1, of(tenantA))
	r, ok := find[sched.Reject](tb.submit(2, of(tenantA)))
	if !ok || r.Code != "QUOTA_EXCEEDED" || r.Details.Field != "max_running" || r.After <= 0 {
		t.Errorf("above the running quota: %+v", r)
	}
	tb.submit(3, of(tenantB))
	for n := 4; n <= 5; n++ {
		if fx := tb.submit(n, of(tenantB)); count[sched.Admit](fx) != 1 || count[sched.Assign](fx) != 0 {
			t.Fatalf("task %d of a tenant that waits: %v", n, fx)
		}
	}
	if r, _ := find[sched.Reject](tb.submit(6, of(tenantB))); r.Code != "QUOTA_EXCEEDED" || r.Details.Field != "max_queued" {
		t.Errorf("above the queued quota: %+v", r)
	}
	if e, _ := tb.core.Why(id(5)); e.Reason != "quota" {
		t.Errorf("Why = %q, want quota", e.Reason)
	}
	if fx := tb.submit(7); count[sched.Assign](fx) != 1 {
		t.Errorf("another tenant is held up: %v", fx)
	}
	if fx := tb.finish(3, 1, exec.OK); count[sched.Assign](fx) != 1 {
		t.Errorf("after one ended: %v, want exactly one more", fx)
	}
	if fx := tb.step(sched.Tenant{ID: tenantB}); count[sched.Assign](fx) != 1 {
		t.Errorf("without rules: %v, want the last one to start", fx)
	}
}

// TestSettle: a task that ran costs what it used, not what was estimated, also
// after a failure and a cancel (ORC-210).
func TestSettle(t *testing.T) {
	for _, c := range []struct {
		name   string
		end    func(tb *table)
		charge int64
	}{
		{"success", func(tb *table) {
			tb.step(sched.Finished{ID: id(1), Attempt: 1, Result: sched.Result{TokensIn: 3, TokensOut: 4}})
		}, 3*1000 + 4*2000},
		{"nothing known", func(tb *table) { tb.finish(1, 1, exec.OK) }, 10_000},
		{"rejected", func(tb *table) { tb.finish(1, 1, exec.Rejected) }, 0},
		{"failed after tokens", func(tb *table) {
			tb.step(sched.Progress{ID: id(1), Tokens: 5})
			tb.step(sched.Finished{ID: id(1), Attempt: 1, Result: sched.Result{Class: exec.Reset, Emitted: true}})
		}, 2*1000 + 5*2000},
		{"cancelled", func(tb *table) {
			tb.step(sched.Progress{ID: id(1), Tokens: 1})
			tb.step(sched.Cancel{ID: id(1), Reason: sched.Client})
			tb.finish(1, 1, exec.Reset)
		}, 2*1000 + 1*2000},
	} {
		tb := newTable(t, sched.Config{}, engine("a", 8))
		tb.submit(9, of(tenantB)) // keeps the clock of the queue below
		tb.submit(1, of(tenantA), func(t *sched.Task) { t.Need.Prompt = 2 })
		c.end(tb)
		if got := tb.core.Virtual(tenantA, queue.Interactive); got != c.charge {
			t.Errorf("%s: charged %d milli-tokens, want %d", c.name, got, c.charge)
		}
	}
}

// TestIdleTenantsBounded: the rules of tenants without tasks are kept for 65,536 of
// them; those with tasks keep theirs (G8).
func TestIdleTenantsBounded(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1))
	tb.step(sched.Tenant{ID: tenantA, Rules: sched.Rules{MaxRunning: 1}})
	tb.submit(1, of(tenantA), func(t *sched.Task) { t.Total = time.Hour })
	for i := range 70_000 {
		tb.core.Step(tb.now, sched.Tenant{ID: queue.Tenant{2: byte(i), 3: byte(i >> 8), 4: byte(i >> 16)}, Rules: sched.Rules{MaxRunning: 1}})
	}
	if n := tb.core.IdleTenants(); n != 65_536 {
		t.Errorf("%d idle tenants kept, want 65,536", n)
	}
	if r, ok := find[sched.Reject](tb.submit(2, of(tenantA))); !ok || r.Code != "QUOTA_EXCEEDED" {
		t.Errorf("a tenant with a task lost its rules: %v", tb.fx)
	}
	b, err := tb.core.State()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sched.Restore(tb.core.Config(), b); err != nil {
		t.Errorf("a full table does not come back: %v", err)
	}
}

// TestLyingUsage: an engine that claims an absurd usage spoils neither what is learned
// nor the state, and its tenant pays no more than a bounded amount (G8).
func TestLyingUsage(t *testing.T) {
	tb := newTable(t, sched.Config{}, engine("a", 1))
	for n, tokens := range []int{math.MaxInt, math.MinInt, math.MaxInt / 1000, 1 << 60} {
		tb.submit(n+1, func(t *sched.Task) { t.Tenant, t.Text, t.Need.Expected = tenantA, 100, 1 })
		tb.now += second
		tb.step(sched.Finished{ID: id(n + 1), Attempt: 1, Result: sched.Result{TokensIn: tokens, TokensOut: tokens, First: time.Second, Decode: time.Second}})
	}
	b, err := tb.core.State()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sched.Restore(tb.core.Config(), b); err != nil {
		t.Errorf("the state does not come back: %v", err)
	}
	if got := tb.core.Virtual(tenantA, queue.Interactive); got < 0 || got > 4<<24*3000 {
		t.Errorf("the tenant was charged %d", got)
	}
	if text, err := tb.core.Estimates(); err != nil || tb.core.LoadEstimates(text) != nil {
		t.Error("what was learned does not come back")
	}
}
