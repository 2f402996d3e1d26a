package storetest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// person returns the reference of a person that depends on n alone.
func person(n byte) store.SubjectRef { return store.SubjectRef{0: 0x0f, 15: n} }

// personKey is how the keys of a person's documents begin.
func personKey(n byte) string {
	ref := person(n)
	return hex.EncodeToString(ref[:])
}

// owned returns fullTask(n) of a person.
func owned(n int, who store.SubjectRef) store.NewTask {
	q := fullTask(n)
	q.Record.Subject, q.Record.IdemKey = who, fmt.Sprint("key ", n)
	return q
}

// ended stores owned(n) and completes it with an output.
func (c *session) ended(n int, who store.SubjectRef) {
	c.t.Helper()
	c.submit(owned(n, who))
	c.want("Complete", c.completeWith(store.Completion{ID: id(n), State: store.Failed, Outcome: store.Outcome{Code: "X"}, Output: []byte("out")}), nil)
}

func (c *session) erase(who store.SubjectRef, want store.Erased) {
	c.t.Helper()
	if got, err := c.Erase(c.ctx, c.epoch, who); err != nil || got != want {
		c.t.Errorf("Erase() = %+v, %v, want %+v", got, err, want)
	}
}

// output reports whether a task has an output.
func (c *session) output(n int) bool {
	c.t.Helper()
	out, err := c.Output(c.ctx, id(n))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		c.t.Fatalf("Output(%d) = %v", n, err)
	}
	return err == nil && len(out) > 0
}

func eraseTakes(t testing.TB, s suite) {
	c := s.begin(t)
	c.ended(1, person(1))
	c.ended(2, person(2))
	c.submit(owned(3, person(1)))
	c.want("Cancel", c.cancel(3, "operator").Err, nil)
	c.lead()
	other, want := c.record(2), []store.Record{c.record(1), c.record(3)}
	for i := range want {
		r := &want[i]
		r.Subject, r.Session, r.IdemKey, r.BodyHash, r.Meta.PromptSHA256, r.Epoch = store.SubjectRef{}, "", "", [32]byte{}, "", c.epoch
	}
	c.erase(person(1), store.Erased{Tasks: 2, Outputs: 1})
	for i, n := range []int{1, 3} {
		if got := c.record(n); !reflect.DeepEqual(got, want[i]) {
			t.Errorf("erased task =\n%+v, want\n%+v", got, want[i])
		}
	}
	if got := c.record(2); !reflect.DeepEqual(got, other) {
		t.Errorf("another person's task =\n%+v, want\n%+v", got, other)
	}
	if c.output(1) || !c.output(2) {
		t.Error("outputs: that of the person must be gone, that of another must stay")
	}
	for what, f := range map[string]store.Filter{
		"subject": {Subject: person(1)}, "key": {Tenant: want[0].Tenant, IdemKey: "key 1"},
	} {
		if n := len(c.page(f)); n != 0 {
			t.Errorf("%d tasks are found by the erased %s", n, what)
		}
	}
	if n := len(c.page(store.Filter{Session: other.Session})); n != 1 {
		t.Errorf("%d tasks are in the session, want the one of the other person", n)
	}
	// The key is free, the id is not.
	again := owned(9, person(1))
	again.Record.IdemKey = "key 1"
	c.submit(again)
	if a := c.submitOne(owned(1, person(1))); !errors.Is(a.Err, store.ErrConflict) {
		t.Errorf("Submit of an erased task's id = %+v, want ErrConflict", a)
	}
}

func eraseDocs(t testing.TB, s suite) {
	c := s.begin(t)
	mine, yours := personKey(1), personKey(2)
	put := func(k store.Kind, key string) {
		t.Helper()
		if _, err := c.PutDoc(c.ctx, store.Doc{Kind: k, Key: key, Data: []byte("personal")}, 0); err != nil {
			t.Fatalf("PutDoc() = %v", err)
		}
	}
	left := map[store.Kind][]string{store.KindKey: {mine}, store.KindErasure: {mine, mine + "/x"}, store.KindInstall: {mine}}
	gone := 0
	for _, k := range store.PersonalKinds() {
		for _, key := range []string{mine, mine + "/", mine + "/a", mine + "/\U0010ffff"} {
			put(k, key)
			gone++
		}
		left[k] = []string{yours + "/a", mine[:31], mine + "-", mine + "0", mine + ".a", "x/" + mine}
	}
	for k, keys := range left {
		for _, key := range keys {
			put(k, key)
		}
	}
	c.erase(person(1), store.Erased{Documents: gone})
	for k, want := range left {
		slices.Sort(want)
		var got []string
		for d, err := range c.Docs(c.ctx, k, "") {
			c.want("Docs", err, nil)
			got = append(got, d.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("kind %s holds %q after the erasure, want %q", k, got, want)
		}
	}
}

func eraseLive(t testing.TB, s suite) {
	c := s.begin(t)
	key := personKey(1)
	if _, err := c.PutDoc(c.ctx, store.Doc{Kind: store.KindSession, Key: key}, 0); err != nil {
		t.Fatalf("PutDoc() = %v", err)
	}
	c.ended(1, person(1))
	c.submit(owned(2, person(1)))
	before := c.record(1)
	for _, live := range []store.State{store.Queued, store.Running, store.Cancelling} {
		switch live {
		case store.Running:
			c.want("Start", c.start(2, 1).Err, nil)
		case store.Cancelling:
			c.want("Cancel", c.cancel(2, "operator").Err, nil)
		}
		got, err := c.Erase(c.ctx, c.epoch, person(1))
		if !errors.Is(err, store.ErrTransition) || got != (store.Erased{}) {
			t.Errorf("Erase with a %s task = %+v, %v, want ErrTransition", live, got, err)
		}
		if !reflect.DeepEqual(c.record(1), before) || !c.output(1) || c.record(2).Subject != person(1) {
			t.Errorf("a refused erasure changed something (%s)", live)
		}
		_, err = c.Doc(c.ctx, store.KindSession, key)
		c.want("Doc after a refused erasure", err, nil)
	}
	c.want("Complete", c.complete(2, 1, store.Cancelled, ""), nil)
	c.erase(person(1), store.Erased{Tasks: 2, Outputs: 1, Documents: 1})
}

func eraseTwice(t testing.TB, s suite) {
	c := s.begin(t)
	c.erase(person(1), store.Erased{})
	const many = 700
	batch := make([]store.NewTask, many)
	for i := range batch {
		batch[i] = owned(i, person(1))
		batch[i].Final = &store.Completion{State: store.Failed, Output: []byte("out")}
	}
	c.submit(batch...)
	c.erase(person(1), store.Erased{Tasks: many, Outputs: many})
	c.erase(person(1), store.Erased{})
	c.ended(many, person(1))
	c.erase(person(1), store.Erased{Tasks: 1, Outputs: 1})
	for _, r := range c.page(store.Filter{Limit: store.MaxPage}) {
		if r.Subject != (store.SubjectRef{}) || r.IdemKey != "" {
			t.Fatalf("task %v names its person after the erasure", r.ID)
		}
	}
	_, err := c.Erase(c.ctx, c.epoch, store.SubjectRef{})
	c.want("Erase of nobody", err, store.ErrInvalid)
}

func erasureSurvives(t testing.TB, s suite) {
	if !s.caps.Durable {
		t.Skip("the store does not claim durability")
	}
	c := s.begin(t)
	c.ended(1, person(1))
	c.ended(2, person(2))
	c.erase(person(1), store.Erased{Tasks: 1, Outputs: 1})
	if n, err := c.PurgeOutputs(c.ctx, c.epoch, time.Now().Add(time.Hour), 1); err != nil || n != 1 {
		t.Errorf("PurgeOutputs() = %d, %v, want 1", n, err)
	}
	c.reopen(s)
	if r := c.record(1); r.Subject != (store.SubjectRef{}) || r.Session != "" || c.output(1) || c.output(2) {
		t.Errorf("after reopening the task is %+v with output %t, the purged output is there: %t", r, c.output(1), c.output(2))
	}
}

func purgeOutputs(t testing.TB, s suite) {
	c := s.begin(t)
	for n := range 6 {
		c.ended(n, person(1))
	}
	c.put(6, store.Failed) // without output
	c.put(7, store.Running)
	all := c.all()
	purge := func(before time.Time, limit, want int, left ...bool) {
		t.Helper()
		if n, err := c.PurgeOutputs(c.ctx, c.epoch, before, limit); err != nil || n != want {
			t.Errorf("PurgeOutputs(limit %d) = %d, %v, want %d", limit, n, err, want)
		}
		for n, want := range left {
			if c.output(n) != want {
				t.Errorf("task %d has an output: %t, want %t", n, !want, want)
			}
		}
	}
	later := time.Now().Add(time.Hour)
	purge(all[0].Finished.Add(-time.Hour), 10, 0)
	purge(later, 0, 0, true, true, true, true, true, true)
	purge(later, 2, 2, false, false, true, true, true, true)
	purge(all[4].Finished, store.MaxPage, countBefore(all[2:6], all[4].Finished))
	purge(later, store.MaxPage, 6-2-countBefore(all[2:6], all[4].Finished), false, false, false, false, false, false)
	purge(later, store.MaxPage, 0)
	if got := c.all(); !reflect.DeepEqual(got, all) {
		t.Error("a purge of outputs changed a record")
	}
	if body := c.start(7, 1).Body; string(body) != "sealed 7" {
		t.Errorf("Start() = body %q after a purge of outputs", body)
	}
	for _, limit := range []int{-1, store.MaxPage + 1} {
		_, err := c.PurgeOutputs(c.ctx, c.epoch, later, limit)
		c.want("PurgeOutputs with that limit", err, store.ErrInvalid)
	}
}

// countBefore counts the records that finished before an instant.
func countBefore(all []store.Record, at time.Time) (n int) {
	for _, r := range all {
		if r.Finished.Before(at) {
			n++
		}
	}
	return n
}
