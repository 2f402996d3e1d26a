package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

func claimsDurability(t testing.TB, s suite) {
	if got := s.begin(t).Durable(); got != s.caps.Durable {
		t.Errorf("Durable() = %t, want %t", got, s.caps.Durable)
	}
}

func termsRise(t testing.TB, s suite) {
	c := s.begin(t)
	for range 5 {
		before := c.epoch
		if before == 0 {
			t.Fatal("a term has epoch 0")
		}
		l, err := c.Lead(c.ctx, store.LeaseRequest{Holder: "another"})
		if err != nil || l.Epoch <= before || l.Holder != "another" {
			t.Fatalf("Lead() = %+v, %v, want an epoch above %d", l, err, before)
		}
		c.epoch = l.Epoch
		c.submit(task(int(l.Epoch)))
		if got := c.record(int(l.Epoch)).Epoch; got != l.Epoch {
			t.Errorf("record of term %d says epoch %d", l.Epoch, got)
		}
	}
}

func restored(t testing.TB, s suite) {
	c := s.begin(t)
	present := c.epoch
	lead := func(q store.LeaseRequest) (store.Lease, error) {
		q.Holder, q.URL = "another", "https://replica-2.example"
		return c.Lead(c.ctx, q)
	}
	_, err := lead(store.LeaseRequest{Seen: present + 1})
	c.want("Lead behind what was seen", err, store.ErrRestored)
	for _, force := range []bool{false, true} {
		_, err = lead(store.LeaseRequest{Seen: 1<<62 + 1, Force: force})
		c.want("Lead with an epoch that can not be", err, store.ErrInvalid)
	}
	c.submit(task(1)) // the refused calls left the term as it was
	l, err := lead(store.LeaseRequest{Seen: present})
	if err != nil || l.Epoch <= present || l.Holder != "another" || l.URL != "https://replica-2.example" || !l.Expires.IsZero() && !l.Expires.After(time.Now()) {
		t.Fatalf("Lead() = %+v, %v, want a term of its holder above %d", l, err, present)
	}
	seen := l.Epoch + 5
	_, err = lead(store.LeaseRequest{Seen: seen})
	c.want("Lead behind what was seen", err, store.ErrRestored)
	l, err = lead(store.LeaseRequest{Seen: seen, Force: true})
	if err != nil || l.Epoch <= seen {
		t.Fatalf("forced Lead() = %+v, %v, want an epoch above %d", l, err, seen)
	}
	c.epoch = l.Epoch
	c.submit(task(2))
	if l, err = lead(store.LeaseRequest{Seen: seen}); err != nil || l.Epoch <= c.epoch {
		t.Errorf("Lead() after the forced one = %+v, %v, want an epoch above %d", l, err, c.epoch)
	}
}

// writes are all calls that carry an epoch; each would change task 1 or 2.
func (c *session) writes(ctx context.Context, e store.Epoch) map[string]error {
	errs := make(map[string]error)
	_, errs["Submit"] = c.Submit(ctx, e, []store.NewTask{task(100)})
	_, errs["Start"] = c.Start(ctx, e, []store.StartReq{{ID: id(1), Attempt: 1}})
	_, errs["Mark"] = c.Mark(ctx, e, []store.MarkReq{{ID: id(2), Attempt: 1}})
	_, errs["Complete"] = c.Complete(ctx, e, []store.Completion{{ID: id(2), Attempt: 1, State: store.Completed}})
	_, errs["Cancel"] = c.Cancel(ctx, e, []store.CancelReq{{ID: id(1)}, {ID: id(2)}})
	_, errs["Erase"] = c.Erase(ctx, e, person(3))
	_, errs["PurgeOutputs"] = c.PurgeOutputs(ctx, e, time.Now().Add(time.Hour), 10)
	_, errs["Purge"] = c.Purge(ctx, e, time.Now().Add(time.Hour), 10)
	return errs
}

// prepareWrites makes the tasks that writes would change: 1 queued, 2 running, 3 ended.
func (c *session) prepareWrites() {
	c.t.Helper()
	c.put(1, store.Queued)
	c.put(2, store.Running)
	c.ended(3, person(3))
}

// unwritten fails unless the tasks of prepareWrites stand as they were.
func (c *session) unwritten() {
	c.t.Helper()
	c.state(1, store.Queued)
	c.state(2, store.Running)
	c.state(3, store.Failed)
	if c.record(2).Emitted {
		c.t.Error("task 2 is marked")
	}
	if c.record(3).Subject != person(3) || !c.output(3) {
		c.t.Error("task 3 is erased")
	}
	if n := len(c.all()); n != 3 {
		c.t.Errorf("store holds %d tasks, want 3", n)
	}
}

func voidTerm(t testing.TB, s suite) {
	unled := s.open(t)
	if _, err := unled.Submit(t.Context(), 0, []store.NewTask{task(1)}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("Submit before the first term = %v, want ErrFenced", err)
	}
	if err := unled.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	c := s.begin(t)
	c.prepareWrites()
	old := c.epoch
	c.lead()
	for what, e := range map[string]store.Epoch{"the term before": old, "no term": 0, "a term to come": c.epoch + 1} {
		for call, err := range c.writes(c.ctx, e) {
			if !errors.Is(err, store.ErrFenced) {
				t.Errorf("%s in %s = %v, want ErrFenced", call, what, err)
			}
		}
		c.unwritten()
	}
	if _, err := c.Submit(c.ctx, old, nil); !errors.Is(err, store.ErrFenced) {
		t.Errorf("Submit(nothing) in the term before = %v, want ErrFenced", err)
	}
	// The new term goes on with the tasks of the old one.
	c.want("Complete", c.complete(2, 1, store.Completed, ""), nil)
	if got := c.record(2).Epoch; got != c.epoch {
		t.Errorf("record says epoch %d, want that of the last write, %d", got, c.epoch)
	}
}

func endedContext(t testing.TB, s suite) {
	c := s.begin(t)
	c.prepareWrites()
	v, err := c.PutDoc(c.ctx, store.Doc{Kind: store.KindInstall, Key: "k"}, 0)
	c.want("PutDoc", err, nil)
	cause := c.ctx
	ctx, cancel := context.WithCancel(cause)
	cancel()
	errs := c.writes(ctx, c.epoch)
	_, errs["PutDoc"] = c.PutDoc(ctx, store.Doc{Kind: store.KindInstall, Key: "k", Data: []byte("x")}, v)
	errs["DeleteDoc"] = c.DeleteDoc(ctx, store.KindInstall, "k", v)
	_, errs["Lead"] = c.Lead(ctx, store.LeaseRequest{})
	_, errs["Task"] = c.Task(ctx, id(1))
	_, errs["Tasks"] = c.Tasks(ctx, store.Filter{})
	_, errs["Output"] = c.Output(ctx, id(1))
	_, errs["Doc"] = c.Doc(ctx, store.KindInstall, "k")
	for _, err := range c.Docs(ctx, store.KindInstall, "") {
		errs["Docs"] = err
	}
	for call, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context = %v, want context.Canceled", call, err)
		}
	}
	c.unwritten()
	if d, err := c.Doc(c.ctx, store.KindInstall, "k"); err != nil || d.Version != v || len(d.Data) != 0 {
		t.Errorf("Doc() = %+v, %v, want it unchanged", d, err)
	}
	c.submit(task(4)) // the term goes on too
}

func closed(t testing.TB, s suite) {
	c := s.begin(t)
	c.prepareWrites()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatalf("Close() = %v", err)
		}
	}
	errs := c.writes(c.ctx, c.epoch)
	_, errs["Submit(nothing)"] = c.Submit(c.ctx, c.epoch, nil)
	_, errs["PutDoc"] = c.PutDoc(c.ctx, store.Doc{Kind: store.KindInstall, Key: "k"}, 0)
	errs["DeleteDoc"] = c.DeleteDoc(c.ctx, store.KindInstall, "k", 1)
	_, errs["Lead"] = c.Lead(c.ctx, store.LeaseRequest{})
	_, errs["Task"] = c.Task(c.ctx, id(1))
	_, errs["Tasks"] = c.Tasks(c.ctx, store.Filter{})
	_, errs["Output"] = c.Output(c.ctx, id(1))
	_, errs["Doc"] = c.Doc(c.ctx, store.KindInstall, "k")
	for _, err := range c.Docs(c.ctx, store.KindInstall, "") {
		errs["Docs"] = err
	}
	for call, err := range errs {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close = %v, want ErrClosed", call, err)
		}
	}
}
