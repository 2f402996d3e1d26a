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
		var over []fate
		for _, rec := range page {
			end, err := o.fate(ctx, rec, began)
			if err != nil {
				return err
			}
			if end.completion.State != "" {
				over = append(over, end)
				continue
			}
			o.recoverOne(ctx, rec)
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
		o.audit.recovered(ctx, queued, ended)
		o.log.InfoContext(ctx, "Tasks of an earlier run were taken up.", slog.String("event", "recovered"),
			slog.Int("queued", queued), slog.Int("ended", ended), slog.Int64("took_ms", time.Since(began).Milliseconds()))
	}
	return nil
}

// fate is how a live record of an earlier run ends at once; the zero completion
// if it goes on.
type fate struct {
	rec        store.Record
	completion store.Completion
	reason     sched.Reason // of a cancellation that nobody has asked the store for yet
}

// fate looks at what has happened since: a deadline, an erasure, a revocation.
func (o *Orchestrator) fate(ctx context.Context, rec store.Record, now time.Time) (fate, error) {
	f := fate{rec: rec}
	if c, ok := overdue(rec, now); ok {
		f.completion = c
		return f, nil
	}
	switch err := o.consented(ctx, rec.Subject, o.purposesOf(rec.Tenant, rec.Meta.Purposes)); {
	case o.erasing(rec.Subject):
		f.reason = sched.Erasure
	case errors.Is(err, taskapi.ConsentRequired):
		f.reason = sched.Consent
	case err != nil:
		return f, err
	default:
		return f, nil
	}
	f.completion = store.Completion{ID: rec.ID, Attempt: rec.Attempt, State: store.Cancelled, Outcome: store.Outcome{Code: string(taskapi.Cancelled)}}
	return f, nil
}

// endOverdue stores the ends of records that do not go on, and tells the observer.
func (o *Orchestrator) endOverdue(ctx context.Context, over []fate, now time.Time) error {
	var asks []store.CancelReq
	for _, f := range over {
		if f.reason != "" {
			asks = append(asks, store.CancelReq{ID: f.rec.ID, Reason: string(f.reason)})
		}
	}
	var states []store.CancelState
	if len(asks) > 0 {
		var err error
		if states, err = o.store.Cancel(ctx, o.term(), asks); err != nil {
			return fmt.Errorf("cancel live tasks: %w", err)
		}
	}
	var ends []store.Completion
	for i, f := range over {
		if f.reason != "" {
			state := states[0]
			states = states[1:]
			over[i].rec.CancelReason = string(f.reason)
			if state.Err != nil {
				return fmt.Errorf("cancel live tasks: %w", state.Err)
			}
			if state.State.Terminal() { // it waited, and has ended with this
				continue
			}
		}
		ends = append(ends, f.completion)
	}
	errs, err := o.store.Complete(ctx, o.term(), ends)
	if err = errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("end live tasks: %w", err)
	}
	for _, f := range over {
		e := observe.Finished{
			Task: f.rec.ID.String(), Correlation: f.rec.Meta.Correlation, Owner: observe.Owner{Tenant: f.rec.Tenant}, Class: f.rec.Class, Model: f.rec.Model,
			Session: f.rec.Session, Code: f.completion.Outcome.Code, Reason: f.rec.CancelReason, Attempts: f.rec.Attempt, Total: now.Sub(f.rec.Created),
		}
		e.Worker.Node, e.Worker.Pool, e.Worker.Worker = splitWorker(f.rec.Worker)
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
func (o *Orchestrator) recoverOne(ctx context.Context, rec store.Record) {
	class, err := queue.ParseClass(rec.Class)
	if err != nil {
		class = queue.Interactive // written by a program that knew more classes
	}
	s := Spec{
		ID: rec.ID, Key: rec.IdemKey, Kind: worker.Kind(rec.Meta.Kind), Model: rec.Model, Engine: rec.Meta.Engine, Class: class, Session: rec.Session,
		MaxTokens: rec.Meta.MaxTokens, Expected: rec.Meta.Expected, Ctx: rec.Meta.PromptTokens, Deadline: rec.Deadline, Keep: rec.Meta.Keep,
		Regions: regionsOf(rec.Meta.Regions), Purposes: rec.Meta.Purposes,
		Correlation: rec.Meta.Correlation,
	}
	_ = json.Unmarshal(rec.Meta.Place, &s.Place) // written by us; unreadable means no constraint is known
	rec.State = store.Queued
	r := &run{
		id: rec.ID, owner: observe.Owner{Tenant: rec.Tenant}, spec: s, digest: rec.Meta.Digest, began: time.Now(), rec: rec,
		stream: newStream(o.cfg.Streams), answers: make(chan sched.Effect, 1), answered: make(chan struct{}),
	}
	close(r.answered)
	r.stream.recovered = true
	o.follow(r)
	if _, ok := o.runs.add(r); !ok {
		return
	}
	o.resume(ctx, r)
	t := o.schedTask(r, 0)
	t.Attempt = rec.Attempt
	o.loop.post(sched.Recovered{Task: t})
}
