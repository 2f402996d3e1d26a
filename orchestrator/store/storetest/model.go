package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/store"
)

// model walks a store and a small reference side by side (ORC-655).
func model(t testing.TB, s suite) {
	rapid.Check(t, func(r *rapid.T) {
		w := &walk{suite: s, t: t, st: s.open(t), ref: reference{docs: make(map[string]refDoc)}}
		defer func() {
			if err := w.st.Close(); err != nil {
				r.Errorf("Close() = %v", err)
			}
		}()
		w.lead(r)
		steps := map[string]func(*rapid.T){
			"": w.compare, "lead": w.lead, "submit": w.submit, "start": w.start, "mark": w.mark,
			"complete": w.complete, "cancel": w.cancel, "void": w.void, "purge": w.purge, "put": w.put, "delete": w.remove,
			"erase": w.erase, "purge outputs": w.purgeOutputs,
		}
		if s.caps.Durable {
			steps["reopen"] = w.reopen
		}
		r.Repeat(steps)
	})
}

// reference restates the rules of the contract in the fewest words.
type reference struct {
	tasks []refTask // by seq
	docs  map[string]refDoc
}

type refTask struct {
	id, content    int
	subject        byte // 0 is nobody
	tenant, key    string
	seq            uint64
	state          store.State
	attempt        int
	emitted        bool
	reason, code   string
	output, worker string
}

type refDoc struct {
	data    string
	version store.Version
}

func (r *reference) find(id int) *refTask {
	for i := range r.tasks {
		if r.tasks[i].id == id {
			return &r.tasks[i]
		}
	}
	return nil
}

// submit returns the known task that n repeats, and the error.
func (r *reference) submit(n refTask) (dup *refTask, err error) {
	same := r.find(n.id)
	for i := range r.tasks {
		if same == nil && n.key != "" && r.tasks[i].tenant == n.tenant && r.tasks[i].key == n.key {
			same = &r.tasks[i]
		}
	}
	if same == nil {
		r.tasks = append(r.tasks, n)
		return nil, nil
	}
	if same.tenant != n.tenant || same.content != n.content || same.subject != n.subject {
		return nil, store.ErrConflict
	}
	return same, nil
}

func (r *refTask) start(attempt int, worker string) error {
	switch {
	case r == nil:
		return store.ErrNotFound
	case r.state == store.Queued && attempt >= 1, r.state == store.Running && !r.emitted && attempt > r.attempt:
		r.state, r.attempt, r.worker = store.Running, attempt, worker
		return nil
	case r.state == store.Running && !r.emitted && attempt == r.attempt:
		return nil
	}
	return store.ErrTransition
}

func (r *refTask) mark(attempt int) error {
	switch {
	case r == nil:
		return store.ErrNotFound
	case attempt == r.attempt && r.state == store.Running:
		r.emitted = true
		return nil
	case attempt == r.attempt && r.state == store.Cancelling && r.emitted:
		return nil
	}
	return store.ErrTransition
}

func (r *refTask) complete(attempt int, to store.State, code, output string) error {
	if r == nil {
		return store.ErrNotFound
	}
	if attempt != r.attempt {
		return store.ErrTransition
	}
	switch r.state {
	case store.Queued:
		if to == store.Completed {
			return store.ErrTransition
		}
	case store.Running:
		if to == store.Cancelled {
			return store.ErrTransition
		}
	case store.Cancelling:
	default:
		if r.state == to && r.code == code {
			return nil
		}
		return store.ErrTransition
	}
	r.state, r.code, r.output = to, code, output
	return nil
}

func (r *refTask) cancel(reason string) {
	switch r.state {
	case store.Queued:
		r.state, r.reason = store.Cancelled, reason
	case store.Running:
		r.state, r.reason = store.Cancelling, reason
	}
}

// walk is one run of the model.
type walk struct {
	suite
	t     testing.TB
	st    store.Store
	epoch store.Epoch
	ref   reference
}

func (w *walk) lead(r *rapid.T) {
	l, err := w.st.Lead(w.t.Context(), store.LeaseRequest{Holder: "model"})
	if err != nil || l.Epoch <= w.epoch {
		r.Fatalf("Lead() = %+v, %v, want an epoch above %d", l, err, w.epoch)
	}
	w.epoch = l.Epoch
}

func (w *walk) reopen(r *rapid.T) {
	w.st = w.caps.Reopen(w.t, w.st)
	w.lead(r)
}

// drawID prefers a small set, so that calls meet.
func drawID(r *rapid.T) int { return rapid.IntRange(0, 5).Draw(r, "id") }

func (w *walk) submit(r *rapid.T) {
	var (
		batch []store.NewTask
		refs  []refTask
	)
	for range rapid.IntRange(0, 4).Draw(r, "batch") {
		n := refTask{
			id: drawID(r), content: rapid.IntRange(0, 1).Draw(r, "content"), state: store.Queued,
			tenant: rapid.SampledFrom([]string{"a", "b"}).Draw(r, "tenant"),
			key:    rapid.SampledFrom([]string{"", "k", "l"}).Draw(r, "key"), subject: byte(rapid.IntRange(0, 2).Draw(r, "subject")),
		}
		q := task(n.id)
		q.Record.Tenant, q.Record.IdemKey, q.Record.BodyHash = n.tenant, n.key, hash(n.content)
		q.Record.Subject = subject(n.subject)
		if rapid.IntRange(0, 9).Draw(r, "final") == 0 {
			n.state, n.attempt, n.code, n.output = store.Failed, 1, "FINAL", "final"
			q.Final = &store.Completion{Attempt: 1, State: store.Failed, Outcome: store.Outcome{Code: "FINAL"}, Output: []byte("final")}
		}
		batch, refs = append(batch, q), append(refs, n)
	}
	out, err := w.st.Submit(w.t.Context(), w.epoch, batch)
	if err != nil || len(out) != len(batch) {
		r.Fatalf("Submit() = %d answers, %v", len(out), err)
	}
	for i, a := range out {
		refs[i].seq = a.Seq
		dup, want := w.ref.submit(refs[i])
		switch {
		case !errors.Is(a.Err, want), (dup == nil) != (a.Duplicate == nil):
			r.Fatalf("Submit: item %d = %+v, want %v, duplicate %t", i, a, want, dup != nil)
		case dup != nil && (a.Seq != dup.seq || a.Duplicate.ID != id(dup.id) || a.Duplicate.State != dup.state):
			r.Fatalf("Submit: item %d = %+v, want the task of seq %d", i, a, dup.seq)
		}
	}
}

func (w *walk) start(r *rapid.T) {
	n, attempt := drawID(r), rapid.IntRange(0, 3).Draw(r, "attempt")
	worker := fmt.Sprint("w", attempt)
	out, err := w.st.Start(w.t.Context(), w.epoch, []store.StartReq{{ID: id(n), Attempt: attempt, Worker: worker}})
	want := w.ref.find(n).start(attempt, worker)
	if err != nil || !errors.Is(out[0].Err, want) {
		r.Fatalf("Start(%d, %d) = %+v, %v, want %v", n, attempt, out, err, want)
	}
	if want == nil && string(out[0].Body) != fmt.Sprint("sealed ", n) {
		r.Fatalf("Start(%d) = body %q", n, out[0].Body)
	}
}

func (w *walk) mark(r *rapid.T) {
	n, attempt := drawID(r), rapid.IntRange(0, 3).Draw(r, "attempt")
	out, err := w.st.Mark(w.t.Context(), w.epoch, []store.MarkReq{{ID: id(n), Attempt: attempt}})
	if want := w.ref.find(n).mark(attempt); err != nil || !errors.Is(out[0], want) {
		r.Fatalf("Mark(%d, %d) = %v, %v, want %v", n, attempt, out, err, want)
	}
}

func (w *walk) complete(r *rapid.T) {
	n, attempt := drawID(r), rapid.IntRange(0, 3).Draw(r, "attempt")
	to := rapid.SampledFrom([]store.State{store.Completed, store.Failed, store.Cancelled}).Draw(r, "to")
	code := rapid.SampledFrom([]string{"", "X"}).Draw(r, "code")
	output := rapid.SampledFrom([]string{"", "out", "other"}).Draw(r, "output")
	q := store.Completion{ID: id(n), Attempt: attempt, State: to, Outcome: store.Outcome{Code: code}, Output: []byte(output)}
	out, err := w.st.Complete(w.t.Context(), w.epoch, []store.Completion{q})
	if want := w.ref.find(n).complete(attempt, to, code, output); err != nil || !errors.Is(out[0], want) {
		r.Fatalf("Complete(%d, %d, %s, %q) = %v, %v, want %v", n, attempt, to, code, out, err, want)
	}
}

func (w *walk) cancel(r *rapid.T) {
	n, reason := drawID(r), rapid.SampledFrom([]string{"client", "deadline"}).Draw(r, "reason")
	out, err := w.st.Cancel(w.t.Context(), w.epoch, []store.CancelReq{{ID: id(n), Reason: reason}})
	if err != nil {
		r.Fatalf("Cancel(%d) = %v", n, err)
	}
	ref := w.ref.find(n)
	if ref == nil {
		if !errors.Is(out[0].Err, store.ErrNotFound) {
			r.Fatalf("Cancel(%d) = %+v, want ErrNotFound", n, out[0])
		}
		return
	}
	if ref.cancel(reason); out[0].Err != nil || out[0].State != ref.state {
		r.Fatalf("Cancel(%d) = %+v, want %s", n, out[0], ref.state)
	}
}

// void writes in a term that is over; compare sees whether anything changed.
func (w *walk) void(r *rapid.T) {
	n, old := drawID(r), w.epoch-1
	_, err := w.st.Submit(w.t.Context(), old, []store.NewTask{task(n)})
	_, err2 := w.st.Start(w.t.Context(), old, []store.StartReq{{ID: id(n), Attempt: 9}})
	_, err3 := w.st.Complete(w.t.Context(), old, []store.Completion{{ID: id(n), State: store.Failed}})
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, store.ErrFenced) {
			r.Fatalf("write in term %d during %d = %v, want ErrFenced", old, w.epoch, err)
		}
	}
}

func (w *walk) purge(r *rapid.T) {
	got, err := w.st.Purge(w.t.Context(), w.epoch, time.Now().Add(time.Hour), store.MaxPage)
	before := len(w.ref.tasks)
	w.ref.tasks = slices.DeleteFunc(w.ref.tasks, func(t refTask) bool { return t.state.Terminal() })
	if want := before - len(w.ref.tasks); err != nil || got != want {
		r.Fatalf("Purge() = %d, %v, want %d", got, err, want)
	}
}

// subject is person(n), and nobody for 0.
func subject(n byte) store.SubjectRef {
	if n == 0 {
		return store.SubjectRef{}
	}
	return person(n)
}

func (w *walk) erase(r *rapid.T) {
	n := byte(rapid.IntRange(1, 2).Draw(r, "subject"))
	var want store.Erased
	live := false
	for _, t := range w.ref.tasks {
		live = live || t.subject == n && !t.state.Terminal()
	}
	for i := range w.ref.tasks {
		if t := &w.ref.tasks[i]; t.subject == n && !live {
			want.Tasks++
			if t.output != "" {
				want.Outputs++
			}
			t.subject, t.key, t.content, t.output = 0, "", 0, "" // content 0 has the zero hash
		}
	}
	got, err := w.st.Erase(w.t.Context(), w.epoch, person(n))
	if got != want || live != errors.Is(err, store.ErrTransition) || !live && err != nil {
		r.Fatalf("Erase(%d) = %+v, %v, want %+v, a live task %t", n, got, err, want, live)
	}
}

func (w *walk) purgeOutputs(r *rapid.T) {
	want := 0
	for i := range w.ref.tasks {
		if t := &w.ref.tasks[i]; t.output != "" {
			t.output = ""
			want++
		}
	}
	if got, err := w.st.PurgeOutputs(w.t.Context(), w.epoch, time.Now().Add(time.Hour), store.MaxPage); err != nil || got != want {
		r.Fatalf("PurgeOutputs() = %d, %v, want %d", got, err, want)
	}
}

// drawExpect returns the present version or a stale one.
func (w *walk) drawExpect(r *rapid.T, key string) store.Version {
	present := w.ref.docs[key].version
	return rapid.SampledFrom([]store.Version{present, present, 0, present + 1}).Draw(r, "expect")
}

func (w *walk) put(r *rapid.T) {
	key, data := rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(r, "key"), rapid.StringN(0, 3, -1).Draw(r, "data")
	expect := w.drawExpect(r, key)
	v, err := w.st.PutDoc(w.t.Context(), store.Doc{Kind: store.KindInstall, Key: key, Data: []byte(data)}, expect)
	if expect != w.ref.docs[key].version {
		if !errors.Is(err, store.ErrVersion) {
			r.Fatalf("PutDoc(%q, %d) = %v, want ErrVersion", key, expect, err)
		}
		return
	}
	if err != nil || v <= w.ref.docs[key].version {
		r.Fatalf("PutDoc(%q, %d) = %d, %v", key, expect, v, err)
	}
	w.ref.docs[key] = refDoc{data, v}
}

func (w *walk) remove(r *rapid.T) {
	key := rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(r, "key")
	expect := w.drawExpect(r, key)
	err := w.st.DeleteDoc(w.t.Context(), store.KindInstall, key, expect)
	if present := w.ref.docs[key].version; present != 0 && present != expect {
		if !errors.Is(err, store.ErrVersion) {
			r.Fatalf("DeleteDoc(%q, %d) = %v, want ErrVersion", key, expect, err)
		}
		return
	}
	if err != nil {
		r.Fatalf("DeleteDoc(%q, %d) = %v", key, expect, err)
	}
	delete(w.ref.docs, key)
}

// compare reads everything back after every step.
func (w *walk) compare(r *rapid.T) {
	page, err := w.st.Tasks(w.t.Context(), store.Filter{Oldest: true, Limit: store.MaxPage})
	if err != nil || len(page) != len(w.ref.tasks) {
		r.Fatalf("Tasks() = %d tasks, %v, want %d", len(page), err, len(w.ref.tasks))
	}
	for i, got := range page {
		want := w.ref.tasks[i]
		have := refTask{
			id: want.id, content: want.content, subject: got.Subject[15], tenant: got.Tenant, key: got.IdemKey, seq: got.Seq, state: got.State, attempt: got.Attempt,
			emitted: got.Emitted, reason: got.CancelReason, code: got.Outcome.Code, worker: got.Worker, output: want.output,
		}
		if have != want || got.ID != id(want.id) || got.BodyHash != hash(want.content) || got.Finished.IsZero() == got.State.Terminal() {
			r.Fatalf("task %d of the page = %+v, want %+v", i, got, want)
		}
		out, err := w.st.Output(w.t.Context(), got.ID)
		if string(out) != want.output || (want.output == "") != errors.Is(err, store.ErrNotFound) {
			r.Fatalf("Output(%d) = %q, %v, want %q", want.id, out, err, want.output)
		}
	}
	n := 0
	for d, err := range w.st.Docs(w.t.Context(), store.KindInstall, "") {
		if want := w.ref.docs[d.Key]; err != nil || string(d.Data) != want.data || d.Version != want.version {
			r.Fatalf("document %q = %+v, %v, want %+v", d.Key, d, err, want)
		}
		n++
	}
	if n != len(w.ref.docs) {
		r.Fatalf("%d documents, want %d", n, len(w.ref.docs))
	}
}
