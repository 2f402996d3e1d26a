package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

func survivesReopening(t testing.TB, s suite) {
	if !s.caps.Durable {
		t.Skip("the store does not claim durability")
	}
	c := s.begin(t)
	stands := make(map[int]store.State)
	for n, to := range states() {
		c.put(n, to)
		stands[n] = to
		c.reopen(s)
	}
	c.submit(task(10), task(11))
	c.want("Start", c.start(10, 4).Err, nil)
	c.reopen(s)
	c.want("Mark", c.mark(10, 4), nil)
	c.want("Cancel", c.cancel(11, "deadline").Err, nil)
	v := c.put1("k", "data", 0)
	c.put1("gone", "", 0)
	c.reopen(s)
	for n, to := range stands {
		c.state(n, to)
	}
	if r := c.record(10); !r.Emitted || r.Attempt != 4 || r.Worker != "n/p/w" {
		t.Errorf("marked task after reopening = %+v", r)
	}
	if r := c.record(11); r.State != store.Cancelled || r.CancelReason != "deadline" {
		t.Errorf("cancelled task after reopening = %+v", r)
	}
	c.want("Complete", c.completeWith(store.Completion{ID: id(10), Attempt: 4, State: store.Completed, Output: []byte("out")}), nil)
	if d, err := c.Doc(c.ctx, store.KindKey, "k"); err != nil || d.Version != v || string(d.Data) != "data" {
		t.Errorf("document after reopening = %+v, %v", d, err)
	}
	gone, err := c.Doc(c.ctx, store.KindKey, "gone")
	c.want("Doc", err, nil)
	c.want("DeleteDoc", c.DeleteDoc(c.ctx, store.KindKey, "gone", gone.Version), nil)
	c.reopen(s)
	if out, err := c.Output(c.ctx, id(10)); err != nil || string(out) != "out" {
		t.Errorf("output after reopening = %q, %v", out, err)
	}
	_, err = c.Doc(c.ctx, store.KindKey, "gone")
	c.want("deleted Doc", err, store.ErrNotFound)
	if a := c.start(0, 1); string(a.Body) != "sealed 0" {
		t.Errorf("body after reopening = %q, %v", a.Body, a.Err)
	}
}

func countersSurvive(t testing.TB, s suite) {
	c := s.begin(t)
	for i := range 3 {
		epoch := c.epoch
		seq := c.submit(task(i))[0].Seq
		v := c.put1("k", "x", 0)
		c.want("DeleteDoc", c.DeleteDoc(c.ctx, store.KindKey, "k", v), nil)
		c.reopen(s)
		if c.epoch <= epoch {
			t.Errorf("epoch %d after %d", c.epoch, epoch)
		}
		if _, err := c.Submit(c.ctx, epoch, []store.NewTask{task(100)}); !errors.Is(err, store.ErrFenced) {
			t.Errorf("Submit in a term before the reopening = %v, want ErrFenced", err)
		}
		if next := c.submit(task(10 + i))[0].Seq; next <= seq {
			t.Errorf("seq %d after %d", next, seq)
		}
		next := c.put1("k", "x", 0)
		if next <= v {
			t.Errorf("version %d after %d", next, v)
		}
		c.want("DeleteDoc", c.DeleteDoc(c.ctx, store.KindKey, "k", next), nil)
	}
}

// closeWaits closes a store under 16 writers: what was acknowledged is there
// afterwards, and what was refused is not.
func closeWaits(t testing.TB, s suite) {
	c := s.begin(t)
	type outcome struct {
		n  int
		ok bool
	}
	const clients = 16
	outcomes := make(chan outcome, clients*1000)
	running := make(chan struct{}, clients)
	done := make(chan error, clients)
	old, epoch := c.Store, c.epoch
	for k := range clients {
		go func() {
			done <- func() error {
				for i := range 1000 {
					n := k*1000 + i
					out, err := old.Submit(context.WithoutCancel(c.ctx), epoch, []store.NewTask{task(n)})
					if err != nil {
						outcomes <- outcome{n, false}
						if errors.Is(err, store.ErrClosed) {
							return nil
						}
						return err
					}
					if out[0].Err != nil {
						return fmt.Errorf("item: %w", out[0].Err)
					}
					outcomes <- outcome{n, true}
					if i == 2 {
						running <- struct{}{}
					}
				}
				return nil
			}()
		}()
	}
	for range clients {
		select {
		case <-running:
		case err := <-done:
			t.Fatalf("a client ended before the close: %v", err)
		}
	}
	c.reopen(s)
	for range clients {
		if err := <-done; err != nil {
			t.Errorf("Submit while closing = %v, want nil or ErrClosed", err)
		}
	}
	close(outcomes)
	if !s.caps.Durable {
		return
	}
	for o := range outcomes {
		if _, err := c.Task(c.ctx, id(o.n)); o.ok != (err == nil) {
			t.Errorf("task %d: acknowledged %t, after reopening %v", o.n, o.ok, err)
		}
	}
}
