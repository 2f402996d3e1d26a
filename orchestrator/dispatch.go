package orchestrator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/exec"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// runAttempt carries one attempt from the store to the worker and back. It
// returns however it ends, also by a panic of an adapter.
func (o *Orchestrator) runAttempt(ctx context.Context, r *run, f sched.Assign) (res sched.Result) {
	defer func() {
		if v := recover(); v != nil {
			o.log.ErrorContext(ctx, "An attempt panicked.", slog.String("event", "internal"), slog.String("job_id", r.id.String()))
			res = sched.Result{Class: exec.Protocol}
		}
		res.Emitted = r.hasEmitted(f.Attempt)
	}()
	b, res := o.begin(ctx, r, f)
	if b == nil {
		return res
	}
	target, err := o.target(ctx, f.Worker)
	if err != nil {
		o.log.WarnContext(ctx, "The address of a worker could not be asked for.", slog.String("event", "worker_access"),
			slog.String("worker_id", f.Worker.Key.String()), slog.Any("err", err))
		return sched.Result{Class: exec.Connect}
	}
	if ctx.Err() != nil { // cancelled or late while it was prepared: nothing is sent (ORC-409)
		return sched.Result{Class: exec.Reset}
	}
	sent := time.Now()
	o.observe.Observe(observe.Started{Task: r.id.String(), Worker: whereIs(f.Worker), Class: r.spec.Class.String(), Attempt: f.Attempt})
	s, err := o.workers.Start(ctx, target, o.job(r, f.Attempt, b))
	if err != nil {
		return o.failed(ctx, r, f.Worker, err)
	}
	defer s.Close()
	return r.measured(o.relay(ctx, r, f, s), sent)
}

// progressEvery is how often a running attempt tells the core that its worker lives.
const progressEvery = 5 * time.Second

// measured adds to the result of an attempt what it has shown of its worker.
func (r *run) measured(res sched.Result, sent time.Time) sched.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res.TokensIn, res.TokensOut = r.usage.In, r.usage.Out
	if r.first.After(sent) {
		res.First, res.Decode = r.first.Sub(sent), time.Since(r.first)
	}
	return res
}

func (r *run) hasEmitted(attempt int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.emitted && r.attempt == attempt
}

// begin makes the attempt durable and opens the body. A nil body means that the
// attempt ends here with the result.
func (o *Orchestrator) begin(ctx context.Context, r *run, f sched.Assign) (*body, sched.Result) {
	if err := o.residencyHolds(r, f.Worker); err != nil {
		return nil, sched.Result{Class: o.residencyClass(r)}
	}
	if err := o.charge(context.WithoutCancel(ctx), r); err != nil {
		return nil, sched.Result{Class: exec.Store}
	}
	if r.ephemeral {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.body, sched.Result{Class: exec.Protocol}
	}
	began := time.Now()
	// Never cancelled halfway: the outcome would be unknown.
	started, err := o.store.Start(context.WithoutCancel(ctx), o.term(), []store.StartReq{{ID: r.id, Attempt: f.Attempt, Worker: f.Worker.Key.String()}})
	o.storeOp("start", err, began)
	if err == nil {
		err = started[0].Err
	}
	if err != nil {
		return nil, sched.Result{Class: exec.Store}
	}
	r.mu.Lock()
	r.began1, r.key = f.Attempt, head(started[0].Body)
	subject := r.rec.Subject
	r.mu.Unlock()
	plain, err := o.seal.open(ctx, r.id, subject, "body", started[0].Body)
	if errors.Is(err, errErased) {
		return nil, sched.Result{Class: exec.Erased}
	}
	b := new(body)
	if err == nil {
		err = json.Unmarshal(plain, b)
	}
	if err != nil {
		o.log.ErrorContext(ctx, "The body of a task could not be opened.", slog.String("event", "internal"), slog.String("job_id", r.id.String()), slog.Any("err", err))
		return nil, sched.Result{Class: exec.Denied}
	}
	return b, sched.Result{}
}

// job is what the worker gets.
func (o *Orchestrator) job(r *run, attempt int, b *body) *worker.Job {
	return &worker.Job{
		ID: r.id.String() + "-" + strconv.Itoa(attempt), Kind: b.Kind, Model: r.spec.Model, Prompt: b.Prompt, Messages: b.Messages, Inputs: b.Inputs, Params: b.Params,
		Raw: b.Raw, Stream: r.spec.Stream, WantUsage: r.spec.WantUsage, MaxTokens: r.spec.MaxTokens * max(1, r.spec.Choices), Correlation: r.spec.Correlation,
		Traceparent: r.spec.Traceparent, Deadline: r.spec.Deadline, FirstToken: o.cfg.Timing.FirstToken, Idle: o.cfg.Timing.Idle,
		PromptLen: r.record().Meta.PromptTokens,
	}
}

// target finds how to reach a worker.
func (o *Orchestrator) target(ctx context.Context, w *placement.Worker) (worker.Target, error) {
	t := worker.Target{URL: w.URL, Slots: w.SlotsTotal, Flavour: flavour(w.Engine), Model: w.ServedAs, ChatOnly: chatOnly(w.Workloads)}
	access, err := o.access.of(ctx, w)
	if err != nil {
		return t, err
	}
	if access.URL != "" {
		t.URL = access.URL
	}
	t.Token = access.Token
	return t, nil
}

// chatOnly reports whether a worker says that it chats and completes no prompts.
func chatOnly(workloads []string) bool {
	return slices.Contains(workloads, string(worker.Chat)) && !slices.Contains(workloads, string(worker.Completion))
}

func flavour(engine string) worker.Flavour {
	switch f := worker.Flavour(engine); f {
	case worker.LlamaCPP, worker.VLLM, worker.Ollama:
		return f
	}
	return worker.Generic
}

// relay moves events from the worker into the log.
func (o *Orchestrator) relay(ctx context.Context, r *run, f sched.Assign, s worker.Stream) sched.Result {
	index, tokens := 0, 0
	defer func() { r.counted(tokens) }()
	pools, listens := o.cfg.Pools.(listener)
	var heard, told time.Time
	for {
		e, err := s.Next()
		if err == io.EOF { // not one inside a failure: a broken connection is no end
			return sched.Result{}
		}
		if err != nil {
			return o.failed(ctx, r, f.Worker, err)
		}
		now := time.Now()
		if listens && now.Sub(heard) >= heardEvery {
			heard = now
			pools.Heard(f.Worker.Node)
		}
		if now.Sub(told) >= progressEvery {
			told = now
			o.loop.offer(sched.Progress{ID: f.ID, Tokens: tokens})
		}
		if ok, res := o.first(ctx, r, f); !ok {
			return res
		}
		if e.Kind == worker.Done {
			r.mu.Lock()
			r.usage, r.finish, r.cut = e.Usage, e.FinishReason, e.Truncated
			r.mu.Unlock()
			continue
		}
		if e.Kind == worker.Token {
			tokens++
		}
		typ, data := EventFrame, asAsked(e.Raw, f.Worker.ServedAs, r.spec.Model)
		switch {
		case e.Kind == worker.Result:
			typ = EventResult
		case e.Kind == worker.Token && e.Raw == nil:
			typ = EventToken
			if data, err = json.Marshal(taskapi.Token{T: e.Text, I: index}); err != nil {
				return sched.Result{Class: exec.Protocol}
			}
			index++
		}
		if _, err := r.stream.append(ctx, typ, data); err != nil {
			return sched.Result{Class: exec.Reset}
		}
	}
}

// counted notes how many tokens came of an answer whose usage the engine did not
// get to tell.
func (r *run) counted(tokens int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.usage == (worker.Usage{}) {
		r.usage = worker.Usage{Out: tokens, Estimated: tokens > 0}
	}
}

// asAsked puts the name that the client used in place of the name under which
// this one worker serves the model. Inside a JSON string the quotes would be
// escaped, so the pattern only matches a member.
func asAsked(frame []byte, servedAs, model string) []byte {
	if servedAs == "" || frame == nil {
		return frame
	}
	name, err := json.Marshal(model)
	if err != nil {
		return frame
	}
	for _, sep := range []string{`"model":`, `"model": `} {
		member := []byte(sep + `"` + servedAs + `"`)
		if bytes.Contains(frame, member) {
			return bytes.Replace(frame, member, append([]byte(sep), name...), 1)
		}
	}
	return frame
}

// first does what comes before the first token: the mark in the store, after
// which the task never runs again (ORC-404), and the event started.
func (o *Orchestrator) first(ctx context.Context, r *run, f sched.Assign) (bool, sched.Result) {
	r.mu.Lock()
	done := r.emitted
	r.mu.Unlock()
	if done {
		return true, sched.Result{}
	}
	if !r.ephemeral {
		if err := o.mark(context.WithoutCancel(ctx), store.MarkReq{ID: r.id, Attempt: f.Attempt}); err != nil {
			return false, sched.Result{Class: exec.Store}
		}
	}
	now := time.Now()
	r.mu.Lock()
	if r.attempt != f.Attempt {
		r.mu.Unlock()
		return false, sched.Result{Class: exec.Reset}
	}
	r.emitted, r.first, r.rec.Emitted = true, now, true
	started := taskapi.Started{
		JobID: r.id.String(), QueueWaitMS: r.started.Sub(r.began).Milliseconds(), Attempt: f.Attempt, Model: r.spec.Model, Engine: f.Worker.Engine,
		NodeID: f.Worker.Node, NodeRegion: cmp.Or(f.Worker.Country, f.Worker.Group), Seed: r.spec.Params.Seed, CorrelationID: r.spec.Correlation, OrchestratorTS: now.UnixMilli(),
	}
	r.mu.Unlock()
	o.publish(r, EventStarted, started)
	o.observe.Observe(observe.FirstToken{Task: r.id.String(), Worker: whereIs(f.Worker), Class: r.spec.Class.String(), After: now.Sub(r.began)})
	return true, sched.Result{}
}

// mark stores the mark. An unknown outcome is asked for again: a task that is
// marked without our knowing could neither go on nor run again.
func (o *Orchestrator) mark(ctx context.Context, m store.MarkReq) error {
	var errs []error
	var err error
	for range persistTries {
		began := time.Now()
		errs, err = o.store.Mark(ctx, o.term(), []store.MarkReq{m})
		o.storeOp("mark", err, began)
		if !errors.Is(err, store.ErrUnknown) {
			break
		}
	}
	if err != nil {
		return err
	}
	return errs[0]
}

// failed turns an adapter's error into the result of the attempt.
func (o *Orchestrator) failed(ctx context.Context, r *run, w *placement.Worker, err error) sched.Result {
	if stopReason(ctx) != "" {
		return sched.Result{Class: exec.Reset}
	}
	f, ok := errors.AsType[*worker.Failure](err)
	if !ok {
		return sched.Result{Class: exec.Reset}
	}
	if f.Class == worker.Denied {
		o.access.forget(w) // its token may have changed
	}
	r.mu.Lock()
	if f.Class == worker.Rejected {
		r.detail = map[string]any{"reason_class": "rejected_by_engine", "engine_status": f.Status}
	}
	r.mu.Unlock()
	o.log.InfoContext(ctx, "An attempt failed.", slog.String("event", "attempt_failed"), slog.String("job_id", r.id.String()),
		slog.String("worker_id", w.Key.String()), slog.String("class", string(f.Class)), slog.Int("status", f.Status), slog.String("reason", f.Reason))
	if errors.Is(f, worker.ErrUnsupported) {
		return sched.Result{Class: exec.Unsupported}
	}
	return sched.Result{Class: exec.Class(f.Class), RetryAfter: f.RetryAfter}
}
