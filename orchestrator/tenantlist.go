package orchestrator

import (
	"context"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/queue"
)

// tenantsSeen returns what is known here of tenants beside their tasks. What the
// store does not tell is left out.
func (o *Orchestrator) tenantsSeen(ctx context.Context, list []sched.TenantStand, now time.Time) map[queue.Tenant]TenantState {
	asked := make(map[queue.Tenant]bool, len(list))
	for _, t := range list {
		asked[t.ID] = true
	}
	var known []*tenant
	o.tenants.mu.Lock()
	for e := o.tenants.order.Front(); e != nil; e = e.Next() {
		if t := e.Value.(*tenant); asked[t.ref] {
			known = append(known, t)
		}
	}
	o.tenants.mu.Unlock()
	out := make(map[queue.Tenant]TenantState, len(known))
	for _, t := range known {
		d := o.tenants.day(t, now)
		_ = o.withTurn(ctx, d, func() error { return o.loadDay(ctx, d) })
		o.tenants.mu.Lock()
		out[t.ref] = TenantState{Tenant: t.name, TokensToday: d.used()}
		o.tenants.mu.Unlock()
	}
	return out
}
