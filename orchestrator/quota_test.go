package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// ledgers is a store whose writes of ledgers fail on demand and are counted.
type ledgers struct {
	*store.Memory
	mu     sync.Mutex
	fail   bool
	writes int
}

func (l *ledgers) PutDoc(ctx context.Context, d store.Doc, v store.Version) (store.Version, error) {
	l.mu.Lock()
	fail := l.fail && d.Kind == store.KindLedger
	if d.Kind == store.KindLedger {
		l.writes++
	}
	l.mu.Unlock()
	if fail {
		return 0, store.ErrUnavailable
	}
	return l.Memory.PutDoc(ctx, d, v)
}

func (l *ledgers) set(fail bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

// used returns the tokens of the newest day.
func used(t *testing.T, o *orchestrator.Orchestrator) (tokens int64, tasks int) {
	t.Helper()
	days, err := o.Usage(t.Context(), me)
	if err != nil {
		t.Fatal(err)
	}
	if len(days) == 0 {
		return 0, 0
	}
	return days[0].TokensIn + days[0].TokensOut, days[0].Tasks
}

// TestTokensPerDay: nobody is admitted beyond the tokens of a UTC day, counted by what
// a task may use at most and settled by what it used; the hint is the time until
// midnight, and the next day begins at nothing (ORC-243, 254).
func TestTokensPerDay(t *testing.T) {
	st := &ledgers{Memory: store.NewMemory()}
	cfg := orchestrator.Config{Store: st, Tenants: one(orchestrator.TenantPolicy{TokensPerDay: 100})}
	inBubble(t, cfg, []workertest.Config{{Tokens: 10}}, func(t *testing.T, b *bench) {
		spec := orchestrator.Spec{MaxTokens: 60} // and 6 of the prompt
		acc := b.submit(spec)
		e := refusedWith(t, b.Orchestrator, fill(spec), taskapi.QuotaExceeded)
		midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		if e.RetryAfter != time.Until(midnight) || e.Details["quota"] != "tokens_per_day" {
			t.Errorf("refused with %+v, want the time until midnight", e)
		}
		b.read(acc.ID, 0)
		synctest.Wait()
		first, tasks := used(t, b.Orchestrator)
		if first < 10 || first > 40 || tasks != 1 {
			t.Errorf("%d tokens of %d tasks after an answer of 10, want what was used", first, tasks)
		}
		b.read(b.submit(spec).ID, 0) // what was reserved and not used is free again
		time.Sleep(time.Until(midnight) + time.Second)
		b.read(b.submit(orchestrator.Spec{MaxTokens: 90}).ID, 0)
		synctest.Wait()
		if n, tasks := used(t, b.Orchestrator); n > 2*first || tasks != 1 {
			t.Errorf("the new day has %d tokens of %d tasks", n, tasks)
		}
		if days, err := b.Usage(t.Context(), me); err != nil || len(days) != 2 || days[0].Day <= days[1].Day {
			t.Errorf("Usage = %v, %v; want two days, the newest first", days, err)
		}
	})
}

// TestQuotaOfMany: of many who ask at once no more get in than the day has tokens for (ORC-243).
func TestQuotaOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 1)), Workers: adapter{silent}, Tenants: one(orchestrator.TenantPolicy{TokensPerDay: 260})})
		var wg sync.WaitGroup
		var mu sync.Mutex
		in := 0
		for range 40 {
			wg.Go(func() {
				if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})); err == nil { // 26 tokens
					mu.Lock()
					in++
					mu.Unlock()
				} else if !errors.Is(err, taskapi.QuotaExceeded) {
					t.Errorf("Submit = %v", err)
				}
			})
		}
		wg.Wait()
		if in != 10 {
			t.Errorf("%d tasks got in, want 10", in)
		}
	})
}

// TestLedgerOutlivesCrash: a charge that was written counts after a crash, whether or
// not its task ended; what runs again is not charged twice; a task whose charge
// can not be written does not run (ORC-243).
func TestLedgerOutlivesCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, key := &ledgers{Memory: store.NewMemory()}, [][]byte{make([]byte, 32)}
		cfg := orchestrator.Config{
			Pools: over(fake("a", 1)), Workers: adapter{silent}, Store: crashable{st, new(bool)}, SealKeys: key,
			Tenants: one(orchestrator.TenantPolicy{TokensPerDay: 60}), Timing: orchestrator.Timing{Drain: -1, FirstToken: time.Hour, Interactive: time.Hour, Max: time.Hour},
		}
		o, stop := serve(t, cfg)
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Keep: true})); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // dispatched, hence charged
		*cfg.Store.(crashable).dead = true
		go stop()
		time.Sleep(10 * time.Minute) // the first process can write nothing any more

		cfg.Store = crashable{st, new(bool)}
		cfg.Workers = adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) { return tokens(2), nil }}
		again, _ := serve(t, cfg)
		time.Sleep(10 * time.Second)
		n, tasks := used(t, again)
		if tasks != 1 || n != 3 {
			t.Errorf("%d tokens of %d tasks after the restart, want the 3 of the one task that ran again", n, tasks)
		}
		st.set(true)
		acc, err := again.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, c := ends(t, again, acc.ID); c != string(taskapi.StoreUnavailable) {
			t.Errorf("a task whose charge can not be written ended with %q", c)
		}
		st.set(false)
	})
}

// crashable is a store that stops writing when its process is dead.
type crashable struct {
	*ledgers
	dead *bool
}

func (crashable) Durable() bool { return true }

func (c crashable) Complete(ctx context.Context, e store.Epoch, b []store.Completion) ([]error, error) {
	if *c.dead {
		return nil, store.ErrClosed
	}
	return c.ledgers.Complete(ctx, e, b)
}

func (c crashable) PutDoc(ctx context.Context, d store.Doc, v store.Version) (store.Version, error) {
	if *c.dead {
		return 0, store.ErrClosed
	}
	return c.ledgers.PutDoc(ctx, d, v)
}

// TestFewLedgerWrites: answers of many tokens cost a write at dispatch and one a second (ORC-243).
func TestFewLedgerWrites(t *testing.T) {
	st := &ledgers{Memory: store.NewMemory()}
	cfg := orchestrator.Config{Store: st, Tenants: one(orchestrator.TenantPolicy{TokensPerDay: 1_000_000})}
	inBubble(t, cfg, []workertest.Config{{Tokens: 500}}, func(t *testing.T, b *bench) {
		for range 4 {
			b.read(b.submit(orchestrator.Spec{MaxTokens: 500}).ID, 0)
		}
		time.Sleep(2 * time.Second)
		if st.writes > 10 {
			t.Errorf("%d writes for 4 tasks", st.writes)
		}
	})
}

// TestRunningQuota: above the tasks that may run the next one is refused, or waits
// where the policy says so; the policy is read anew (ORC-243).
func TestRunningQuota(t *testing.T) {
	for _, wait := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			policy := orchestrator.TenantPolicy{MaxRunning: 1, WaitForQuota: wait}
			o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 4)), Workers: adapter{silent}, Tenants: one(policy)})
			if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Keep: true})); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if !wait {
				if e := refusedWith(t, o, fill(orchestrator.Spec{}), taskapi.QuotaExceeded); e.Details["quota"] != "max_running" || e.RetryAfter <= 0 {
					t.Errorf("refused with %+v", e)
				}
				return
			}
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil || acc.Status != "queued" {
				t.Errorf("above the quota: %+v, %v; want it to wait", acc, err)
			}
		})
	}
}

// TestTenantsAreApart: the header may only repeat the tenant; a policy is that of
// the caller's tenant; a class above its top is taken down (ORC-240, 242).
func TestTenantsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policies := map[string]orchestrator.TenantPolicy{"a": {RPM: 1}, "b": {TopClass: queue.Batch}}
		o, _ := serve(t, orchestrator.Config{
			Pools: over(fake("a", 1)), Workers: adapter{silent},
			Tenants: func(name string) (orchestrator.TenantPolicy, bool) { p, ok := policies[name]; return p, ok },
		})
		as := func(tenant, header string) (orchestrator.Accepted, error) {
			p := orchestrator.Principal{Tenant: tenant, User: "u", Roles: orchestrator.RoleUser}
			acc, err := o.Submit(t.Context(), p, fill(orchestrator.Spec{Tenant: header}))
			if err == nil {
				task, e := o.Task(t.Context(), p, acc.ID)
				if want := map[string]string{"b": "batch"}[tenant]; e != nil || want != "" && task.Class != want {
					t.Errorf("tenant %s got class %s, %v", tenant, task.Class, e)
				}
			}
			return acc, err
		}
		for _, c := range []struct {
			tenant, header string
			want           error
		}{{"a", "a", nil}, {"a", "", taskapi.RateLimited}, {"a", "b", taskapi.TenantMismatch}, {"b", "b", nil}, {"b", "", nil}, {"", "default", nil}, {"", "a", taskapi.TenantMismatch}} {
			if _, err := as(c.tenant, c.header); !errors.Is(err, c.want) {
				t.Errorf("tenant %q with header %q: %v, want %v", c.tenant, c.header, err, c.want)
			}
		}
	})
}

// ExampleTenantPolicy limits a tenant to one request a minute.
func ExampleTenantPolicy() {
	policies := map[string]orchestrator.TenantPolicy{"acme": {RPM: 1, TopClass: queue.Batch, TokensPerDay: 1_000_000}}
	cfg := orchestrator.Config{Tenants: func(name string) (orchestrator.TenantPolicy, bool) {
		p, ok := policies[name]
		return p, ok
	}}
	p, known := cfg.Tenants("acme")
	fmt.Println(p.RPM, strings.ToUpper(p.TopClass.String()), known)
	// Output: 1 BATCH true
}

// TestChargeIsNeverLost: a task that a crash ended after its first token leaves its
// charge in the ledger, so the day has less for the next ones (ORC-243).
func TestChargeIsNeverLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &ledgers{Memory: store.NewMemory()}
		one := one(orchestrator.TenantPolicy{TokensPerDay: 60})
		cfg := orchestrator.Config{
			Pools: over(fake("a", 1)), Store: crashable{st, new(bool)}, SealKeys: [][]byte{make([]byte, 32)}, Tenants: one, Timing: orchestrator.Timing{Drain: -1, Idle: time.Hour},
			Workers: adapter{func(ctx context.Context, _ worker.Target, _ *worker.Job) (worker.Stream, error) {
				first := true
				return script(func() (worker.Event, error) {
					if first {
						first = false
						return worker.Event{Kind: worker.Token, Text: "w "}, nil
					}
					<-ctx.Done()
					return worker.Event{}, ctx.Err()
				}), nil
			}},
		}
		o, stop := serve(t, cfg)
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Keep: true})) // 26 tokens at most
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		*cfg.Store.(crashable).dead = true
		go stop()
		time.Sleep(10 * time.Minute)

		cfg.Store = crashable{st, new(bool)}
		again, _ := serve(t, cfg)
		if task, err := again.Task(t.Context(), me, acc.ID); err != nil || task.Status != "failed" {
			t.Fatalf("the task of before the crash is %s, %v", task.Status, err)
		}
		refusedWith(t, again, fill(orchestrator.Spec{MaxTokens: 30}), taskapi.QuotaExceeded)
		if _, err := again.Submit(t.Context(), me, fill(orchestrator.Spec{})); err != nil {
			t.Errorf("what the day has left was refused: %v", err)
		}
	})
}
