package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
)

// Limits beside those of taskapi (ORC-241).
const (
	maxRaw      = 8 << 20 // bytes of a body that goes on as it came
	defTokens   = 2048    // answer tokens when the request names none
	maxModel    = 512     // bytes of a model's name
	bytesPerTok = 36      // tenths: 3.6 bytes of text per token
)

// Submit admits a task, or refuses it with a *taskapi.Error. With a durable
// store the task is stored before Submit returns nil, unless it is ephemeral.
// The end of ctx does not withdraw a task that is being stored.
func (o *Orchestrator) Submit(ctx context.Context, p Principal, s Spec) (Accepted, error) {
	began := time.Now()
	acc, err := o.admit(ctx, &admission{p: p, s: &s, now: began, run: new(run)})
	if err != nil {
		err = wireError(err)
		e, _ := errors.AsType[*taskapi.Error](err)
		o.observe.Observe(observe.Rejected{
			Correlation: s.Correlation, Owner: owner(p), Class: s.Class.String(), Model: s.Model, Code: string(e.Code), Took: time.Since(began),
		})
		return Accepted{}, err
	}
	return acc, nil
}

// admitted tells the observer of r, before its end can be told.
func (o *Orchestrator) admitted(r *run) {
	o.observe.Observe(observe.Admitted{
		Task: r.id.String(), Correlation: r.spec.Correlation, Owner: r.owner, Class: r.spec.Class.String(), Model: r.spec.Model,
		PromptLen: r.rec.Meta.PromptLen, PromptSHA256: r.promptSum, MaxTokens: r.spec.MaxTokens, Ephemeral: r.ephemeral, Took: time.Since(r.began),
	})
}

func owner(p Principal) observe.Owner {
	return observe.Owner{Tenant: p.tenant(), Subject: p.Subject(), Fingerprint: p.Fingerprint, Addr: p.Addr}
}

// wireError makes every refusal a *taskapi.Error.
func wireError(err error) error {
	if _, ok := errors.AsType[*taskapi.Error](err); ok {
		return err
	}
	code := taskapi.Internal
	switch {
	case errors.Is(err, context.DeadlineExceeded): // the caller's own time ran out
		code = taskapi.DeadlineUnmet
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrUnknown), errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled):
		code = taskapi.StoreUnavailable
	}
	e := taskapi.NewError(code)
	e.Err = err
	return e
}

// admit makes the checks in their order.
func (o *Orchestrator) admit(ctx context.Context, a *admission) (acc Accepted, err error) {
	defer func() {
		if err != nil || a.acc.Duplicate {
			o.giveBack(a.run, 0, 0, false)
		}
	}()
	all := steps()
	for _, c := range all[:stepPlace-1] {
		if err := c.do(o, ctx, a); err != nil || a.acc.Duplicate {
			return a.acc, err
		}
	}
	return o.accept(ctx, a, all[stepPlace-1:])
}

// newRun is the run of a well-formed request, without its text.
func (o *Orchestrator) newRun(a *admission, ref store.SubjectRef, hash [32]byte) *run {
	s, now := a.s, a.now
	r := &run{
		id: s.ID, owner: owner(a.p), subject: a.p.Subject(), ephemeral: s.Ephemeral, spec: *s, named: a.named, began: now,
		stream: newStream(o.cfg.Streams), answers: make(chan sched.Effect, 4), answered: make(chan struct{}), use: a.run.use,
	}
	prompt := s.promptBytes()
	r.promptSum = sha256.Sum256(prompt)
	r.rec = store.Record{
		ID: s.ID, Tenant: a.p.tenant(), Subject: ref, Class: s.Class.String(), Model: s.Model, Session: s.Session, IdemKey: s.Key,
		BodyHash: hash, State: store.Queued, Created: now, Deadline: s.Deadline, Meta: s.meta(r.promptSum),
	}
	r.body = &body{Kind: s.Kind, Prompt: s.Prompt, Messages: s.Messages, Inputs: s.Inputs, Params: s.Params, Raw: s.Raw}
	r.spec.Ctx, r.use.prompt = s.needCtx(), s.promptTokens() // estimates of the text, which goes its own way from here
	r.spec.Prompt, r.spec.Messages, r.spec.Inputs, r.spec.Raw = "", nil, nil, nil
	o.follow(r)
	return r
}

// follow connects the event log with the observer and the rule for readers that leave.
func (o *Orchestrator) follow(r *run) {
	r.stream.onReaders = func(delta int) {
		o.runs.readers(r, delta)
		o.observe.Observe(observe.Streams{Delta: delta})
	}
	r.stream.onEmpty = func() { o.readersLeft(r) }
	r.stream.onStuck = func() { o.loop.post(sched.Cancel{ID: queue.ID(r.id), Reason: sched.Disconnect}) }
}

// check refuses what no worker should ever see; it never echoes a value.
func (s *Spec) check() error {
	if s.Kind == "" {
		s.Kind = worker.Completion
		if len(s.Messages) > 0 {
			s.Kind = worker.Chat
		}
	}
	if s.MaxTokens == 0 && s.Raw == nil && !s.single() { // a body that goes on as it came is not bounded by a member it lacks
		s.MaxTokens = defTokens
	}
	for _, c := range []struct {
		bad           bool
		field, reason string
	}{
		{s.Kind != worker.Completion && s.Kind != worker.Chat && !s.single(), "kind", "unknown"},
		{s.single() && s.Raw == nil && len(s.Inputs) == 0, "inputs", "required"},
		{!s.single() && len(s.Inputs) > 0, "inputs", "not for this kind of work"},
		{len(s.Inputs) > taskapi.MaxInputs, "inputs", "too many"},
		{slices.ContainsFunc(s.Inputs, func(text string) bool { return !allowed(text) }), "inputs", "not UTF-8, holds NUL or too long"},
		{len(s.promptBytes()) > maxRaw, "inputs", "too long"},
		{s.Model == "", "model", "required"},
		{len(s.Model) > maxModel, "model", "too long"},
		{!printable(s.Model), "model", "control or invalid characters"},
		{s.Class > queue.Batch, "class", "unknown"},
		{s.Raw == nil && s.Prompt == "" && len(s.Messages) == 0 && s.Kind != worker.Embedding, "prompt", "required"},
		{len(s.Prompt) > taskapi.MaxPrompt || len(s.Messages) > maxRaw, "prompt", "too long"},
		{!allowed(s.Prompt), "prompt", "not UTF-8 or holds NUL"},
		{len(s.Messages) > 0 && inputvalidation.CheckJSON("messages", s.Messages, maxRaw) != nil, "messages", "not JSON that every reader understands alike"},
		{len(s.Raw) > maxRaw, "body", "too long"},
		{s.MaxTokens < 0 || s.MaxTokens > taskapi.MaxTokens, "max_tokens", "range"},
		{s.Choices < 0 || s.Choices > 128, "n", "range"},
		{s.Expected < 0 || s.Expected > taskapi.MaxTokens, "expected_tokens", "range"},
		{s.Ctx < 0 || s.Ctx > taskapi.MaxContext, "ctx", "range"},
		{len(s.Key) > taskapi.MaxKey || !ascii(s.Key), "idempotency_key", "too long or not printable ASCII"},
		{len(s.Place.Avoid) > taskapi.MaxAvoid, "placement.avoid", "too many"},
		{len(s.Place.Prefer) > taskapi.MaxAvoid, "placement.prefer", "too many"},
		{len(s.Params.Stop) > taskapi.MaxStops || slices.ContainsFunc(s.Params.Stop, func(w string) bool { return len(w) > taskapi.MaxStopBytes }), "stop", "too many or too long"},
		{len(s.Purposes) > taskapi.MaxPurposes, "purposes", "too many"},
		{len(s.Regions) > taskapi.MaxRegions, "regions", "too many"},
		{s.Session != "" && checkSession(s.Session, 0) != nil, "session_id", "syntax"},
		{s.Ephemeral && s.Key != "", "idempotency_key", "not for calls without a task"},
	} {
		if c.bad {
			return taskapi.InvalidField(c.field, c.reason)
		}
	}
	return nil
}

// single reports whether the answer is one document and no tokens.
func (s *Spec) single() bool { return s.Kind == worker.Embedding || s.Kind == worker.Rerank }

// allowed reports whether the text of a prompt may go to a model.
func allowed(prompt string) bool {
	_, err := inputvalidation.ParsePrompt("prompt", prompt, taskapi.MaxPrompt, taskapi.MaxPrompt)
	return prompt == "" || err == nil
}

// ascii reports whether s is printable ASCII.
func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func printable(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// promptBytes is the text that counts as the prompt.
func (s *Spec) promptBytes() []byte {
	switch {
	case s.Raw != nil:
		return s.Raw
	case len(s.Messages) > 0:
		return s.Messages
	case s.single():
		text, _ := json.Marshal(append([]string{s.Prompt}, s.Inputs...))
		return text
	}
	return []byte(s.Prompt)
}

// promptTokens estimates the tokens of the prompt.
func (s *Spec) promptTokens() int {
	n := len(s.promptBytes())
	if s.Raw != nil {
		n = s.PromptBytes
	}
	return n*10/bytesPerTok + 1
}

// needCtx is the context that a worker must have.
func (s *Spec) needCtx() int {
	if s.Ctx > 0 {
		return s.Ctx
	}
	return s.promptTokens()
}

// workload is what a worker must be able to do; a prompt without a
// body of its own also goes to one that only chats.
func (s *Spec) workload() string {
	if s.Kind == worker.Completion && !s.Ephemeral {
		return ""
	}
	return string(s.Kind)
}

// meta is what is stored of a Spec in clear: no text, only numbers and names.
func (s *Spec) meta(sum [32]byte) store.Meta {
	place, _ := json.Marshal(s.Place)
	return store.Meta{
		V: 1, Kind: string(s.Kind), Engine: s.Engine, Correlation: s.Correlation, Place: place, MaxTokens: s.MaxTokens, Expected: s.Expected,
		PromptTokens: s.needCtx(), PromptLen: len(s.promptBytes()), PromptSHA256: hexSum(sum), Keep: s.Keep,
		Regions: regionNames(s.Regions), Purposes: s.Purposes,
	}
}

// hash is equal for equal requests: everything but ids, times and trace.
func (s *Spec) hash() [32]byte {
	text, _ := json.Marshal([]any{
		s.Kind, s.Model, s.Engine, s.Prompt, s.Messages, s.Raw, s.Params, s.Class, s.Session, s.MaxTokens, s.Expected, s.Ctx, s.Place, s.Keep, s.Inputs,
	})
	return sha256.Sum256(text)
}

// accept takes the place, makes the task durable and lets it run.
func (o *Orchestrator) accept(ctx context.Context, a *admission, left []step) (Accepted, error) {
	r := a.run
	leave, err := o.people.enter(r.rec.Subject) // sealing makes a key: an erasure waits for it
	if err != nil {
		return Accepted{}, err
	}
	defer leave()
	r.rec.Meta.Digest = r.digest
	a.size = r.body.size()
	if !r.ephemeral {
		plain, err := json.Marshal(r.body)
		if err != nil {
			return Accepted{}, taskapi.InvalidField("messages", "not JSON")
		}
		if a.box, err = o.seal.seal(ctx, r.subject, r.id, r.rec.Subject, "body", plain); err != nil {
			return Accepted{}, err
		}
		r.body, r.key, a.size = nil, head(a.box), len(a.box)
	}
	if other, ok := o.runs.add(r); !ok {
		<-other.answered // nothing is promised before the first request has its answer
		if o.runs.get(other.id) != other {
			return Accepted{}, taskapi.NewError(taskapi.StoreUnavailable)
		}
		a.acc, err = duplicate(other.record(), r.rec)
		return a.acc, err
	}
	defer close(r.answered)
	err = o.permitted(ctx, r) // again, now that an erasure or revocation would find r
	for _, c := range left {
		if err == nil {
			err = c.do(o, ctx, a)
		}
	}
	if err != nil || a.acc.Duplicate {
		r.stream.abandon() // a client that chose the id may be reading already
		o.runs.drop(r.id)
	} else {
		o.admitted(r)
	}
	return a.acc, err
}

// schedTask is what the core knows of a task; 0 bytes after a restart. Its cost
// the core finds itself, by what it has learned of the model's answers.
func (o *Orchestrator) schedTask(r *run, size int) sched.Task {
	total := o.cfg.Timing.Interactive
	if r.spec.Class == queue.Batch {
		total = o.cfg.Timing.Batch
	}
	t := sched.Task{
		ID: queue.ID(r.id), Subject: sched.Ref(r.rec.Subject), Session: r.use.session.Ref, Class: r.spec.Class, MaxTokens: r.spec.MaxTokens * max(1, r.spec.Choices),
		Bytes: int64(size), Text: r.rec.Meta.PromptLen, Due: o.loop.instant(r.spec.Deadline), QueueFor: o.cfg.Timing.Queue, Total: total, Ephemeral: r.ephemeral,
		Need: placement.Request{
			Model: r.spec.Model, Engine: r.spec.Engine, Workload: r.spec.workload(), Digest: r.digest, Ctx: r.spec.Ctx, Prompt: r.use.prompt,
			Expected: r.spec.Expected, Place: r.spec.Place, Regions: o.regionsAllowed(r),
		},
	}
	if r.use.tenant != nil {
		t.Tenant = r.use.tenant.ref
	}
	return t
}

// wait returns the next effect for r; nil if the loop ended.
func (o *Orchestrator) wait(r *run) sched.Effect {
	select {
	case e := <-r.answers:
		return e
	case <-o.loop.done:
		return nil
	}
}

// refusal words a refusal of the core (ORC-247, 251, 254).
func (o *Orchestrator) refusal(r *run, f sched.Reject) error {
	e := taskapi.NewError(taskapi.Code(f.Code))
	if f.After > 0 {
		e.RetryAfter = f.After
	}
	d := &f.Details
	for _, x := range []struct{ name, value string }{{"filter", d.Filter}, {"field", d.Field}, {"policy_label", d.Label}} {
		if x.value != "" {
			e = e.With(x.name, x.value)
		}
	}
	switch e.Code {
	case taskapi.DeadlineUnmet:
		e.Retriable = true // only the load is in the way
		e = e.With("earliest_finish_ms", d.EarliestFinish.Milliseconds()).With("shortfall_ms", d.Shortfall.Milliseconds()).With("terms", map[string]int64{
			"queue_ms": d.Terms.Queue.Milliseconds(), "load_ms": d.Terms.Load.Milliseconds(), "prefill_ms": d.Terms.Prefill.Milliseconds(),
			"decode_ms": d.Terms.Decode.Milliseconds(), "band_ms": d.Terms.Band.Milliseconds(),
		})
	case taskapi.QuotaExceeded:
		delete(e.Details, "field")
		e = e.With("quota", d.Field)
	case taskapi.ModelNotFound:
		e = e.With("models", o.Models())
	case taskapi.ContextTooLarge:
		e = e.With("required", r.spec.Ctx).With("limit", o.context(r.spec.Model))
	case taskapi.InvalidParams:
		e = e.With("field", "placement").With("reason", "no such pool, node or worker")
	}
	return e
}

// persistTries bounds how often a store with an unknown outcome is asked again.
const persistTries = 5

// persist stores the task; only then it may run. An ephemeral one runs already.
func (o *Orchestrator) persist(ctx context.Context, a *admission) error {
	if a.dry {
		return nil // the store answered the checks before
	}
	r := a.run
	if r.ephemeral {
		return nil
	}
	res, err := o.storeNew(context.WithoutCancel(ctx), store.NewTask{Record: r.record(), Body: a.box}) // once asked, the answer is needed
	if err == nil {
		err, res.Duplicate = res.Err, r.other(res.Duplicate)
	}
	if err != nil || res.Duplicate != nil {
		o.loop.post(sched.Withdrawn{ID: queue.ID(r.id)})
	}
	switch {
	case errors.Is(err, store.ErrConflict):
		return taskapi.NewError(taskapi.Conflict)
	case err != nil:
		return err
	case res.Duplicate != nil:
		if d := *res.Duplicate; d.State == store.Queued && o.runs.get(d.ID) == nil {
			o.recoverOne(ctx, d) // stored by a call that never learnt of it
		}
		a.acc, err = duplicate(*res.Duplicate, r.rec)
		return err
	}
	o.loop.post(sched.Persisted{ID: queue.ID(r.id)})
	switch f := o.wait(r).(type) {
	case sched.Queued:
		a.acc.Position, a.acc.StartIn = f.Ahead, f.StartIn
	case sched.Assign:
		a.acc.Status, a.acc.Position, a.acc.StartIn, a.acc.Band, a.acc.Backoff, a.acc.DecisionID = "dispatched", 0, 0, 0, 0, f.Why.DecisionID
	}
	return nil // whatever comes next: the task is stored and will end
}

// storeNew asks the store to take a task until the outcome is known.
func (o *Orchestrator) storeNew(ctx context.Context, t store.NewTask) (out store.Submitted, err error) {
	for range persistTries {
		began := time.Now()
		var res []store.Submitted
		res, err = o.store.Submit(ctx, o.term(), []store.NewTask{t})
		o.storeOp("submit", err, began)
		if err == nil {
			out = res[0]
		}
		if !errors.Is(err, store.ErrUnknown) {
			break
		}
	}
	return out, err
}

// other returns nil if d, which the store holds already, is the task of r, stored
// by a call whose outcome nobody learnt: every other waiting task of this id
// would be in the table, and r would not.
func (r *run) other(d *store.Record) *store.Record {
	if d != nil && d.ID == r.id && d.State == store.Queued {
		return nil
	}
	return d
}

// duplicate answers a request that was accepted before (ORC-246).
func duplicate(old, again store.Record) (Accepted, error) {
	if old.Tenant != again.Tenant || old.Subject != again.Subject || old.BodyHash != again.BodyHash {
		return Accepted{}, taskapi.NewError(taskapi.Conflict)
	}
	return Accepted{ID: old.ID, Status: status(old), Duplicate: true}, nil
}
