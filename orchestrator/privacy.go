package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// ExportItem is one thing that is stored about a person.
type ExportItem struct {
	Section string // tasks, sessions, artifacts, outputs, usage, consents, manifest
	Data    any    // a json.RawMessage
}

// exportedTask is what a record says about a person.
type exportedTask struct {
	ID       string          `json:"job_id"`
	Tenant   string          `json:"tenant"`
	Session  string          `json:"session_id,omitempty"`
	Key      string          `json:"idempotency_key,omitempty"`
	Class    string          `json:"class"`
	Model    string          `json:"model"`
	State    string          `json:"state"`
	Reason   string          `json:"cancel_reason,omitempty"`
	Worker   string          `json:"worker,omitempty"`
	Attempt  int             `json:"attempt,omitempty"`
	Created  time.Time       `json:"created"`
	Started  time.Time       `json:"started,omitzero"`
	Finished time.Time       `json:"finished,omitzero"`
	Deadline time.Time       `json:"deadline,omitzero"`
	Request  store.Meta      `json:"request"`
	Outcome  json.RawMessage `json:"outcome"`
}

type exportedOutput struct {
	ID     string        `json:"job_id"`
	Events []sealedEvent `json:"events"`
}

type exportedArtifact struct {
	ID      string    `json:"artifact_id"`
	Kind    string    `json:"kind"`
	Created time.Time `json:"created"`
	Data    []byte    `json:"data"` // base64
}

type exportedSession struct {
	ID   string          `json:"session_id"`
	Data json.RawMessage `json:"session"`
}

// Manifest ends an export: for each section how many items it has, and the
// SHA-256 over them, each as the JSON of its Data and a line feed.
type Manifest struct {
	At     time.Time         `json:"at"`
	Counts map[string]int    `json:"counts"`
	SHA256 map[string]string `json:"sha256"`
}

// sections are the parts of an export, in their order.
var sections = [...]string{"tasks", "sessions", "artifacts", "outputs", "usage", "consents"}

// exportPage is how many records an export reads at a time.
const exportPage = 500

// Export yields everything that is stored about a person, the caller if subject
// is "", sorted within each section, then a [Manifest]. For the person and for
// role privacy. It holds one page of records, or one output or artifact, in
// memory; tasks that are accepted meanwhile are left out. The first error ends
// it. What an erased key had sealed is left out too.
func (o *Orchestrator) Export(ctx context.Context, p Principal, subject string) iter.Seq2[ExportItem, error] {
	return func(yield func(ExportItem, error) bool) {
		subject, ref, err := o.whose(ctx, p, subject, "person.export")
		if err == nil && o.erasing(ref) {
			err = taskapi.NewError(taskapi.SubjectErased)
		}
		x := &export{o: o, ref: ref, yield: yield, sums: make(map[string]hash.Hash), manifest: Manifest{At: time.Now().UTC(), Counts: make(map[string]int), SHA256: make(map[string]string)}}
		if err == nil {
			o.audit.accessed(ctx, p, subject)
			err = x.run(ctx)
		}
		var digest [32]byte
		if err == nil {
			digest, err = x.finish()
		}
		switch {
		case errors.Is(err, errStoppedReading):
		case err != nil:
			yield(ExportItem{}, wireError(err))
		default:
			o.audit.exported(ctx, p, subject, digest)
		}
	}
}

var errStoppedReading = errors.New("orchestrator: the reader of an export left")

// export is one export under way.
type export struct {
	o        *Orchestrator
	ref      store.SubjectRef
	yield    func(ExportItem, error) bool
	sums     map[string]hash.Hash
	manifest Manifest
	last     uint64 // newest record that belongs to the export
	usage    map[string]*Usage
}

// run yields the sections.
func (x *export) run(ctx context.Context) error {
	newest, err := x.o.store.Tasks(ctx, store.Filter{Subject: x.ref, Limit: 1})
	if err != nil {
		return err
	}
	if len(newest) > 0 {
		x.last = newest[0].Seq
	}
	for _, section := range []func(context.Context) error{x.tasks, x.sessions, x.artifacts, x.outputs, x.days, x.consents} {
		if err := section(ctx); err != nil {
			return err
		}
	}
	return nil
}

// put yields an item and adds it to its section's digest.
func (x *export) put(section string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	sum := x.sums[section]
	if sum == nil {
		sum = sha256.New()
		x.sums[section] = sum
	}
	sum.Write(text)
	sum.Write([]byte{'\n'})
	x.manifest.Counts[section]++
	if !x.yield(ExportItem{section, json.RawMessage(text)}, nil) {
		return errStoppedReading
	}
	return nil
}

// finish yields the manifest and returns its digest.
func (x *export) finish() ([32]byte, error) {
	for _, s := range sections {
		sum := x.sums[s]
		if sum == nil {
			sum = sha256.New()
		}
		x.manifest.Counts[s] += 0
		x.manifest.SHA256[s] = hex.EncodeToString(sum.Sum(nil))
	}
	text, err := json.Marshal(x.manifest)
	if err != nil {
		return [32]byte{}, err
	}
	if !x.yield(ExportItem{"manifest", json.RawMessage(text)}, nil) {
		return [32]byte{}, errStoppedReading
	}
	return sha256.Sum256(text), nil
}

func (x *export) tasks(ctx context.Context) error {
	x.usage = make(map[string]*Usage) // at most a day per day of retention
	for rec, err := range x.records(ctx) {
		if err != nil {
			return err
		}
		rec = settled(rec)
		day := rec.Created.UTC().Format(time.DateOnly)
		u := x.usage[day]
		if u == nil {
			u = &Usage{Day: day}
			x.usage[day] = u
		}
		u.Tasks++
		u.TokensIn += int64(rec.Outcome.TokensIn)
		u.TokensOut += int64(rec.Outcome.TokensOut)
		outcome, err := json.Marshal(rec.Outcome)
		if err != nil {
			return err
		}
		if err := x.put("tasks", exportedTask{
			ID: rec.ID.String(), Tenant: rec.Tenant, Session: rec.Session, Key: rec.IdemKey, Class: rec.Class, Model: rec.Model, State: string(rec.State),
			Reason: rec.CancelReason, Worker: rec.Worker, Attempt: rec.Attempt, Created: rec.Created, Started: rec.Started, Finished: rec.Finished,
			Deadline: rec.Deadline, Request: rec.Meta, Outcome: outcome,
		}); err != nil {
			return err
		}
	}
	return nil
}

func (x *export) sessions(ctx context.Context) error {
	for d, err := range x.o.store.Docs(ctx, store.KindSession, own(x.ref)) {
		if err != nil {
			return err
		}
		s := exportedSession{strings.TrimPrefix(d.Key, own(x.ref)), d.Data}
		if !json.Valid(d.Data) {
			s.Data, _ = json.Marshal(d.Data) // base64
		}
		if err := x.put("sessions", s); err != nil {
			return err
		}
	}
	return nil
}

func (x *export) artifacts(ctx context.Context) error {
	for d, err := range x.o.store.Docs(ctx, store.KindArtifact, own(x.ref)) {
		if err != nil {
			return err
		}
		a, err := x.o.openArtifact(ctx, x.ref, d)
		if errors.Is(err, taskapi.NotFound) || errors.Is(err, taskapi.SubjectErased) {
			continue
		}
		if err == nil {
			err = x.put("artifacts", exportedArtifact{a.ID, a.Kind, a.Created, a.Data})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *export) outputs(ctx context.Context) error {
	for rec, err := range x.records(ctx) {
		if err != nil {
			return err
		}
		if !rec.State.Terminal() {
			continue
		}
		events, err := x.o.output(ctx, rec)
		if errors.Is(err, taskapi.SubjectErased) {
			continue
		}
		if err != nil {
			return err
		}
		if len(events) == 0 {
			continue
		}
		out := exportedOutput{ID: rec.ID.String(), Events: make([]sealedEvent, len(events))}
		for i, e := range events {
			out.Events[i] = sealedEvent{e.ID, e.Type, e.Data}
		}
		if err := x.put("outputs", out); err != nil {
			return err
		}
	}
	return nil
}

// days yields what the exported tasks used.
func (x *export) days(context.Context) error {
	days := make([]string, 0, len(x.usage))
	for day := range x.usage {
		days = append(days, day)
	}
	slices.Sort(days)
	for _, day := range days {
		if err := x.put("usage", x.usage[day]); err != nil {
			return err
		}
	}
	return nil
}

func (x *export) consents(ctx context.Context) error {
	for c, err := range x.o.consentDocs(ctx, x.ref) {
		if err == nil {
			err = x.put("consents", c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *export) records(ctx context.Context) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if x.last == 0 {
			return
		}
		x.o.records(ctx, x.ref, x.last)(yield)
	}
}

// records yields a person's records, oldest first, up to a sequence number; 0 =
// all of them.
func (o *Orchestrator) records(ctx context.Context, ref store.SubjectRef, last uint64) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		f := store.Filter{Subject: ref, Oldest: true, Limit: exportPage}
		for {
			page, err := o.store.Tasks(ctx, f)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			for _, rec := range page {
				if last > 0 && rec.Seq > last || !yield(rec, nil) {
					return
				}
				f.After = rec.Seq
			}
			if len(page) < exportPage {
				return
			}
		}
	}
}

// Usage is what a person or tenant used on one UTC day.
type Usage struct {
	Day       string `json:"day"` // yyyy-mm-dd
	Tasks     int    `json:"tasks"`
	TokensIn  int64  `json:"tokens_in"`
	TokensOut int64  `json:"tokens_out"`
}
