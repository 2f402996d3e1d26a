package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/backoff"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// end makes the outcome durable, then publishes the terminal event (ORC-404).
// Nothing was promised for an ephemeral task, so its reader goes first.
func (o *Orchestrator) end(r *run, f sched.Terminal) {
	e := o.ending(r, f)
	switch {
	case r.ephemeral:
		o.finish(r, e)
		o.keepEphemeral(r, e)
	case o.complete(r, e):
		o.finish(r, e)
	default:
		r.stream.abandon() // another process has the task now
		o.runs.drop(r.id)
		return
	}
	o.runs.retire(r, o.cfg.Streams) // only now: until the store has it, the task is known from here
}

// ending is an end with everything that is told of it.
type ending struct {
	completion store.Completion
	event      string
	data       []byte
	seen       observe.Finished
}

// ending puts the end of a task together.
func (o *Orchestrator) ending(r *run, f sched.Terminal) ending {
	now := time.Now()
	why, _ := o.runs.explained(r.id)
	r.mu.Lock()
	defer r.mu.Unlock()
	out := store.Outcome{
		Code: f.Code, FinishReason: r.finish, TokensIn: r.usage.In, TokensOut: r.usage.Out, Estimated: r.usage.Estimated,
		QueueMS: r.queued(now).Milliseconds(), DecodeMS: r.decoded(now).Milliseconds(),
	}
	e := ending{event: EventError}
	state := store.Failed
	switch f.Code {
	case "":
		state, e.event = store.Completed, EventEnd
		e.data = r.endPayload(out, now)
	case string(taskapi.Cancelled):
		state = store.Cancelled
	}
	if f.Code != "" {
		failure := r.failure(f)
		out.Details = encodeDetails(failure.Details)
		payload := failure.Event(r.spec.Correlation, now)
		payload.Engine = whereIs(r.worker).Engine
		e.data, _ = json.Marshal(payload)
	}
	out.Events = r.stream.last() + 1
	e.completion = store.Completion{ID: r.id, Attempt: r.began1, State: state, Outcome: out}
	e.seen = observe.Finished{
		Task: r.id.String(), Correlation: r.spec.Correlation, Owner: r.owner, Class: r.spec.Class.String(), Model: r.spec.Model,
		Session: r.spec.Session, Trace: traceID(r.spec.Traceparent), Decision: why.DecisionID, Worker: whereIs(r.worker), Code: f.Code, Reason: string(f.Reason), Failure: string(f.Class), Attempts: f.Attempt,
		TokensIn: out.TokensIn, TokensOut: out.TokensOut, Estimated: out.Estimated, Deadline: !r.spec.Deadline.IsZero(),
		Queued: r.queued(now), FirstToken: r.toFirst(), Decode: r.decoded(now), Total: now.Sub(r.began), Stop: r.stopping(now),
	}
	return e
}

// traceID returns the id within a W3C traceparent, "" without one.
func traceID(parent string) string {
	if len(parent) != 55 {
		return ""
	}
	return parent[3:35]
}

// failure is the error that a reader sees.
func (r *run) failure(f sched.Terminal) *taskapi.Error {
	err := taskapi.NewError(taskapi.Code(f.Code))
	for k, v := range r.detail {
		err = err.With(k, v)
	}
	if f.Reason != "" {
		err = err.With("reason", string(f.Reason))
	}
	if f.Attempt > 0 {
		err = err.With("attempts", f.Attempt)
	}
	return err
}

func (r *run) endPayload(out store.Outcome, now time.Time) []byte {
	p := taskapi.End{
		TokensOut: out.TokensOut, TokensIn: out.TokensIn, DecodeTimeMS: out.DecodeMS, FinishReason: out.FinishReason,
		Usage: taskapi.UsageReported, CorrelationID: r.spec.Correlation, OrchestratorTS: now.UnixMilli(),
	}
	if out.Estimated {
		p.Usage, p.Warnings = taskapi.UsageEstimated, []string{taskapi.WarningUsageEstimated}
	}
	if r.cut {
		p.Warnings = append(p.Warnings, taskapi.WarningTruncatedByEngine)
	}
	data, _ := json.Marshal(p)
	return data
}

func encodeDetails(d map[string]any) json.RawMessage {
	if len(d) == 0 {
		return nil
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil
	}
	return text
}

func (r *run) queued(now time.Time) time.Duration {
	if r.started.IsZero() {
		return now.Sub(r.began)
	}
	return r.started.Sub(r.began)
}

func (r *run) toFirst() time.Duration {
	if r.first.IsZero() {
		return 0
	}
	return r.first.Sub(r.began)
}

// stopping is how long the attempt took to end when it was asked to; 0 if nobody asked.
func (r *run) stopping(now time.Time) time.Duration {
	if r.stopped.IsZero() {
		return 0
	}
	return now.Sub(r.stopped)
}

func (r *run) decoded(now time.Time) time.Duration {
	if r.first.IsZero() {
		return 0
	}
	return now.Sub(r.first)
}

// finish publishes the terminal event and tells the observer.
func (o *Orchestrator) finish(r *run, e ending) {
	r.mu.Lock()
	r.rec.State, r.rec.Outcome, r.rec.Finished, r.body = e.completion.State, e.completion.Outcome, time.Now(), nil
	if r.idle != nil {
		r.idle.Stop()
	}
	r.mu.Unlock()
	if _, err := r.stream.append(context.Background(), e.event, e.data); err != nil {
		o.log.Error("A terminal event could not be kept.", slog.String("event", "internal"), slog.String("job_id", r.id.String()))
	}
	<-r.answered // its admission has been observed
	o.settle(r, e)
	o.observe.Observe(e.seen)
}

// endTries bounds how long the store is asked to take an end: about a minute,
// then the record stays live and the next start ends it.
const endTries = 40

// complete stores the end; false if it is not ours to tell.
func (o *Orchestrator) complete(r *run, e ending) bool {
	ctx := context.Background()
	r.mu.Lock()
	e.completion.Attempt = r.began1
	r.mu.Unlock()
	e.completion.Output = o.sealOutput(ctx, r, e)
	for n := 1; n <= endTries; n++ {
		err := o.storeEnd(ctx, e.completion, e.seen.Reason)
		switch {
		case err == nil:
			return true
		case errors.Is(err, store.ErrTransition) && o.reached(ctx, &e.completion):
			continue
		case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrTransition), errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrClosed):
			o.log.ErrorContext(ctx, "The end of a task was not stored: it belongs to another term or attempt.",
				slog.String("event", "fenced"), slog.String("job_id", r.id.String()), slog.Any("err", err))
			return false
		}
		o.log.WarnContext(ctx, "The store did not take the end of a task; trying again.",
			slog.String("event", "store_degraded"), slog.String("job_id", r.id.String()), slog.Any("err", err))
		time.Sleep(backoff.Request(n, uint64(n)))
	}
	return false
}

// reached corrects the attempt of a completion to the one that the store has
// reached, when that is another: a Start whose outcome was unknown may have
// been written. It reports whether there was anything to correct.
func (o *Orchestrator) reached(ctx context.Context, c *store.Completion) bool {
	rec, err := o.store.Task(ctx, c.ID)
	if err != nil || rec.State.Terminal() || rec.Attempt == c.Attempt {
		return false
	}
	c.Attempt = rec.Attempt
	return true
}

// storeEnd stores a completion, going through cancelling where the table of
// moves wants it.
func (o *Orchestrator) storeEnd(ctx context.Context, c store.Completion, reason string) error {
	if c.State == store.Cancelled {
		began := time.Now()
		states, err := o.store.Cancel(ctx, o.term(), []store.CancelReq{{ID: c.ID, Reason: reason}})
		o.storeOp("cancel", err, began)
		if err != nil {
			return err
		}
		if states[0].Err != nil {
			return states[0].Err
		}
		if states[0].State == store.Cancelled && c.Attempt == 0 {
			return nil // it waited, and has ended with this
		}
	}
	began := time.Now()
	errs, err := o.store.Complete(ctx, o.term(), []store.Completion{c})
	o.storeOp("complete", err, began)
	if err != nil {
		return err
	}
	return errs[0]
}

func (o *Orchestrator) storeOp(op string, err error, began time.Time) {
	if errors.Is(err, store.ErrFenced) {
		o.observe.Observe(observe.Fenced{Op: op})
	}
	o.observe.Observe(observe.StoreOp{Op: op, Err: err != nil, Took: time.Since(began)})
}

// sealedEvent is the form of an event in a stored output.
type sealedEvent struct {
	ID   uint64          `json:"id"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// maxOutput cuts a stored output; the event log has the same bound.
const maxOutput = 8 << 20

// sealOutput seals the event log, so that readers can come back after a restart
// (ORC-508). Without a first token there is nothing to keep.
func (o *Orchestrator) sealOutput(ctx context.Context, r *run, e ending) []byte {
	r.mu.Lock()
	emitted, like := r.emitted, r.key
	r.mu.Unlock()
	if !emitted || like == nil {
		return nil
	}
	events, _ := r.stream.snapshot()
	kept, size := make([]sealedEvent, 0, len(events)+1), 0
	for _, x := range events {
		if size += len(x.Data) + eventOverhead; size > maxOutput {
			break
		}
		kept = append(kept, sealedEvent{x.ID, x.Type, x.Data})
	}
	kept = append(kept, sealedEvent{e.completion.Outcome.Events, e.event, e.data})
	plain, err := json.Marshal(kept)
	if err == nil {
		var box []byte
		if box, err = o.seal.reseal(ctx, like, r.id, r.record().Subject, "output", plain); err == nil {
			return box
		}
	}
	o.log.WarnContext(ctx, "The output of a task could not be sealed and is not kept.",
		slog.String("event", "output_lost"), slog.String("job_id", r.id.String()), slog.Any("err", err))
	return nil
}

// keepEphemeral writes the history of a task that was never promised.
func (o *Orchestrator) keepEphemeral(r *run, e ending) {
	rec := r.record()
	e.completion.Attempt = rec.Attempt
	began := time.Now()
	res, err := o.store.Submit(context.Background(), o.term(), []store.NewTask{{Record: rec, Final: &e.completion}})
	o.storeOp("submit", err, began)
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		o.log.Warn("The history of a task could not be stored.", slog.String("event", "store_degraded"), slog.String("job_id", r.id.String()), slog.Any("err", err))
	}
}
