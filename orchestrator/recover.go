package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// recoverPage is how many records are read at a time, without bodies.
const recoverPage = 10_000

// recoverTasks takes up what earlier runs accepted, in the old order (ORC-654):
// what waited or published nothing waits again, everything else ends now.
func (o *Orchestrator) recoverTasks(ctx context.Context) error {
	f := store.Filter{States: []store.State{store.Queued, store.Running, store.Cancelling}, Oldest: true, Limit: recoverPage}
	queued, ended, began := 0, 0, time.Now()
	for {
		page, err := o.store.Tasks(ctx, f)
		if err != nil {
			return fmt.Errorf("read live tasks: %w", err)
		}
		var over []store.Record
		for _, rec := range page {
			if _, ok := overdue(rec, began); ok {
				over = append(over, rec)
				continue
			}
			o.recoverOne(rec)
			queued++
		}
		for part := range slices.Chunk(over, 1000) {
			if err := o.endOverdue(ctx, part, began); err != nil {
				return err
			}
			ended += len(part)
		}
		if len(page) < recoverPage {
			break
		}
		f.After = page[len(page)-1].Seq
	}
	if queued+ended > 0 {
		o.log.InfoContext(ctx, "Tasks of an earlier run were taken up.", slog.String("event", "recovered"),
			slog.Int("queued", queued), slog.Int("ended", ended), slog.Int64("took_ms", time.Since(began).Milliseconds()))
	}
	return nil
}

// endOverdue stores the ends of records that do not go on, and tells the observer.
func (o *Orchestrator) endOverdue(ctx context.Context, recs []store.Record, now time.Time) error {
	ends := make([]store.Completion, len(recs))
	for i, rec := range recs {
		ends[i], _ = overdue(rec, now)
	}
	errs, err := o.store.Complete(ctx, o.term(), ends)
	if err != nil {
		return fmt.Errorf("end live tasks: %w", err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end live tasks: %w", err)
	}
	for i, rec := range recs {
		e := observe.Finished{
			Task: rec.ID.String(), Correlation: rec.Meta.Correlation, Owner: observe.Owner{Tenant: rec.Tenant}, Class: rec.Class, Model: rec.Model,
			Code: ends[i].Outcome.Code, Reason: rec.CancelReason, Attempts: rec.Attempt, Total: now.Sub(rec.Created),
		}
		e.Worker.Node, e.Worker.Pool, e.Worker.Worker = splitWorker(rec.Worker)
		o.observe.Observe(e)
	}
	return nil
}

// overdue says how a live record of an earlier run ends at once, if it does.
func overdue(rec store.Record, now time.Time) (store.Completion, bool) {
	c := store.Completion{ID: rec.ID, Attempt: rec.Attempt, State: store.Failed}
	switch {
	case rec.State == store.Cancelling:
		c.State, c.Outcome.Code = store.Cancelled, string(taskapi.Cancelled)
	case rec.Emitted:
		c.Outcome.Code = string(taskapi.WorkerReset)
	case !rec.Deadline.IsZero() && !rec.Deadline.After(now):
		c.Outcome.Code = string(taskapi.DeadlineUnmet)
	default:
		return c, false
	}
	return c, true // how far its event log went is not known
}

// recoverOne puts a task back into the queue. Its body stays sealed in the store.
func (o *Orchestrator) recoverOne(rec store.Record) {
	class, err := queue.ParseClass(rec.Class)
	if err != nil {
		class = queue.Interactive // written by a program that knew more classes
	}
	s := Spec{
		ID: rec.ID, Key: rec.IdemKey, Kind: worker.Kind(rec.Meta.Kind), Model: rec.Model, Engine: rec.Meta.Engine, Class: class, Session: rec.Session,
		MaxTokens: rec.Meta.MaxTokens, Expected: rec.Meta.Expected, Ctx: rec.Meta.PromptTokens, Deadline: rec.Deadline, Keep: rec.Meta.Keep,
		Correlation: rec.Meta.Correlation,
	}
	_ = json.Unmarshal(rec.Meta.Place, &s.Place) // written by us; unreadable means no constraint is known
	rec.State = store.Queued
	r := &run{
		id: rec.ID, owner: observe.Owner{Tenant: rec.Tenant}, spec: s, began: time.Now(), rec: rec,
		stream: newStream(o.cfg.Streams), answers: make(chan sched.Effect, 1), answered: make(chan struct{}),
	}
	close(r.answered)
	r.stream.recovered = true
	o.follow(r)
	if _, ok := o.runs.add(r); !ok {
		return
	}
	t := o.schedTask(r, 0)
	t.Attempt = rec.Attempt
	o.loop.post(sched.Recovered{Task: t})
}
