package orchestrator

import (
	"container/list"
	"context"
	"encoding/hex"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Bounds of what is known of tenants.
const (
	maxTenants  = 65_536      // remembered; the one whose last task is longest ago goes first
	policyEvery = time.Second // how old a policy may be
	idleSearch  = 64          // how far the oldest are searched for one that may go
)

// tenants is what this process knows of each tenant: policy, rates, and what it
// used of its days. One lock guards all of it and is never held during I/O.
type tenants struct {
	read func(string) (TenantPolicy, bool) // nil: every policy is zero

	mu     sync.Mutex
	byName map[string]*list.Element
	order  *list.List // of *tenant, the one used last first
}

// tenant is one of them.
type tenant struct {
	name   string
	ref    queue.Tenant // without a spelling (ORC-123)
	policy TenantPolicy
	asked  time.Time   // when the policy was read
	told   sched.Rules // what the core was told
	live   int         // runs that hold this tenant
	limits limits
	days   map[string]*day // those that a live task or a write belongs to
}

func newTenants(read func(string) (TenantPolicy, bool)) *tenants {
	return &tenants{read: read, byName: make(map[string]*list.Element), order: list.New()}
}

// tenant returns a tenant with a policy that is at most a second old, and sees
// that the core knows its rules. With take it stays in memory until give.
func (o *Orchestrator) tenant(ctx context.Context, name string, take bool) (*tenant, error) {
	ref, err := o.refs.ref(ctx, "tenant", name)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t, stale := o.tenants.use(name, queue.Tenant(ref), now, take)
	if !stale {
		return t, nil
	}
	var p TenantPolicy
	if o.tenants.read != nil {
		p, _ = o.tenants.read(name)
	}
	if rules, changed := o.tenants.learn(t, p, now); changed {
		o.loop.apply(sched.Tenant{ID: t.ref, Rules: rules}) // before the task that comes with it
	}
	return t, nil
}

// use finds or makes the entry of a tenant; stale says that its policy has to be read.
func (ts *tenants) use(name string, ref queue.Tenant, now time.Time, take bool) (t *tenant, stale bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	e := ts.byName[name]
	if e == nil {
		e = ts.order.PushFront(&tenant{name: name, ref: ref, days: make(map[string]*day)})
		ts.byName[name] = e
		ts.shrinkLocked()
	}
	ts.order.MoveToFront(e)
	t = e.Value.(*tenant)
	if take {
		t.live++
	}
	return t, t.asked.IsZero() || ts.read != nil && now.Sub(t.asked) >= policyEvery
}

// shrinkLocked lets an idle tenant go when there are too many. Those with tasks
// stay: the queue bounds them.
func (ts *tenants) shrinkLocked() {
	e := ts.order.Back()
	for n := 0; len(ts.byName) > maxTenants && e != ts.order.Front() && n < idleSearch; n++ {
		prev, t := e.Prev(), e.Value.(*tenant)
		if t.live == 0 && !t.unsaved() {
			ts.order.Remove(e)
			delete(ts.byName, t.name)
		}
		e = prev
	}
}

// learn applies a policy; changed says that the core has to hear of the rules.
func (ts *tenants) learn(t *tenant, p TenantPolicy, now time.Time) (rules sched.Rules, changed bool) {
	rules = sched.Rules{Weight: p.Weight, MaxRunning: p.MaxRunning, MaxQueued: p.MaxQueued, Wait: p.WaitForQuota}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.policy, t.asked = p, now
	t.limits.set(p, now)
	changed, t.told = rules != t.told, rules
	return rules, changed
}

// policy returns that of t as it was read last.
func (ts *tenants) policyOf(t *tenant) TenantPolicy {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return t.policy
}

// prefix begins the keys of the tenant's ledgers.
func (t *tenant) prefix() string { return hex.EncodeToString(t.ref[:]) + "/" }

// rateLimited is the refusal of a limiter, which the observer hears of at most
// once a second.
func (o *Orchestrator) rateLimited(a *admission, limit string, wait time.Duration) error {
	e := taskapi.NewError(taskapi.RateLimited).With("limit", limit)
	e.RetryAfter = wait
	if a.dry {
		return e
	}
	o.tenants.mu.Lock()
	n := a.tenant.limits.tell(a.now)
	o.tenants.mu.Unlock()
	if n > 0 {
		o.observe.Observe(observe.Limited{Owner: owner(a.p), Limit: limit, Count: n})
	}
	return e
}

// seen returns the names of tenants, and what they used today, as far as they are
// known since the start.
func (ts *tenants) seen(list []sched.TenantStand, now time.Time) map[queue.Tenant]TenantState {
	today := now.UTC().Format(time.DateOnly)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	known := make(map[queue.Tenant]*tenant, len(ts.byName))
	for _, e := range ts.byName {
		t := e.Value.(*tenant)
		known[t.ref] = t
	}
	out := make(map[queue.Tenant]TenantState, len(list))
	for _, x := range list {
		if t := known[x.ID]; t != nil {
			state := TenantState{Tenant: t.name}
			if d := t.days[today]; d != nil {
				state.TokensToday = d.used()
			}
			out[x.ID] = state
		}
	}
	return out
}
