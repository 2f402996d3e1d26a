package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Erasure is the receipt of an erasure. It names nobody.
type Erasure struct {
	KeyID     string    `json:"key_id"` // of the destroyed key; "" = there was none
	AuditSeq  uint64    `json:"audit_seq,omitempty"`
	At        time.Time `json:"at"`
	Tasks     int       `json:"tasks"`
	Outputs   int       `json:"outputs"` // after a crash in between: those that were left
	Documents int       `json:"documents"`
	Cancelled int       `json:"cancelled"`
}

// word is what a reason looks like, so that it can hold no name.
var word = regexp.MustCompile(`^[a-z][a-z_]{0,63}$`)

// Erase forgets a person, the caller if subject is "": live tasks are cancelled,
// records lose what names the person, documents go and the key is destroyed.
// Reason is one word of a-z and _, "" = request. It resumes after a crash and
// goes on when ctx ends; until it is done, everything new of the person is
// SUBJECT_ERASED. While nothing new is stored about the person, repeating it
// gives the same receipt. A backup from before still opens as long as it holds
// the key documents too.
func (o *Orchestrator) Erase(ctx context.Context, p Principal, subject, reason string) (Erasure, error) {
	subject, ref, err := o.whose(ctx, p, subject, "person.erase")
	if err == nil {
		err = o.Ready()
	}
	if err != nil {
		return Erasure{}, err
	}
	if reason == "" {
		reason = "request"
	}
	if !word.MatchString(reason) {
		return Erasure{}, taskapi.InvalidField("reason", "one word of a-z and _")
	}
	select {
	case o.people.turn <- struct{}{}:
	case <-ctx.Done():
		return Erasure{}, wireError(context.Cause(ctx))
	}
	defer func() { <-o.people.turn }()
	e, err := o.eraseOne(context.WithoutCancel(ctx), ref, subject, reason)
	if err != nil {
		return Erasure{}, wireError(err)
	}
	return e, nil
}

// eraseOne begins an erasure, goes on with one, or finds its receipt.
func (o *Orchestrator) eraseOne(ctx context.Context, ref store.SubjectRef, subject, reason string) (Erasure, error) {
	e, err := o.erasureOf(ctx, ref)
	if err != nil {
		return Erasure{}, err
	}
	if e.Done || e.version == 0 {
		id, err := o.keyID(ctx, subject)
		if err != nil {
			return Erasure{}, err
		}
		if e.Done && id == "" {
			if left, err := o.anyLeft(ctx, ref); err != nil || !left {
				return e.Receipt, err
			}
		}
		e = erasure{Subject: o.refs.wrap([]byte(subject), erasureName(ref)), Reason: reason, Receipt: Erasure{KeyID: id}, version: e.version}
		if err := o.saveErasure(ctx, ref, &e); err != nil {
			return Erasure{}, err
		}
	}
	o.people.mark(ref)
	return o.carryOut(ctx, ref, subject, e)
}

// carryOut does what is left of an erasure. Every step may be repeated.
func (o *Orchestrator) carryOut(ctx context.Context, ref store.SubjectRef, subject string, e erasure) (Erasure, error) {
	began := time.Now()
	if err := o.endAllOf(ctx, ref, sched.Erasure); err != nil {
		return Erasure{}, err
	}
	o.runs.forgetPerson(ref)
	o.dropSessions(ref)
	if !e.Counted {
		if err := o.count(ctx, ref, &e.Receipt); err != nil {
			return Erasure{}, err
		}
		e.Counted = true
		if err := o.saveErasure(ctx, ref, &e); err != nil {
			return Erasure{}, err
		}
	}
	gone, err := o.eraseStore(ctx, ref)
	if err != nil {
		return Erasure{}, fmt.Errorf("erase records: %w", err)
	}
	if err := o.seal.keys.Destroy(ctx, subject); err != nil {
		return Erasure{}, fmt.Errorf("destroy key: %w", err)
	}
	if _, err := o.eraseStore(ctx, ref); err != nil { // again: it also takes the key out of the store's log
		return Erasure{}, fmt.Errorf("erase records: %w", err)
	}
	e.Receipt.Outputs, e.Receipt.At = gone.Outputs, time.Now().UTC().Truncate(time.Millisecond)
	if e.Receipt.AuditSeq, err = o.audit.erased(ctx, e); err != nil {
		return Erasure{}, fmt.Errorf("record the erasure: %w", err)
	}
	e.Done, e.Subject = true, nil
	if err := o.saveErasure(ctx, ref, &e); err != nil {
		return Erasure{}, err
	}
	o.people.unmark(ref)
	o.observe.Observe(observe.Erased{Tasks: e.Receipt.Tasks, Documents: e.Receipt.Documents, Took: time.Since(began)})
	return e.Receipt, nil
}

// eraseStore erases in the store, again after an unknown outcome.
func (o *Orchestrator) eraseStore(ctx context.Context, ref store.SubjectRef) (sum store.Erased, err error) {
	for range persistTries {
		began := time.Now()
		var part store.Erased
		part, err = o.store.Erase(ctx, o.term(), ref)
		o.storeOp("erase", err, began)
		sum.Outputs += part.Outputs
		if !errors.Is(err, store.ErrUnknown) {
			break
		}
	}
	return sum, err
}

// endAllOf ends what a person has waiting or running and waits for it.
func (o *Orchestrator) endAllOf(ctx context.Context, ref store.SubjectRef, why sched.Reason) error {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timing.Cancel+5*time.Second)
	defer cancel()
	if err := o.people.quiet(ctx, ref); err != nil {
		return err
	}
	asked := make(map[*run]bool)
	for {
		live, changed := o.runs.of(ref)
		if len(live) == 0 {
			return nil
		}
		for _, r := range live {
			if asked[r] {
				continue
			}
			asked[r] = true
			if err := o.stopRun(ctx, r, why); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-o.loop.done:
			return taskapi.NewError(taskapi.ShuttingDown)
		case <-ctx.Done():
			return fmt.Errorf("tasks are still ending: %w", store.ErrUnavailable)
		}
	}
}

// stopRun asks that a task ends; after nil no reader sees another token. It
// waits for a Submit that has no answer yet, since the core may not know the task.
func (o *Orchestrator) stopRun(ctx context.Context, r *run, why sched.Reason) error {
	select {
	case <-r.answered:
	case <-ctx.Done():
		return fmt.Errorf("a task is being admitted: %w", store.ErrUnavailable)
	}
	if !o.loop.apply(sched.Cancel{ID: queue.ID(r.id), Reason: why}) {
		return taskapi.NewError(taskapi.ShuttingDown)
	}
	return nil
}

// count counts what an erasure is about to take.
func (o *Orchestrator) count(ctx context.Context, ref store.SubjectRef, e *Erasure) error {
	e.Tasks, e.Documents, e.Cancelled = 0, 0, 0
	for rec, err := range o.records(ctx, ref, 0) {
		if err != nil {
			return err
		}
		e.Tasks++
		if rec.CancelReason == string(sched.Erasure) {
			e.Cancelled++
		}
	}
	for _, kind := range exported {
		for _, err := range o.store.Docs(ctx, kind, own(ref)) {
			if err != nil {
				return fmt.Errorf("count documents: %w", err)
			}
			e.Documents++
		}
	}
	return nil
}

// exported are the kinds of a person's documents that mean something to people.
var exported = [...]store.Kind{store.KindSession, store.KindArtifact, store.KindConsent}

// anyLeft reports whether anything is stored about a person, or runs for them.
func (o *Orchestrator) anyLeft(ctx context.Context, ref store.SubjectRef) (bool, error) {
	if live, _ := o.runs.of(ref); len(live) > 0 {
		return true, nil
	}
	page, err := o.store.Tasks(ctx, store.Filter{Subject: ref, Limit: 1})
	if err != nil || len(page) > 0 {
		return true, err
	}
	for _, kind := range exported {
		for _, err := range o.store.Docs(ctx, kind, own(ref)) {
			return true, err
		}
	}
	return false, nil
}

// keyID returns the id of a person's key, "" if there is none.
func (o *Orchestrator) keyID(ctx context.Context, subject string) (string, error) {
	_, id, err := o.seal.keys.(audit.KeyFinder).Find(ctx, subject, "") // New made sure of it
	if errors.Is(err, audit.ErrNoSubjectKey) {
		return "", nil
	}
	return id, err
}
