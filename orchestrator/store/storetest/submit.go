package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

func submitTwice(t testing.TB, s suite) {
	c := s.begin(t)
	first := c.submit(task(1))[0]
	again := c.submitOne(task(1))
	if again.Err != nil || again.Duplicate == nil || again.Seq != first.Seq || again.Duplicate.ID != id(1) {
		t.Errorf("equal task again = %+v, want the duplicate with seq %d", again, first.Seq)
	}
	for what, change := range map[string]func(*store.Record){
		"another body":   func(r *store.Record) { r.BodyHash = hash(2) },
		"another tenant": func(r *store.Record) { r.Tenant = "other" },
		"another person": func(r *store.Record) { r.Subject[0]++ },
	} {
		n := task(1)
		change(&n.Record)
		if a := c.submitOne(n); !errors.Is(a.Err, store.ErrConflict) || a.Duplicate != nil {
			t.Errorf("same id with %s = %v, want ErrConflict", what, a.Err)
		}
	}
	c.want("Cancel", c.cancel(1, "client").Err, nil)
	if again := c.submitOne(task(1)); again.Duplicate == nil || again.Duplicate.State != store.Cancelled {
		t.Errorf("equal task after its end = %+v, want the ended record", again)
	}
	if got := c.all(); len(got) != 1 || got[0].BodyHash != hash(1) {
		t.Errorf("store holds %d tasks, want the first alone", len(got))
	}
}

func idempotencyKeys(t testing.TB, s suite) {
	c := s.begin(t)
	keyed := func(n int, tenant, key string, content int) store.NewTask {
		q := task(n)
		q.Record.Tenant, q.Record.IdemKey, q.Record.BodyHash = tenant, key, hash(content)
		return q
	}
	first := c.submit(keyed(1, "a", "k", 7))[0]
	again := c.submitOne(keyed(2, "a", "k", 7))
	if again.Err != nil || again.Duplicate == nil || again.Duplicate.ID != id(1) || again.Seq != first.Seq {
		t.Errorf("equal content under the key = %+v, want the first task", again)
	}
	if a := c.submitOne(keyed(3, "a", "k", 8)); !errors.Is(a.Err, store.ErrConflict) {
		t.Errorf("other content under the key = %v, want ErrConflict", a.Err)
	}
	c.submit(keyed(4, "b", "k", 8), keyed(5, "a", "", 9), keyed(6, "a", "", 10))
	if n := len(c.all()); n != 4 {
		t.Errorf("store holds %d tasks, want 4", n)
	}
}

func seqRises(t testing.TB, s suite) {
	c := s.begin(t)
	var last uint64
	for i := range 8 {
		for _, a := range c.submit(task(3*i+2), task(3*i), task(3*i+1)) {
			if a.Seq <= last {
				t.Fatalf("seq %d after %d", a.Seq, last)
			}
			last = a.Seq
		}
	}
	if got := c.record(0).Seq; got >= c.record(1).Seq || got <= c.record(2).Seq {
		t.Error("stored seqs do not follow the batch")
	}
}

func badItemFailsAlone(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1))
	conflict, large, broken, none := task(1), task(3), task(4), task(5)
	conflict.Record.BodyHash = hash(99)
	large.Body = make([]byte, store.MaxBody+1)
	broken.Record.Meta.Params = json.RawMessage(`{"a":`)
	none.Record.ID = store.TaskID{}
	final := task(6)
	final.Final = &store.Completion{State: store.Running}
	out, err := c.Submit(c.ctx, c.epoch, []store.NewTask{task(2), conflict, large, broken, none, final, task(7)})
	if err != nil || len(out) != 7 {
		t.Fatalf("Submit() = %d answers, %v", len(out), err)
	}
	for i, want := range []error{nil, store.ErrConflict, store.ErrTooLarge, store.ErrInvalid, store.ErrInvalid, store.ErrTransition, nil} {
		c.want("answer of the batch", out[i].Err, want)
	}
	if got := c.all(); len(got) != 3 || got[1].ID != id(2) || got[2].ID != id(7) {
		t.Errorf("store holds %d tasks, want the three good ones", len(got))
	}
	ended, err := c.Complete(c.ctx, c.epoch, []store.Completion{
		{ID: id(2), State: store.Failed}, {ID: id(3), State: store.Failed}, {ID: id(7), Attempt: 4, State: store.Failed}, {ID: id(1), State: store.Failed},
	})
	if err != nil || len(ended) != 4 {
		t.Fatalf("Complete() = %d answers, %v", len(ended), err)
	}
	for i, want := range []error{nil, store.ErrNotFound, store.ErrTransition, nil} {
		c.want("answer of the batch", ended[i], want)
	}
	c.state(1, store.Failed)
	c.state(2, store.Failed)
	c.state(7, store.Queued)
}

func batchSeesItself(t testing.TB, s suite) {
	c := s.begin(t)
	other := task(1)
	other.Record.BodyHash = hash(2)
	out, err := c.Submit(c.ctx, c.epoch, []store.NewTask{task(1), task(1), other})
	if err != nil || len(out) != 3 {
		t.Fatalf("Submit() = %d answers, %v", len(out), err)
	}
	if out[0].Err != nil || out[0].Duplicate != nil || out[1].Duplicate == nil || out[1].Seq != out[0].Seq || !errors.Is(out[2].Err, store.ErrConflict) {
		t.Errorf("answers = %+v, want stored, duplicate, ErrConflict", out)
	}
	started, err := c.Start(c.ctx, c.epoch, []store.StartReq{{ID: id(1), Attempt: 2}, {ID: id(1), Attempt: 1}, {ID: id(1), Attempt: 3}})
	if err != nil || len(started) != 3 {
		t.Fatalf("Start() = %d answers, %v", len(started), err)
	}
	c.want("Start 2", started[0].Err, nil)
	c.want("Start 1 after 2", started[1].Err, store.ErrTransition)
	c.want("Start 3", started[2].Err, nil)
}

func batchSizes(t testing.TB, s suite) {
	c := s.begin(t)
	out, err := c.Submit(c.ctx, c.epoch, nil)
	if err != nil || len(out) != 0 {
		t.Errorf("Submit(nothing) = %d answers, %v", len(out), err)
	}
	c.submit(task(5000))
	batch := make([]store.NewTask, 1024)
	starts := make([]store.StartReq, len(batch))
	ends := make([]store.Completion, len(batch))
	for i := range batch {
		batch[i] = task(i)
		starts[i] = store.StartReq{ID: id(i), Attempt: 1}
		ends[i] = store.Completion{ID: id(i), Attempt: 1, State: store.Completed, Output: []byte("sealed output")}
	}
	c.submit(batch...)
	started, err := c.Start(c.ctx, c.epoch, starts)
	if err != nil || len(started) != len(starts) {
		t.Fatalf("Start() = %d answers, %v", len(started), err)
	}
	for i, a := range started {
		if a.Err != nil || !bytes.Equal(a.Body, batch[i].Body) {
			t.Fatalf("Start: item %d = %q, %v, want its own body", i, a.Body, a.Err)
		}
	}
	ended, err := c.Complete(c.ctx, c.epoch, ends)
	if err != nil || len(ended) != len(ends) || slices.ContainsFunc(ended, func(err error) bool { return err != nil }) {
		t.Fatalf("Complete() = %d answers, %v", len(ended), errors.Join(append(ended, err)...))
	}
	if n := len(c.page(store.Filter{States: []store.State{store.Completed}, Limit: store.MaxPage})); n != len(batch) {
		t.Errorf("%d tasks are completed, want %d", n, len(batch))
	}
}

// fullTask returns a task with every member set.
func fullTask(n int) store.NewTask {
	q := task(n)
	q.Record.Subject = store.SubjectRef{1, 2, 3, 15: 9}
	q.Record.Session, q.Record.IdemKey = "session-ä", "key"
	q.Record.Deadline = time.Date(2030, 1, 2, 3, 4, 5, 678_901_000, time.FixedZone("east", 7200))
	q.Record.Created = time.Date(2029, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	q.Record.Meta = store.Meta{
		Kind: "generate", Engine: "vllm", Correlation: "c-1", Params: json.RawMessage(`{ "t": 0.5, "stop": "<b>&\u2028" }`),
		Place: json.RawMessage(`{"regions":["DE"]}`), MaxTokens: 5, Expected: 6, PromptTokens: 7, PromptLen: 8, PromptSHA256: "ab", Keep: true,
	}
	return q
}

// asStored is what fullTask reads back as, apart from seq, epoch and state.
func asStored(q store.NewTask) store.Record {
	r := q.Record
	r.Deadline, r.Created = r.Deadline.UTC(), r.Created.Truncate(micro)
	r.Meta.V = 1
	r.Meta.Params = json.RawMessage(`{"t":0.5,"stop":"<b>&\u2028"}`)
	return r
}

func readsBack(t testing.TB, s suite) {
	c := s.begin(t)
	want := asStored(fullTask(1))
	want.Seq = c.submit(fullTask(1))[0].Seq
	want.State, want.Epoch = store.Queued, c.epoch
	if got := c.record(1); !reflect.DeepEqual(got, want) {
		t.Errorf("Task() =\n%+v, want\n%+v", got, want)
	}
	if got := c.page(store.Filter{}); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("Tasks() =\n%+v, want\n%+v", got, want)
	}
	before := time.Now().Truncate(micro)
	c.submit(task(2))
	c.want("Start", c.start(2, 3).Err, nil)
	c.want("Mark", c.mark(2, 3), nil)
	end := store.Completion{ID: id(2), Attempt: 3, State: store.Failed, Outcome: store.Outcome{
		Code: "WORKER_RESET", Details: json.RawMessage(`{"a": 1}`), FinishReason: "length", TokensIn: 1, TokensOut: 2, DecodeMS: 3, QueueMS: 4, Events: 5, Estimated: true,
	}}
	c.want("Complete", c.completeWith(end), nil)
	after := time.Now()
	got := c.record(2)
	for what, at := range map[string]time.Time{"Created": got.Created, "Started": got.Started, "Finished": got.Finished} {
		if at.Before(before) || at.After(after) || at.Location() != time.UTC {
			t.Errorf("%s = %v, want the store's clock in UTC between %v and %v", what, at, before, after)
		}
	}
	end.Outcome.Details = json.RawMessage(`{"a":1}`)
	if !reflect.DeepEqual(got.Outcome, end.Outcome) || got.Attempt != 3 || !got.Emitted || got.Worker != "n/p/w" || got.Epoch != c.epoch {
		t.Errorf("ended task = %+v, want outcome %+v of attempt 3", got, end.Outcome)
	}
}

func finalTask(t testing.TB, s suite) {
	c := s.begin(t)
	q := fullTask(1)
	q.Record.Started = q.Record.Created.Add(time.Second)
	q.Record.Worker, q.Record.Emitted, q.Record.CancelReason = "n/p/w", true, "client"
	q.Final = &store.Completion{Attempt: 2, State: store.Cancelled, Outcome: store.Outcome{Code: "CANCELLED", TokensOut: 3}, Output: []byte("sealed output")}
	c.submit(q)
	got := c.record(1)
	want := asStored(q)
	want.Seq, want.Epoch, want.State, want.Attempt, want.Outcome = got.Seq, c.epoch, store.Cancelled, 2, q.Final.Outcome
	want.Started, want.Finished = want.Started.Truncate(micro), got.Finished
	if !reflect.DeepEqual(got, want) || got.Finished.IsZero() {
		t.Errorf("Task() =\n%+v, want\n%+v", got, want)
	}
	if out, err := c.Output(c.ctx, id(1)); err != nil || string(out) != "sealed output" {
		t.Errorf("Output() = %q, %v", out, err)
	}
	c.want("Start", c.start(1, 3).Err, store.ErrTransition)
	if again := c.submitOne(q); again.Err != nil || again.Duplicate == nil {
		t.Errorf("final task again = %+v, want a duplicate", again)
	}
	if live := c.page(store.Filter{States: []store.State{store.Queued, store.Running, store.Cancelling}}); len(live) != 0 {
		t.Errorf("%d tasks are live, want none", len(live))
	}
}

func nothingShared(t testing.TB, s suite) {
	c := s.begin(t)
	q := fullTask(1)
	q.Record.Meta.Regions, q.Record.Meta.Purposes = []string{"EU"}, []string{"chat"}
	want := asStored(q)
	params := string(want.Meta.Params)
	c.submit(q)
	spoil := func(m store.Meta) {
		clear(m.Params)
		clear(m.Regions)
		clear(m.Purposes)
	}
	clear(q.Body)
	spoil(q.Record.Meta)
	for range 2 {
		r := c.record(1)
		if m := r.Meta; string(m.Params) != params || !slices.Equal(m.Regions, []string{"EU"}) || !slices.Equal(m.Purposes, []string{"chat"}) {
			t.Fatalf("meta = %+v, want that of %+v", m, want.Meta)
		}
		spoil(r.Meta)
		body := c.start(1, 1).Body
		if string(body) != "sealed 1" {
			t.Fatalf("body = %q, want it as submitted", body)
		}
		clear(body)
	}
	output := []byte("sealed output")
	c.want("Complete", c.completeWith(store.Completion{ID: id(1), Attempt: 1, State: store.Completed, Output: output}), nil)
	data := []byte("document")
	if _, err := c.PutDoc(c.ctx, store.Doc{Kind: store.KindInstall, Key: "k", Data: data}, 0); err != nil {
		t.Fatalf("PutDoc() = %v", err)
	}
	clear(output)
	clear(data)
	for range 2 {
		out, err := c.Output(c.ctx, id(1))
		if err != nil || string(out) != "sealed output" {
			t.Fatalf("Output() = %q, %v", out, err)
		}
		clear(out)
		d, err := c.Doc(c.ctx, store.KindInstall, "k")
		if err != nil || string(d.Data) != "document" {
			t.Fatalf("Doc() = %q, %v", d.Data, err)
		}
		clear(d.Data)
	}
}
