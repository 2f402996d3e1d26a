package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

type suite struct {
	open func(testing.TB) store.Store
	caps Caps
}

// session is an open store with a term.
type session struct {
	t testing.TB
	store.Store
	ctx   context.Context
	epoch store.Epoch
}

// begin opens a new store and leads it; the store is closed with the test.
func (s suite) begin(t testing.TB) *session {
	t.Helper()
	c := &session{t: t, Store: s.open(t), ctx: t.Context()}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	c.lead()
	return c
}

func (c *session) lead() {
	c.t.Helper()
	l, err := c.Store.Lead(c.ctx, store.LeaseRequest{Holder: "suite"})
	if err != nil {
		c.t.Fatalf("Lead() = %v", err)
	}
	c.epoch = l.Epoch
}

// reopen closes the store and goes on with the same storage in a new term.
func (c *session) reopen(s suite) {
	c.t.Helper()
	c.Store = s.caps.Reopen(c.t, c.Store)
	c.lead()
}

// id returns a task id that depends on n alone.
func id(n int) (id store.TaskID) {
	id[0] = 0xa5
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// task returns a small task whose content depends on n alone.
func task(n int) store.NewTask {
	return store.NewTask{
		Record: store.Record{ID: id(n), Tenant: "default", Class: "interactive", Model: "m", BodyHash: hash(n)},
		Body:   fmt.Appendf(nil, "sealed %d", n),
	}
}

func hash(n int) (h [32]byte) {
	binary.BigEndian.PutUint64(h[:], uint64(n))
	return h
}

// submit stores tasks that must be new.
func (c *session) submit(batch ...store.NewTask) []store.Submitted {
	c.t.Helper()
	out, err := c.Submit(c.ctx, c.epoch, batch)
	if err != nil || len(out) != len(batch) {
		c.t.Fatalf("Submit(%d tasks) = %d answers, %v", len(batch), len(out), err)
	}
	for i, a := range out {
		if a.Err != nil || a.Duplicate != nil || a.Seq == 0 {
			c.t.Fatalf("Submit: item %d = seq %d, duplicate %t, %v; want it stored", i, a.Seq, a.Duplicate != nil, a.Err)
		}
	}
	return out
}

// submitOne returns the answer for one task, whatever it is.
func (c *session) submitOne(n store.NewTask) store.Submitted {
	c.t.Helper()
	out, err := c.Submit(c.ctx, c.epoch, []store.NewTask{n})
	if err != nil || len(out) != 1 {
		c.t.Fatalf("Submit(1 task) = %d answers, %v", len(out), err)
	}
	return out[0]
}

func (c *session) start(n, attempt int) store.Started {
	c.t.Helper()
	out, err := c.Start(c.ctx, c.epoch, []store.StartReq{{ID: id(n), Attempt: attempt, Worker: "n/p/w"}})
	if err != nil || len(out) != 1 {
		c.t.Fatalf("Start(1 task) = %d answers, %v", len(out), err)
	}
	return out[0]
}

func (c *session) mark(n, attempt int) error {
	c.t.Helper()
	out, err := c.Mark(c.ctx, c.epoch, []store.MarkReq{{ID: id(n), Attempt: attempt}})
	if err != nil || len(out) != 1 {
		c.t.Fatalf("Mark(1 task) = %d answers, %v", len(out), err)
	}
	return out[0]
}

func (c *session) complete(n, attempt int, to store.State, code string) error {
	c.t.Helper()
	return c.completeWith(store.Completion{ID: id(n), Attempt: attempt, State: to, Outcome: store.Outcome{Code: code}})
}

func (c *session) completeWith(q store.Completion) error {
	c.t.Helper()
	out, err := c.Complete(c.ctx, c.epoch, []store.Completion{q})
	if err != nil || len(out) != 1 {
		c.t.Fatalf("Complete(1 task) = %d answers, %v", len(out), err)
	}
	return out[0]
}

func (c *session) cancel(n int, reason string) store.CancelState {
	c.t.Helper()
	out, err := c.Cancel(c.ctx, c.epoch, []store.CancelReq{{ID: id(n), Reason: reason}})
	if err != nil || len(out) != 1 {
		c.t.Fatalf("Cancel(1 task) = %d answers, %v", len(out), err)
	}
	return out[0]
}

// want fails unless err is the wanted one; nil wants nil.
func (c *session) want(what string, err, want error) {
	c.t.Helper()
	if !errors.Is(err, want) {
		c.t.Errorf("%s = %v, want %v", what, err, want)
	}
}

// record returns a task that must exist.
func (c *session) record(n int) store.Record {
	c.t.Helper()
	r, err := c.Store.Task(c.ctx, id(n))
	if err != nil {
		c.t.Fatalf("Task(%d) = %v", n, err)
	}
	return r
}

// state fails unless the task stands there.
func (c *session) state(n int, want store.State) {
	c.t.Helper()
	if got := c.record(n).State; got != want {
		c.t.Errorf("task %d is %s, want %s", n, got, want)
	}
}

// all returns every task, oldest first; more than one page is a fault.
func (c *session) all() []store.Record {
	c.t.Helper()
	return c.page(store.Filter{Oldest: true, Limit: store.MaxPage})
}

func (c *session) page(f store.Filter) []store.Record {
	c.t.Helper()
	page, err := c.Tasks(c.ctx, f)
	if err != nil {
		c.t.Fatalf("Tasks() = %v", err)
	}
	return page
}

// micro is the precision of every stored time.
const micro = time.Microsecond
