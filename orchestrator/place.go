package orchestrator

import (
	"context"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// take reserves of the day and of the minute; if there is not enough, what the core
// would have refused before comes first.
func (o *Orchestrator) take(a *admission) error {
	u, wait := &a.run.use, time.Duration(0)
	most := a.s.mostTokens(u.prompt)
	o.tenants.mu.Lock()
	err := quotaLeft(a.policy, a.day, most, a.now)
	if err == nil {
		u.rate, wait = a.tenant.limits.reserve(a.s.likelyTokens(u.prompt), a.now)
	}
	if err == nil && wait == 0 {
		u.day = a.day
		if a.policy.TokensPerDay > 0 {
			u.tokens = most
		}
		a.tenant.days[a.day.name] = a.day
		a.day.held += u.tokens
		a.day.live++
	}
	o.tenants.mu.Unlock()
	if err == nil && wait == 0 {
		return nil
	}
	if t := o.trial(a); t.Before().Code != "" {
		return o.refusal(a.run, t.Before())
	}
	if err == nil {
		err = o.rateLimited(a, "tokens_per_minute", wait)
	}
	return err
}

// mayPlace is what place would say of quota and estimate, of a dry request.
func (o *Orchestrator) mayPlace(a *admission) error {
	o.tenants.mu.Lock()
	wait := a.tenant.limits.short(a.s.likelyTokens(a.run.use.prompt), a.now)
	o.tenants.mu.Unlock()
	if wait > 0 {
		return o.rateLimited(a, "tokens_per_minute", wait)
	}
	return a.tried(a.trial.Place)
}

// place takes quota, estimate and place.
func (o *Orchestrator) place(ctx context.Context, a *admission) error {
	if a.dry {
		return o.mayPlace(a)
	}
	if err := o.take(a); err != nil {
		return err
	}
	r := a.run
	if err := o.loop.submit(ctx, sched.Submit{Task: o.schedTask(r, a.size)}); err != nil {
		return err
	}
	switch f := o.wait(r).(type) {
	case sched.Admit:
		a.acc = Accepted{ID: r.id, Status: "queued", Position: f.Ahead, StartIn: f.StartIn, Band: f.Band, BudgetLeft: -1}
		if r.spec.Session != "" {
			a.acc.BudgetLeft = r.use.session.BudgetLeft
		}
		if f.Ahead > 0 {
			a.acc.Backoff = spread(r.id, min(time.Minute, max(250*time.Millisecond, f.StartIn)))
		}
		return nil
	case sched.Reject:
		return o.refusal(r, f)
	}
	return taskapi.NewError(taskapi.ShuttingDown)
}

// spread moves a hint by up to ±10 %, by task, so that clients do not come back
// together (ORC-254).
func spread(id TaskID, d time.Duration) time.Duration {
	n := (int(id[14])<<8 | int(id[15])) % 201
	return d / 1000 * time.Duration(900+n)
}

// mostTokens is what a task may use at most: its prompt and what it may answer.
func (s *Spec) mostTokens(prompt int) int64 {
	out := s.MaxTokens
	if out == 0 && !s.single() {
		out = defTokens
	}
	return int64(prompt) + int64(out)*int64(max(1, s.Choices))
}

// likelyTokens is what a task is expected to use.
func (s *Spec) likelyTokens(prompt int) int {
	out := min(int(s.mostTokens(0)), 256*max(1, s.Choices))
	if s.Expected > 0 {
		out = s.Expected * max(1, s.Choices)
	}
	return prompt + out
}
