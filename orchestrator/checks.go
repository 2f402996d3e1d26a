package orchestrator

import (
	"context"
	"errors"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// admission is a request on its way through the checks.
type admission struct {
	p      Principal
	s      *Spec
	now    time.Time
	dry    bool // nothing may change
	named  bool // the client chose the id
	tenant *tenant
	policy TenantPolicy
	day    *day
	trial  sched.Trial // of a dry one
	acc    Accepted    // as far as it is known
	run    *run
	size   int
	box    []byte // the sealed body
}

// step is one check of admission.
type step struct {
	name string
	do   func(*Orchestrator, context.Context, *admission) error
}

// Numbers of steps that are not only walked through.
const (
	stepShape = 4
	stepPlace = 14 // the first that changes anything but the limiter of requests
)

// steps are the checks of ORC-240 in their order: the first failure is the answer.
func steps() []step {
	return []step{
		{"accepting", (*Orchestrator).accepting},
		{"tenant", (*Orchestrator).whoseTenant},
		{"request_rate", (*Orchestrator).requestRate},
		{"shape", (*Orchestrator).shape},
		{"tokens", (*Orchestrator).tokens},
		{"idempotency", (*Orchestrator).idempotency},
		{"deadline_past", (*Orchestrator).deadlinePast},
		{"consent", (*Orchestrator).consent},
		{"model", (*Orchestrator).model},
		{"session", (*Orchestrator).session},
		{"quota", (*Orchestrator).quota},
		{"feasible", func(_ *Orchestrator, _ context.Context, a *admission) error { return a.tried(a.trial.Static) }},
		{"deadline", func(_ *Orchestrator, _ context.Context, a *admission) error { return a.tried(a.trial.Deadline) }},
		{"place", (*Orchestrator).place},
		{"store", (*Orchestrator).persist},
	}
}

// checks makes every check of a request without any effect, for Preview: what a
// malformed request would be answered further on is not asked. The task is what
// the core would be given.
func (o *Orchestrator) checks(ctx context.Context, p Principal, s Spec) (out []Check, task sched.Task, trial sched.Trial) {
	a := &admission{p: p, s: &s, now: time.Now(), dry: true, run: new(run)}
	for i, c := range steps() {
		code := ""
		if err := c.do(o, ctx, a); err != nil {
			e, _ := errors.AsType[*taskapi.Error](wireError(err))
			code = string(e.Code)
		}
		out = append(out, Check{c.name, code})
		if code != "" && i < stepShape {
			break
		}
	}
	return out, o.schedTask(a.run, a.size), a.trial
}

func (o *Orchestrator) accepting(ctx context.Context, a *admission) error {
	err := o.Ready()
	if a.dry || !errors.Is(err, taskapi.ShuttingDown) || a.s.ID == (TaskID{}) && a.s.Key == "" {
		return err
	}
	for _, c := range []func(context.Context, *admission) error{o.whoseTenant, o.shape, o.idempotency} { // its answer was given already
		if c(ctx, a) != nil {
			return err
		}
	}
	if !a.acc.Duplicate {
		return err
	}
	return nil
}

// whoseTenant finds the tenant, which the client may only repeat.
func (o *Orchestrator) whoseTenant(ctx context.Context, a *admission) (err error) {
	if !a.p.Has(RoleUser) {
		return taskapi.NewError(taskapi.Forbidden)
	}
	if a.s.Tenant != "" && a.s.Tenant != a.p.tenant() {
		return taskapi.NewError(taskapi.TenantMismatch)
	}
	if a.tenant != nil {
		return nil
	}
	if a.tenant, err = o.tenant(ctx, a.p.tenant(), !a.dry); err == nil {
		a.policy = o.tenants.policyOf(a.tenant)
		a.run.use = use{tenant: a.tenant}
	}
	return err
}

func (o *Orchestrator) requestRate(_ context.Context, a *admission) error {
	o.tenants.mu.Lock()
	l := &a.tenant.limits
	ask := l.request
	if a.dry {
		ask = l.missing
	}
	wait := ask(a.now)
	o.tenants.mu.Unlock()
	if wait > 0 {
		return o.rateLimited(a, "requests_per_minute", wait)
	}
	return nil
}

// shape fills in the defaults and makes the run of a well-formed request.
func (o *Orchestrator) shape(ctx context.Context, a *admission) error {
	pinned := a.s.Place.Pool != "" || a.s.Place.Node != "" || a.s.Place.Worker != ""
	if pinned && a.s.Place.Mode != taskapi.ModePrefer && o.cfg.Admission.NoPins && !a.p.Has(RoleOperator) {
		return taskapi.InvalidField("placement", "only operators may pin tasks")
	}
	left := a.s.MaxTokens == 0
	if err := a.s.check(); err != nil {
		return err
	}
	ref, err := o.refs.ref(ctx, "subject", a.p.Subject())
	if err != nil {
		return err
	}
	hash := a.s.hash()
	if room := o.context(a.s.Model) - a.s.needCtx(); left && room > 0 { // what the context leaves
		a.s.MaxTokens = min(a.s.MaxTokens, room)
	}
	a.s.Class = max(a.s.Class, min(a.policy.TopClass, queue.Batch))
	a.named = a.s.ID != (TaskID{})
	if !a.named {
		a.s.ID = newTaskID(a.now)
	}
	a.size = len(a.s.promptBytes())
	a.run = o.newRun(a, ref, hash)
	return nil
}

// tokens refuses what no worker could read; nothing is cut (ORC-240).
func (o *Orchestrator) tokens(_ context.Context, a *admission) error {
	limit := taskapi.MaxContext
	if most := o.context(a.s.Model); most > 0 {
		limit = min(limit, most)
	}
	if need := a.run.spec.Ctx; need > limit {
		return taskapi.NewError(taskapi.ContextTooLarge).With("required", need).With("limit", limit)
	}
	return nil
}

// context is the largest context of the workers that have a model; 0 = not known.
func (o *Orchestrator) context(model string) int {
	if m := o.contexts.Load(); m != nil {
		return (*m)[model]
	}
	return 0
}

// idempotency finds the answer to a request that was accepted under the client's own
// id or key: it needs no place, and nobody makes room for it (ORC-246). Whatever is
// wrong with the store, the write will tell.
func (o *Orchestrator) idempotency(ctx context.Context, a *admission) (err error) {
	r := a.run
	if r.ephemeral {
		return nil
	}
	if other := o.runs.get(r.id); r.named && other != nil {
		if !a.dry {
			<-other.answered
		}
		if o.runs.get(r.id) == other {
			a.acc, err = duplicate(other.record(), r.rec)
			return err
		}
	}
	if r.named {
		if old, err := o.store.Task(ctx, r.id); err == nil && r.other(&old) != nil {
			a.acc, err = duplicate(old, r.rec)
			return err
		}
	}
	if r.rec.IdemKey == "" {
		return nil
	}
	same, err := o.store.Tasks(ctx, store.Filter{Tenant: r.rec.Tenant, IdemKey: r.rec.IdemKey, Limit: 1})
	if err != nil || len(same) == 0 || !same[0].State.Terminal() && o.runs.get(same[0].ID) == nil {
		return nil // a live task that nobody runs is adopted when it is stored again
	}
	a.acc, err = duplicate(same[0], r.rec)
	return err
}

func (o *Orchestrator) deadlinePast(_ context.Context, a *admission) error {
	if d := a.s.Deadline; !d.IsZero() && !d.After(a.now) {
		return taskapi.NewError(taskapi.DeadlineUnmet).With("exceeded_by_ms", a.now.Sub(d).Milliseconds())
	}
	return nil
}

func (o *Orchestrator) consent(ctx context.Context, a *admission) error {
	return o.permitted(ctx, a.run)
}

// model resolves an alias; whether a worker knows the model the core tells.
func (o *Orchestrator) model(_ context.Context, a *admission) error {
	model, digest, err := o.resolveModel(a.s)
	if err == nil {
		a.s.Model, a.run.spec.Model, a.run.rec.Model, a.run.digest = model, model, model, digest
	}
	return err
}

// session takes the turn and the budget; a refusal further on gives them back.
func (o *Orchestrator) session(ctx context.Context, a *admission) (err error) {
	if !a.dry {
		a.run.use.session, err = o.takeSession(ctx, a.p, a.s, a.run.rec.Subject, int(a.s.mostTokens(a.run.use.prompt)))
		return err
	}
	if a.s.Session == "" {
		return nil
	}
	now, err := o.Session(ctx, a.p, a.s.Session)
	switch {
	case errors.Is(err, taskapi.SessionNotFound): // this task would open it
		now = Session{Budget: a.s.Budget, BudgetLeft: a.s.Budget}
	case err != nil:
		return err
	}
	switch {
	case o.cfg.Sessions.Full == "reject" && o.cfg.Sessions.Turns > 0 && now.Turns >= o.cfg.Sessions.Turns:
		return taskapi.NewError(taskapi.SessionLimit)
	case now.Budget > 0 && int64(now.BudgetLeft) < a.s.mostTokens(a.run.use.prompt):
		return taskapi.NewError(taskapi.BudgetExceeded)
	}
	return nil
}

// quota looks whether the day has room; it is taken with the place. Of a dry
// request the core is asked here what it would say further on.
func (o *Orchestrator) quota(ctx context.Context, a *admission) (err error) {
	if a.day, err = o.today(ctx, a.tenant, a.now); err != nil {
		return err
	}
	o.tenants.mu.Lock()
	err = quotaLeft(a.policy, a.day, a.s.mostTokens(a.run.use.prompt), a.now)
	o.tenants.mu.Unlock()
	if a.dry {
		a.trial = o.trial(a)
	}
	if err == nil {
		err = a.tried(a.trial.Quota)
	}
	return err
}

// trial asks the core what it would say to a, before any of it.
func (o *Orchestrator) trial(a *admission) (out sched.Trial) {
	task := o.schedTask(a.run, a.size)
	o.loop.ask(func(c *sched.Core) { out = c.Try(o.loop.now(), task) })
	return out
}

// tried is a refusal of the core, of a dry request: else one step of the core
// makes the checks 11 to 14.
func (a *admission) tried(f sched.Reject) error {
	if f.Code == "" {
		return nil
	}
	return taskapi.NewError(taskapi.Code(f.Code))
}
