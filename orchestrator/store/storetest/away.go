package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

// away takes the storage away under an open store (ORC-655): nothing is
// acknowledged meanwhile, and afterwards the same term goes on.
func away(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1), task(2))
	v := c.put1("k", "one", 0)
	back := s.caps.Away(t, c.Store)
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s while the storage is away = %v, want ErrUnavailable or ErrUnknown", what, err)
		}
	}
	_, err := c.Submit(c.ctx, c.epoch, []store.NewTask{task(3)})
	refused("Submit", err)
	_, err = c.Start(c.ctx, c.epoch, []store.StartReq{{ID: id(1), Attempt: 1}})
	refused("Start", err)
	_, err = c.PutDoc(c.ctx, store.Doc{Kind: store.KindKey, Key: "k", Data: []byte("two")}, v)
	refused("PutDoc", err)
	if _, err = c.Task(c.ctx, id(1)); err != nil {
		refused("Task", err)
	}
	back()
	out, err := c.Submit(c.ctx, c.epoch, []store.NewTask{task(3)})
	if err != nil || out[0].Err != nil {
		t.Errorf("repeated Submit() = %+v, %v", out, err)
	}
	c.want("repeated Start", c.start(1, 1).Err, nil)
	if _, err := c.PutDoc(c.ctx, store.Doc{Kind: store.KindKey, Key: "k", Data: []byte("two")}, v); err != nil && !errors.Is(err, store.ErrVersion) {
		t.Errorf("repeated PutDoc() = %v", err)
	}
	for n, want := range map[int]store.State{1: store.Running, 2: store.Queued, 3: store.Queued} {
		c.state(n, want)
	}
	if d, err := c.Doc(c.ctx, store.KindKey, "k"); err != nil || string(d.Data) != "two" || len(c.all()) != 3 {
		t.Errorf("Doc() = %q, %v beside %d tasks, want the repeated one and 3", d.Data, err, len(c.all()))
	}
}

// looks is a context that ends when it is looked at for the last time allowed.
type looks struct {
	context.Context
	mu   sync.Mutex
	left int
	done chan struct{}
}

func (l *looks) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left--; l.left == -1 {
		close(l.done)
	}
}

func (l *looks) Done() <-chan struct{} { l.look(); return l.done }

func (l *looks) Err() error {
	l.look()
	select {
	case <-l.done:
		return context.Canceled
	default:
		return nil
	}
}

// everyLook ends contexts at the first look that a call takes at them, at the
// second, and so on through all its statements.
func everyLook(t testing.TB, s suite) {
	c := s.begin(t)
	for n := range 12 {
		ctx := func() context.Context { return &looks{Context: c.ctx, left: n, done: make(chan struct{})} }
		call := func(what string, err error, did bool) bool {
			t.Helper()
			if did != (err == nil) && !errors.Is(err, store.ErrUnknown) || err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s with %d looks = %v, written %t", what, n, err, did)
			}
			return did
		}
		is := func(to store.State) bool { r, _ := c.Store.Task(c.ctx, id(n)); return r.State == to }
		_, err := c.Submit(ctx(), c.epoch, []store.NewTask{owned(n, person(byte(n)))})
		if !call("Submit", err, is(store.Queued)) {
			c.submit(owned(n, person(byte(n))))
		}
		_, err = c.Start(ctx(), c.epoch, []store.StartReq{{ID: id(n), Attempt: 1}})
		if !call("Start", err, is(store.Running)) {
			c.want("Start", c.start(n, 1).Err, nil)
		}
		_, err = c.Mark(ctx(), c.epoch, []store.MarkReq{{ID: id(n), Attempt: 1}})
		call("Mark", err, c.record(n).Emitted)
		_, err = c.Cancel(ctx(), c.epoch, []store.CancelReq{{ID: id(n)}})
		call("Cancel", err, is(store.Cancelling))
		end := store.Completion{ID: id(n), Attempt: 1, State: store.Failed, Output: []byte("out")}
		_, err = c.Complete(ctx(), c.epoch, []store.Completion{end})
		if !call("Complete", err, is(store.Failed)) {
			c.want("Complete", c.completeWith(end), nil)
		}
		_, err = c.Erase(ctx(), c.epoch, person(byte(n)))
		call("Erase", err, c.record(n).Session == "")
		_, err = c.PutDoc(ctx(), store.Doc{Kind: store.KindKey, Key: c.key(n)}, 0)
		d, _ := c.Doc(c.ctx, store.KindKey, c.key(n))
		if call("PutDoc", err, d.Version != 0) {
			err = c.DeleteDoc(ctx(), store.KindKey, c.key(n), d.Version)
			_, found := c.Doc(c.ctx, store.KindKey, c.key(n))
			call("DeleteDoc", err, errors.Is(found, store.ErrNotFound))
		}
		l, err := c.Lead(ctx(), store.LeaseRequest{})
		if call("Lead", err, err == nil); err == nil {
			c.epoch = l.Epoch
		}
	}
}

func (c *session) key(n int) string { return id(n).String() }
