package orchestrator

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// execute does what the core decided. The loop calls it, so it only starts work
// and never waits for any.
func (o *Orchestrator) execute(fx sched.Effect) {
	switch f := fx.(type) {
	case sched.Admit:
		o.answer(TaskID(f.ID), f)
	case sched.Reject:
		o.answer(TaskID(f.ID), f)
	case sched.Queued:
		if r := o.answer(TaskID(f.ID), f); r != nil {
			o.publish(r, EventQueued, taskapi.Queued{JobID: r.id.String(), QueuePosition: f.Ahead, PredictedStartMS: f.StartIn.Milliseconds()})
		}
	case sched.Assign:
		o.assign(f)
	case sched.Retry:
		if r := o.runs.get(TaskID(f.ID)); r != nil {
			o.note(observe.Retried{Task: r.id.String(), Worker: r.where(), Class: string(f.Class), Attempt: f.Attempt})
		}
	case sched.StopRun:
		if r := o.runs.get(TaskID(f.ID)); r != nil {
			r.stop(f.Reason)
		}
	case sched.Terminal:
		if r := o.answer(TaskID(f.ID), f); r != nil {
			r.stream.muteUnlessDone(f.Code)
			o.endings.Go(func() { o.end(r, f) })
		}
	case sched.Evict:
		if r := o.runs.get(TaskID(f.ID)); r != nil {
			o.note(observe.Victim{Task: r.id.String(), Class: r.spec.Class.String(), Policy: string(o.cfg.Queue.Policy)})
			o.endings.Go(func() { o.end(r, sched.Terminal{ID: f.ID, Code: f.Code}) })
		}
	case sched.Probe:
		o.try(f)
	case sched.Load:
		o.load(f)
	case sched.Note:
		o.noted(f)
	case sched.Leave:
		if r := o.answer(TaskID(f.ID), f); r != nil {
			r.stream.abandon()
			o.runs.drop(r.id)
		}
	}
}

func (o *Orchestrator) answer(id TaskID, e sched.Effect) *run {
	r := o.runs.get(id)
	if r != nil {
		r.answer(e)
	}
	return r
}

// published tells the observer how the loop stands, after a turn. Of several
// turns that follow each other closely it hears the last one.
func (o *Orchestrator) published(c *sched.Core, lag time.Duration) {
	now := stats(c, lag)
	o.stats.Store(&now)
	select {
	case o.turned <- struct{}{}:
	default:
	}
}

// assign starts an attempt in its own goroutine; Finished is sent exactly once.
func (o *Orchestrator) assign(f sched.Assign) {
	r := o.runs.get(TaskID(f.ID))
	ctx, cancel := context.WithCancelCause(o.attempt)
	if r == nil { // can not be: the core knows only tasks that are in the table
		cancel(nil)
		go o.loop.post(sched.Finished{ID: f.ID, Attempt: f.Attempt})
		return
	}
	o.runs.explain(r.id, f.Why)
	r.beginAttempt(f.Attempt, f.Worker, cancel)
	r.answer(f)
	o.talks.placed(r.rec.Subject, r.rec.Session, f.Worker.Key)
	o.wg.Go(func() {
		defer cancel(nil)
		o.observe.Observe(observe.Placed{
			Task: r.id.String(), Worker: whereIs(f.Worker), Class: r.spec.Class.String(), Attempt: f.Attempt,
			Considered: f.Why.Total, QueueWait: time.Since(r.began), Fallback: f.Why.Fallback, Pinned: r.spec.Place.Pool+r.spec.Place.Node+r.spec.Place.Worker != "",
		})
		o.loop.post(sched.Finished{ID: f.ID, Attempt: f.Attempt, Result: o.runAttempt(ctx, r, f)})
	})
}

// publish appends an event whose payload is v.
func (o *Orchestrator) publish(r *run, typ string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		o.log.Error("An event could not be encoded.", slog.String("event", "internal"), slog.String("job_id", r.id.String()))
		return
	}
	if _, err := r.stream.append(context.Background(), typ, data); err != nil {
		o.log.Error("An event could not be kept.", slog.String("event", "internal"), slog.String("job_id", r.id.String()))
	}
}
