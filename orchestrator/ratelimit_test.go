package orchestrator_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// one gives every tenant one policy.
func one(p orchestrator.TenantPolicy) func(string) (orchestrator.TenantPolicy, bool) {
	return func(string) (orchestrator.TenantPolicy, bool) { return p, true }
}

// refusedWith submits what has to be refused with a code.
func refusedWith(t *testing.T, o *orchestrator.Orchestrator, s orchestrator.Spec, want taskapi.Code) *taskapi.Error {
	t.Helper()
	_, err := o.Submit(t.Context(), me, s)
	e, ok := errors.AsType[*taskapi.Error](err)
	if !ok || e.Code != want {
		t.Fatalf("Submit = %v, want %s", err, want)
	}
	return e
}

// TestLimitsModel: however tokens are reserved and settled, at every grant what is
// used and reserved together is at most a burst and the rate of the time that has
// passed; who waits as long as told is let in (ORC-242).
func TestLimitsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tpm := rapid.IntRange(1, 6000).Draw(t, "tpm")
		began := time.Unix(1_700_000_000, 0)
		now, burst := began, max(1, tpm/6)
		l := new(orchestrator.Limits)
		l.Set(orchestrator.TenantPolicy{TPM: tpm}, now)
		var open []int
		spent := 0 // used, and reserved
		grant := func(n int) bool {
			taken, wait := l.Reserve(n, now)
			if wait > 0 {
				now = now.Add(wait)
				if taken, wait = l.Reserve(n, now); wait > 0 {
					t.Fatalf("refused again after the wait: %v more", wait)
				}
			}
			open, spent = append(open, taken), spent+taken
			if most := float64(burst) + now.Sub(began).Seconds()*float64(tpm)/60 + 1; float64(spent) > most {
				t.Fatalf("%d tokens after %v, at most %.1f", spent, now.Sub(began), most)
			}
			return true
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) { grant(rapid.IntRange(1, 3*burst).Draw(t, "n")) },
			"settle": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing open")
				}
				used := rapid.IntRange(0, 3*burst).Draw(t, "used")
				l.Settle(open[0], used, now)
				spent += used - open[0]
				open = open[1:]
			},
			"pass": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 60_000).Draw(t, "ms")) * time.Millisecond)
			},
		})
	})
}

// TestRequestRate: a sixth of the rate may come at once; who comes on top hears
// when the next one may, and the observer at most once a second (ORC-242, ORC-254).
func TestRequestRate(t *testing.T) {
	inBubble(t, orchestrator.Config{Tenants: one(orchestrator.TenantPolicy{RPM: 60})}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		for range 10 {
			b.submit(orchestrator.Spec{})
		}
		for range 5 {
			if e := refusedWith(t, b.Orchestrator, fill(orchestrator.Spec{}), taskapi.RateLimited); e.RetryAfter != time.Second || e.Details["limit"] != "requests_per_minute" {
				t.Errorf("refused with %+v, want the limiter's second", e)
			}
		}
		if n, e := count[observe.Limited](b.seen); n != 1 || e.Count != 1 || e.Limit != "requests_per_minute" || e.Owner.Tenant != "default" {
			t.Errorf("%d events, the last %+v; want one", n, e)
		}
		time.Sleep(time.Second)
		b.submit(orchestrator.Spec{})
		refusedWith(t, b.Orchestrator, fill(orchestrator.Spec{}), taskapi.RateLimited)
		if n, e := count[observe.Limited](b.seen); n != 2 || e.Count != 5 {
			t.Errorf("%d events, the last %+v; want the 5 since the first", n, e)
		}
	})
}

// TestTokenRate: an estimate is reserved and settled by what was used: too much comes
// back as credit, too little is owed by those who come next (ORC-242).
func TestTokenRate(t *testing.T) {
	for _, c := range []struct {
		expected int
		wait     time.Duration // of the next after the end; 0 = it goes at once
	}{{90, 0}, {1, 2 * time.Second}} {
		cfg := orchestrator.Config{Tenants: one(orchestrator.TenantPolicy{TPM: 600})} // burst 100, 10 a second
		inBubble(t, cfg, []workertest.Config{{Tokens: 110}}, func(t *testing.T, b *bench) {
			first := orchestrator.Spec{Expected: c.expected, MaxTokens: 110}
			if c.wait == 0 {
				first.MaxTokens = 2 // far fewer than expected
			}
			acc := b.submit(first)
			if c.wait == 0 {
				refusedWith(t, b.Orchestrator, fill(orchestrator.Spec{Expected: 90, MaxTokens: 200}), taskapi.RateLimited)
			}
			b.read(acc.ID, 0)
			synctest.Wait()
			next := fill(orchestrator.Spec{Expected: 80, MaxTokens: 200})
			if c.wait == 0 {
				b.submit(next)
				return
			}
			e := refusedWith(t, b.Orchestrator, next, taskapi.RateLimited)
			if e.RetryAfter < c.wait || e.Details["limit"] != "tokens_per_minute" {
				t.Errorf("refused with %+v, want a wait of at least %v", e, c.wait)
			}
			time.Sleep(e.RetryAfter)
			b.submit(next)
		})
	}
}
