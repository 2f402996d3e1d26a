package orchestrator

import (
	"context"
	"errors"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// foresee makes the checks of a request without any effect; whole says that it got
// as far as to have a task.
func (o *Orchestrator) foresee(ctx context.Context, p Principal, s Spec) (out []Check, task sched.Task, whole bool) {
	r, err := o.admit(ctx, p, &s, time.Now())
	if err != nil {
		e, _ := errors.AsType[*taskapi.Error](wireError(err))
		return []Check{{"shape", string(e.Code)}}, task, false
	}
	return []Check{{"shape", ""}}, o.schedTask(r, 0), true
}

// tenantsSeen returns what is known here of tenants beside their tasks.
func (o *Orchestrator) tenantsSeen([]sched.TenantStand, time.Time) map[queue.Tenant]TenantState {
	return nil
}
