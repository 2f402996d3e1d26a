package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Stored returns the record that a store keeps for n, written in term e at now;
// Seq is left to the store. Errors: ErrInvalid, ErrTooLarge, ErrTransition.
func (n NewTask) Stored(e Epoch, now time.Time) (Record, error) {
	in := n.Record
	if in.ID == (TaskID{}) {
		return Record{}, fmt.Errorf("task id: %w", ErrInvalid)
	}
	if in.Meta.V != 0 && in.Meta.V != MetaVersion {
		return Record{}, fmt.Errorf("meta.v: %w", ErrInvalid)
	}
	if len(n.Body) > MaxBody {
		return Record{}, fmt.Errorf("body: %w", ErrTooLarge)
	}
	var err error
	if in.Meta.Params, err = compact("meta.params", in.Meta.Params); err != nil {
		return Record{}, err
	}
	if in.Meta.Place, err = compact("meta.place", in.Meta.Place); err != nil {
		return Record{}, err
	}
	r := Record{
		ID: in.ID, Tenant: in.Tenant, Subject: in.Subject, Class: in.Class, Model: in.Model,
		Session: in.Session, IdemKey: in.IdemKey, BodyHash: in.BodyHash, State: Queued, Epoch: e,
		Created: clock(in.Created), Deadline: clock(in.Deadline), Meta: in.Meta,
	}
	r.Meta.V, r.Meta.Regions, r.Meta.Purposes = MetaVersion, slices.Clone(r.Meta.Regions), slices.Clone(r.Meta.Purposes)
	if r.Created.IsZero() {
		r.Created = clock(now)
	}
	if n.Final == nil {
		return r, nil
	}
	c, err := n.Final.checked()
	if err != nil {
		return Record{}, err
	}
	r.Attempt, r.Emitted, r.Started = c.Attempt, in.Emitted, clock(in.Started)
	r.Worker, r.CancelReason = in.Worker, in.CancelReason
	r.end(c.State, c.Outcome, e, now)
	return r, nil
}

// Repeats reports whether n has the content that r was made of: the same
// person's request with an equal body. A store then answers with r, else with
// ErrConflict.
func (r *Record) Repeats(n NewTask) bool {
	return r.Tenant == n.Record.Tenant && r.Subject == n.Record.Subject && r.BodyHash == n.Record.BodyHash
}

// Start moves r to the attempt of q. It reports whether r changed; false with
// nil is a repetition. The error is nil or ErrTransition.
func (r *Record) Start(q StartReq, e Epoch, now time.Time) (changed bool, err error) {
	if r.Emitted || q.Attempt < 1 || !CanMove(r.State, Running) || q.Attempt < r.Attempt {
		return false, ErrTransition
	}
	if q.Attempt == r.Attempt {
		return false, nil
	}
	r.State, r.Epoch, r.Attempt, r.Worker, r.Started = Running, e, q.Attempt, q.Worker, clock(now)
	return true, nil
}

// Mark notes that the attempt of q may have published a token. It reports
// whether r changed; false with nil is a repetition. The error is nil or
// ErrTransition.
func (r *Record) Mark(q MarkReq, e Epoch) (changed bool, err error) {
	live := r.State == Running || r.State == Cancelling
	switch {
	case !live || q.Attempt != r.Attempt:
		return false, ErrTransition
	case r.Emitted:
		return false, nil
	case r.State != Running:
		return false, ErrTransition
	}
	r.Emitted, r.Epoch = true, e
	return true, nil
}

// Complete ends r as c says. It reports whether r changed; false with nil is a
// repetition. Errors: ErrTransition, ErrTooLarge, ErrInvalid.
func (r *Record) Complete(c Completion, e Epoch, now time.Time) (changed bool, err error) {
	if c, err = c.checked(); err != nil {
		return false, err
	}
	if r.State.Terminal() {
		if r.State == c.State && r.Attempt == c.Attempt && r.Outcome.Code == c.Outcome.Code {
			return false, nil
		}
		return false, ErrTransition
	}
	if c.Attempt != r.Attempt || !CanMove(r.State, c.State) {
		return false, ErrTransition
	}
	r.end(c.State, c.Outcome, e, now)
	return true, nil
}

// Cancel ends a queued r and keeps the request for a running one; the first
// reason stays. It reports whether r changed.
func (r *Record) Cancel(q CancelReq, e Epoch, now time.Time) (changed bool) {
	switch r.State {
	case Queued:
		r.CancelReason = q.Reason
		r.end(Cancelled, Outcome{}, e, now)
	case Running:
		r.State, r.Epoch, r.CancelReason = Cancelling, e, q.Reason
	default:
		return false
	}
	return true
}

func (r *Record) end(s State, o Outcome, e Epoch, now time.Time) {
	r.State, r.Outcome, r.Epoch, r.Finished = s, o, e, clock(now)
}

// checked refuses what no task can end with and returns c with compact details.
func (c Completion) checked() (Completion, error) {
	if c.State != Completed && c.State != Failed && c.State != Cancelled || c.Attempt < 0 {
		return Completion{}, ErrTransition
	}
	if len(c.Output) > MaxOutput {
		return Completion{}, fmt.Errorf("output: %w", ErrTooLarge)
	}
	var err error
	c.Outcome.Details, err = compact("outcome.details", c.Outcome.Details)
	return c, err
}

// Forget takes from r what names a person or tells what was asked: subject,
// session, idempotency key and the digests of prompt and body.
func (r *Record) Forget(e Epoch) {
	r.Subject, r.Session, r.IdemKey, r.BodyHash, r.Epoch = SubjectRef{}, "", "", [32]byte{}, e
	r.Meta.PromptSHA256 = ""
}

// maxSeen leaves room for terms after any claim.
const maxSeen Epoch = 1 << 62

// Next returns the epoch of the term that q begins after the present one.
// Errors: ErrRestored, ErrInvalid.
func (q LeaseRequest) Next(present Epoch) (Epoch, error) {
	switch {
	case q.Seen > maxSeen:
		return 0, fmt.Errorf("lease request: seen: %w", ErrInvalid)
	case q.Seen > present && !q.Force:
		return 0, ErrRestored
	}
	return max(present, q.Seen) + 1, nil
}

// Check refuses a document that no store keeps: ErrInvalid, ErrTooLarge.
func (d Doc) Check() error {
	if d.Kind == "" {
		return fmt.Errorf("document kind: %w", ErrInvalid)
	}
	if d.Key == "" {
		return fmt.Errorf("document key: %w", ErrInvalid)
	}
	if len(d.Data) > MaxDoc {
		return fmt.Errorf("document: %w", ErrTooLarge)
	}
	return nil
}

// Size returns how many records a page holds at most, or ErrInvalid.
func (f Filter) Size() (int, error) {
	switch {
	case f.Limit < 0 || f.Limit > MaxPage:
		return 0, fmt.Errorf("filter limit: %w", ErrInvalid)
	case f.Limit == 0:
		return 100, nil
	}
	return f.Limit, nil
}

// compact returns a copy of raw without white space; nil for an empty one.
func compact(field string, raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if len(raw) > MaxMeta {
		return nil, fmt.Errorf("%s: %w", field, ErrTooLarge)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("%s: %w", field, ErrInvalid)
	}
	return b.Bytes(), nil
}

// clock brings a time into the one form that every store can keep.
func clock(t time.Time) time.Time {
	return t.UTC().Truncate(time.Microsecond)
}
