package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Preview is what would happen to a request, without doing it.
type Preview struct {
	Checks      []Check // in the order of admission
	Explanation placement.Explanation
	StartIn     time.Duration
	Band        time.Duration
	Position    int
}

// Check is one step of admission.
type Check struct {
	Name string
	Code string // "" = passed
}

// Preview makes every check and the decision for a request, with no side effect. A
// request that fails a check has no error here; one whose caller or shape is wrong
// has no decision.
func (o *Orchestrator) Preview(ctx context.Context, p Principal, s Spec) (Preview, error) {
	if !p.Has(RoleUser) {
		return Preview{}, taskapi.NewError(taskapi.Forbidden)
	}
	if err := o.Ready(); err != nil {
		return Preview{}, err
	}
	checks, task, _ := o.checks(ctx, p, s)
	out := Preview{Checks: checks}
	if len(checks) < len(steps()) {
		return out, nil
	}
	ok := o.look(func(c *sched.Core) {
		f := c.Foresee(o.loop.now(), task)
		out.Explanation, out.Position, out.StartIn, out.Band = f.Why, f.Ahead, f.Start, f.Band
	})
	if !ok {
		return Preview{}, taskapi.NewError(taskapi.ShuttingDown)
	}
	return out, nil
}

// QueueState is a picture of the queue.
type QueueState struct {
	Capacity, Waiting int // Capacity −1 = unbounded
	Bytes             int64
	Oldest            time.Duration // age of the oldest waiting task
	Classes           map[string]int
	Tenants           []TenantState // by share, the largest first; at most 1,000
}

// TenantState is how a tenant stands.
type TenantState struct {
	Tenant           string // "" = not known since the restart
	Weight           int
	Waiting, Running int
	Virtual          int64 // virtual time of both classes, milli-tokens ÷ weight
	TokensToday      int64
}

// maxTenantStates bounds a list of tenants; those with tasks come first.
const maxTenantStates = 1000

// Queue returns how the queue stands. Operators only.
func (o *Orchestrator) Queue(ctx context.Context, p Principal) (QueueState, error) {
	if err := o.operator(ctx, p, "queue", "queue.read"); err != nil {
		return QueueState{}, err
	}
	var s sched.Stand
	var now sched.Instant
	if !o.look(func(c *sched.Core) { s, now = c.Stand(), o.loop.now() }) {
		return QueueState{}, taskapi.NewError(taskapi.ShuttingDown)
	}
	out := QueueState{
		Capacity: capacity(o.cfg.Queue.Capacity), Waiting: s.Waiting[0] + s.Waiting[1], Bytes: s.Bytes,
		Classes: map[string]int{queue.Interactive.String(): s.Waiting[queue.Interactive], queue.Batch.String(): s.Waiting[queue.Batch]},
	}
	if s.Oldest > 0 {
		out.Oldest = time.Duration(now - s.Oldest)
	}
	out.Tenants = o.tenantStates(s.Tenants, time.Now())
	return out, nil
}

func capacity(n int) int {
	switch n {
	case 0:
		return queue.DefaultCapacity
	case queue.RejectAll:
		return 0
	}
	return n
}

// tenantStates words what the core knows of tenants: those with tasks first, then by
// weight, then who had less.
func (o *Orchestrator) tenantStates(list []sched.TenantStand, now time.Time) []TenantState {
	busy := func(t sched.TenantStand) int { return min(1, t.Places+t.Running) }
	virtual := func(t sched.TenantStand) int64 { return t.Virtual[queue.Interactive] + t.Virtual[queue.Batch] }
	slices.SortStableFunc(list, func(a, b sched.TenantStand) int {
		return cmp.Or(cmp.Compare(busy(b), busy(a)), cmp.Compare(b.Weight, a.Weight), cmp.Compare(virtual(a), virtual(b)))
	})
	list = list[:min(len(list), maxTenantStates)]
	out := make([]TenantState, len(list))
	names := o.tenants.seen(list, now)
	for i, t := range list {
		out[i] = names[t.ID]
		out[i].Weight, out[i].Waiting, out[i].Running, out[i].Virtual = t.Weight, t.Places, t.Running, virtual(t)
	}
	return out
}

// SetPolicy changes placement from the next decision on: INVALID_PARAMS names the
// first faulty member. Operators only.
func (o *Orchestrator) SetPolicy(ctx context.Context, p Principal, policy placement.Policy) error {
	if err := o.operator(ctx, p, "policy", "policy.set"); err != nil {
		return err
	}
	if err := o.Ready(); err != nil {
		return err
	}
	err := policy.Validate()
	for i, s := range policy.Scorers {
		if o.cfg.Scorers[s.Name] == nil {
			err = errors.Join(err, &placement.PolicyError{Field: fmt.Sprintf("scorers[%d].name", i), Fault: "unknown"})
		}
	}
	if e, ok := errors.AsType[*placement.PolicyError](err); ok {
		return taskapi.InvalidField(e.Field, strings.ReplaceAll(e.Fault, " ", "_"))
	}
	if !o.loop.apply(sched.Policy{Policy: policy, Regions: regionNames(o.cfg.Residency)}) {
		return taskapi.NewError(taskapi.ShuttingDown)
	}
	return nil
}
