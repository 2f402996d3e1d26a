package orchestrator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

func randomKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

func hexSum(sum [32]byte) string { return hex.EncodeToString(sum[:]) }

// status is the word for a record on the wire.
func status(r store.Record) string {
	if r.State == store.Running && !r.Emitted {
		return "dispatched"
	}
	return string(r.State)
}

// statuses maps words of the wire to states.
func statuses(words []string) ([]store.State, bool) {
	var out []store.State
	for _, w := range words {
		if w == "dispatched" {
			w = string(store.Running)
		}
		s := store.State(w)
		if !slices.Contains(store.States(), s) || s == store.Deleted {
			return nil, false
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, true
}

// find returns a task that p may see: its own, or with metadata every one. A
// foreign task is as unknown as one that never was.
func (o *Orchestrator) find(ctx context.Context, p Principal, id TaskID, metadata bool) (store.Record, *run, error) {
	r := o.runs.get(id)
	var rec store.Record
	if r != nil {
		rec = r.record()
	}
	if r == nil || rec.State.Terminal() { // the store's word on ended tasks stands
		stored, err := o.store.Task(ctx, id)
		switch {
		case err == nil:
			rec = settled(stored)
		case r != nil: // an ephemeral task that is being written right now
		case errors.Is(err, store.ErrNotFound):
			return rec, nil, taskapi.NewError(taskapi.NotFound)
		default:
			return rec, nil, wireError(err)
		}
	}
	if metadata && p.Has(RoleOperator) {
		return rec, r, nil
	}
	ref, err := o.refs.ref(ctx, "subject", p.Subject())
	if err != nil {
		return rec, nil, wireError(err)
	}
	if !p.Has(RoleUser) || rec.Tenant != p.tenant() || rec.Subject != ref {
		return rec, nil, taskapi.NewError(taskapi.NotFound)
	}
	return rec, r, nil
}

// settled gives a task that was cancelled while it waited the code of its end;
// the store only knows the state.
func settled(rec store.Record) store.Record {
	if rec.State == store.Cancelled && rec.Outcome.Code == "" {
		rec.Outcome.Code = string(taskapi.Cancelled)
	}
	return rec
}

// Task returns one task of the caller; an operator sees every one.
func (o *Orchestrator) Task(ctx context.Context, p Principal, id TaskID) (Task, error) {
	rec, r, err := o.find(ctx, p, id, true)
	if err != nil {
		return Task{}, err
	}
	t := view(rec, r)
	if rec.State == store.Queued && r != nil && o.Ready() == nil {
		o.loop.ask(func(c *sched.Core) { t.Position, _ = c.Ahead(queue.ID(rec.ID)) })
	}
	return t, nil
}

// view is what the wire shows of a record, but for the position in the queue.
func view(rec store.Record, r *run) Task {
	t := Task{Record: rec, Status: status(rec), LastEvent: rec.Outcome.Events}
	t.NodeID, t.PoolID, t.WorkerID = splitWorker(rec.Worker)
	if r != nil {
		t.LastEvent = r.stream.last()
	}
	return t
}

// splitWorker takes node/pool/worker apart.
func splitWorker(s string) (node, pool, worker string) {
	if parts := strings.SplitN(s, "/", 3); len(parts) == 3 {
		return parts[0], parts[1], parts[2]
	}
	return "", "", ""
}

// Tasks yields tasks of the caller, newest first; an operator sees all. The
// first error ends it.
func (o *Orchestrator) Tasks(ctx context.Context, p Principal, f Filter) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		q, err := o.filter(ctx, p, f)
		var page []store.Record
		if err == nil {
			page, err = store.Page(ctx, o.store, q)
		}
		if err != nil {
			yield(Task{}, wireError(err))
			return
		}
		var all map[queue.ID]sched.Standing
		if o.Ready() == nil && slices.ContainsFunc(page, func(r store.Record) bool { return r.State == store.Queued }) {
			o.loop.ask(func(c *sched.Core) { all = c.Standings() })
		}
		for _, rec := range page {
			r := o.runs.get(rec.ID)
			rec = settled(rec)
			if r != nil && !rec.State.Terminal() {
				seq := rec.Seq
				rec = r.record()
				rec.Seq = seq
			}
			t := view(rec, r)
			t.Position = all[queue.ID(rec.ID)].Ahead
			if !yield(t, nil) {
				return
			}
		}
	}
}

func (o *Orchestrator) filter(ctx context.Context, p Principal, f Filter) (store.Filter, error) {
	q := store.Filter{Model: f.Model, Session: f.Session, Since: f.Since, Limit: f.Limit}
	states, ok := statuses(f.Status)
	if !ok {
		return q, taskapi.InvalidField("status", "unknown")
	}
	if f.Limit < 0 || f.Limit > 1000 {
		return q, taskapi.InvalidField("limit", "range")
	}
	q.States = states
	if f.Before != (TaskID{}) {
		rec, _, err := o.find(ctx, p, f.Before, true)
		if err != nil {
			return q, taskapi.InvalidField("before", "unknown task")
		}
		if rec.Seq == 0 { // live here: the store knows its place
			if rec, err = o.store.Task(ctx, f.Before); err != nil {
				return q, taskapi.InvalidField("before", "unknown task")
			}
		}
		q.Before = rec.Seq
	}
	if p.Has(RoleOperator) {
		return q, nil
	}
	ref, err := o.refs.ref(ctx, "subject", p.Subject())
	q.Tenant, q.Subject = p.tenant(), ref
	return q, err
}

// Events yields the events of a task after an id, then live ones, and ends
// after the terminal one; an error before it is retriable when the task goes on
// after a restart. Only the owner reads. Leaving the loop early counts
// as going away: see Streams.Grace.
func (o *Orchestrator) Events(ctx context.Context, p Principal, id TaskID, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		rec, r, err := o.find(ctx, p, id, false)
		if err != nil {
			yield(Event{}, err)
			return
		}
		if r == nil {
			o.replay(ctx, rec, after, yield)
			return
		}
		c, err := r.stream.subscribe(after)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer c.close()
		r.readerCame()
		for {
			e, err := c.read(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// replay yields the events of a task that ended before this process, or whose
// log was dropped: from its sealed output, else only the terminal one.
func (o *Orchestrator) replay(ctx context.Context, rec store.Record, after uint64, yield func(Event, error) bool) {
	if !rec.State.Terminal() { // accepted by another process, or being recovered
		yield(Event{}, taskapi.NewError(taskapi.StoreUnavailable).With("reason", "starting"))
		return
	}
	known := rec.Outcome.Events > 0 // else the log went with a process, or was never asked for
	if known && after > rec.Outcome.Events || after == math.MaxUint64 {
		yield(Event{}, taskapi.InvalidField("after", "beyond the last event"))
		return
	}
	events, err := o.output(ctx, rec)
	if err != nil {
		yield(Event{}, wireError(err))
		return
	}
	if len(events) == 0 {
		events = []Event{terminalEvent(rec)}
		if !known {
			events[0].ID = after + 1
		}
	}
	if events[0].ID > after+1 && len(events) > 1 {
		yield(Event{}, taskapi.NewError(taskapi.ResumeWindowLost))
		return
	}
	for _, e := range events {
		if e.ID > after && !yield(e, nil) {
			return
		}
	}
}

// output opens the stored events of an ended task; nil if there are none.
func (o *Orchestrator) output(ctx context.Context, rec store.Record) ([]Event, error) {
	box, err := o.store.Output(ctx, rec.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := o.seal.open(ctx, rec.ID, rec.Subject, "output", box)
	if errors.Is(err, errErased) {
		return nil, taskapi.NewError(taskapi.SubjectErased)
	}
	if err != nil {
		return nil, err
	}
	var kept []sealedEvent
	if err := json.Unmarshal(plain, &kept); err != nil {
		return nil, err
	}
	out := make([]Event, len(kept))
	for i, e := range kept {
		out[i] = Event{e.ID, e.Type, e.Data}
	}
	return out, nil
}

// terminalEvent makes the last event from the record alone.
func terminalEvent(rec store.Record) Event {
	now := rec.Finished
	e := Event{ID: rec.Outcome.Events, Type: EventEnd}
	if rec.Outcome.Code == "" {
		e.Data, _ = json.Marshal(taskapi.End{
			TokensOut: rec.Outcome.TokensOut, TokensIn: rec.Outcome.TokensIn, DecodeTimeMS: rec.Outcome.DecodeMS, FinishReason: rec.Outcome.FinishReason,
			Usage: taskapi.UsageReported, CorrelationID: rec.Meta.Correlation, OrchestratorTS: now.UnixMilli(),
		})
		return e
	}
	err := taskapi.NewError(taskapi.Code(rec.Outcome.Code))
	_ = json.Unmarshal(rec.Outcome.Details, &err.Details)
	e.Type = EventError
	e.Data, _ = json.Marshal(err.Event(rec.Meta.Correlation, now))
	return e
}

// readerCame stops the clock of the rule for readers that leave.
func (r *run) readerCame() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle != nil {
		r.idle.Stop()
		r.idle = nil
	}
}

// readersLeft cancels a task that nobody reads any more: an ephemeral one at
// once, others after Streams.Grace, those that asked to be kept never (ORC-505).
func (o *Orchestrator) readersLeft(r *run) {
	if r.spec.Keep {
		return
	}
	gone := func() {
		if r.stream.unread() {
			o.loop.post(sched.Cancel{ID: queue.ID(r.id), Reason: sched.Disconnect})
		}
	}
	if r.ephemeral || o.cfg.Streams.Grace < 0 {
		gone()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle != nil {
		r.idle.Stop()
	}
	r.idle = time.AfterFunc(o.cfg.Streams.Grace, gone)
}

// Cancel ends a task of the caller. After a nil error no reader sees another
// token, and no restart brings the task back. An ended task is left as it is.
func (o *Orchestrator) Cancel(ctx context.Context, p Principal, id TaskID) error {
	rec, r, err := o.find(ctx, p, id, true)
	if err != nil {
		return err
	}
	if rec.State.Terminal() {
		return nil
	}
	if r == nil || !o.loop.apply(sched.Cancel{ID: queue.ID(id), Reason: sched.Client}) {
		return taskapi.NewError(taskapi.ShuttingDown)
	}
	if r.ephemeral {
		return nil
	}
	began := time.Now()
	states, err := o.store.Cancel(context.WithoutCancel(ctx), o.term(), []store.CancelReq{{ID: id, Reason: string(sched.Client)}})
	o.storeOp("cancel", err, began)
	if err == nil {
		err = states[0].Err
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return wireError(err)
	}
	return nil
}

// Explain says why a task went where it went; for one that waits, why it waits.
func (o *Orchestrator) Explain(ctx context.Context, p Principal, id TaskID) (placement.Explanation, error) {
	rec, r, err := o.find(ctx, p, id, true)
	if err != nil {
		return placement.Explanation{}, err
	}
	if r != nil && rec.State == store.Queued {
		var e placement.Explanation
		var held bool
		o.loop.ask(func(c *sched.Core) { e, held = c.Why(queue.ID(id)) })
		if held {
			return e, nil
		}
	}
	if e, ok := o.runs.explained(id); ok {
		return e, nil
	}
	if e, ok, err := o.cfg.Decisions.Explanation(ctx, queue.ID(id)); err == nil && ok { // ORC-310: older ones are in the log
		return e, nil
	}
	return placement.Explanation{}, taskapi.NewError(taskapi.NotFound).With("reason", "the decision is no longer kept")
}
