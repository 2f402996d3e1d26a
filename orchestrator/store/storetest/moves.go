package storetest

import (
	"errors"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

func startTwice(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1))
	for _, want := range []struct {
		attempt int
		err     error
		body    string
	}{
		{0, store.ErrTransition, ""},
		{-1, store.ErrTransition, ""},
		{2, nil, "sealed 1"},
		{2, nil, "sealed 1"},
		{1, store.ErrTransition, ""},
		{5, nil, "sealed 1"},
		{2, store.ErrTransition, ""},
	} {
		a := c.start(1, want.attempt)
		if !errors.Is(a.Err, want.err) || string(a.Body) != want.body {
			t.Errorf("Start(attempt %d) = %q, %v, want %q, %v", want.attempt, a.Body, a.Err, want.body, want.err)
		}
	}
	first := c.record(1)
	c.want("Start again", c.start(1, 5).Err, nil)
	if again := c.record(1); !again.Started.Equal(first.Started) || again.Attempt != 5 {
		t.Errorf("a repeated start changed the record")
	}
	c.want("Mark", c.mark(1, 5), nil)
	c.want("Start after the mark", c.start(1, 5).Err, store.ErrTransition)
	c.want("next Start after the mark", c.start(1, 6).Err, store.ErrTransition)
}

func markTwice(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1), task(2))
	c.want("Mark of a queued task", c.mark(1, 0), store.ErrTransition)
	c.want("Start", c.start(1, 2).Err, nil)
	c.want("Mark of a past attempt", c.mark(1, 1), store.ErrTransition)
	c.want("Mark of a coming attempt", c.mark(1, 3), store.ErrTransition)
	if c.record(1).Emitted {
		t.Error("a refused mark was kept")
	}
	c.want("Mark", c.mark(1, 2), nil)
	c.want("Mark again", c.mark(1, 2), nil)
	if !c.record(1).Emitted {
		t.Error("the mark is not in the record")
	}
	c.want("Cancel", c.cancel(1, "client").Err, nil)
	c.want("Mark again while cancelling", c.mark(1, 2), nil)
	c.want("Complete", c.complete(1, 2, store.Cancelled, ""), nil)
	c.want("Mark after the end", c.mark(1, 2), store.ErrTransition)

	c.want("Start", c.start(2, 1).Err, nil)
	c.want("Cancel", c.cancel(2, "client").Err, nil)
	c.want("first Mark while cancelling", c.mark(2, 1), store.ErrTransition)
	if c.record(2).Emitted {
		t.Error("a refused mark was kept")
	}
}

func completeTwice(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1))
	c.want("Start", c.start(1, 2).Err, nil)
	c.want("Complete of a past attempt", c.complete(1, 1, store.Completed, ""), store.ErrTransition)
	c.want("Complete without an attempt", c.complete(1, 0, store.Completed, ""), store.ErrTransition)
	c.want("Complete of a coming attempt", c.complete(1, 3, store.Completed, ""), store.ErrTransition)
	c.state(1, store.Running)
	end := store.Completion{ID: id(1), Attempt: 2, State: store.Failed, Outcome: store.Outcome{Code: "X", TokensOut: 4}, Output: []byte("sealed output")}
	c.want("Complete", c.completeWith(end), nil)
	first := c.record(1)
	c.want("Complete again", c.completeWith(end), nil)
	for what, q := range map[string]store.Completion{
		"another code":    {ID: id(1), Attempt: 2, State: store.Failed, Outcome: store.Outcome{Code: "Y"}},
		"another state":   {ID: id(1), Attempt: 2, State: store.Completed, Outcome: store.Outcome{Code: "X"}},
		"another attempt": {ID: id(1), Attempt: 3, State: store.Failed, Outcome: store.Outcome{Code: "X"}},
	} {
		c.want("Complete with "+what, c.completeWith(q), store.ErrTransition)
	}
	again := c.record(1)
	if again.State != store.Failed || again.Outcome.Code != "X" || again.Outcome.TokensOut != 4 || !again.Finished.Equal(first.Finished) {
		t.Errorf("an ended task changed: %+v", again)
	}
	if out, err := c.Output(c.ctx, id(1)); err != nil || string(out) != "sealed output" {
		t.Errorf("Output() = %q, %v", out, err)
	}
}

func cancelTwice(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1), task(2), task(3))
	c.want("Start", c.start(2, 1).Err, nil)
	c.want("Complete", c.complete(3, 0, store.Failed, "X"), nil)
	want := []store.State{store.Cancelled, store.Cancelling, store.Failed}
	for _, reason := range []string{"client", "deadline"} {
		for i, to := range want {
			if a := c.cancel(i+1, reason); a.Err != nil || a.State != to {
				t.Errorf("Cancel(task %d) = %+v, want %s", i+1, a, to)
			}
			c.state(i+1, to)
		}
	}
	for n, reason := range map[int]string{1: "client", 2: "client", 3: ""} {
		if r := c.record(n); r.CancelReason != reason || r.Finished.IsZero() != (n == 2) {
			t.Errorf("task %d = reason %q, finished %v, want the first reason %q", n, r.CancelReason, r.Finished, reason)
		}
	}
	c.want("Complete a cancelling task", c.complete(2, 1, store.Cancelled, ""), nil)
	c.want("Complete a cancelled task again", c.complete(1, 0, store.Cancelled, ""), nil)
	if a := c.cancel(2, "client"); a.State != store.Cancelled {
		t.Errorf("Cancel after the end = %+v, want cancelled", a)
	}
}

// movesOfTheTable tries every move from every state that a task can stand in.
func movesOfTheTable(t testing.TB, s suite) {
	c := s.begin(t)
	n := 0
	for _, from := range states() {
		for _, to := range store.States() {
			if to == store.Queued || to == store.Deleted {
				continue // no call asks for them
			}
			n++
			c.put(n, from)
			err := c.ask(n, to)
			allowed := store.CanMove(from, to) || from == to && to.Terminal() // an equal end is a repetition
			if to == store.Cancelling {
				allowed = true // Cancel has no refusal, it says where the task stands
			}
			if allowed != (err == nil) || err != nil && !errors.Is(err, store.ErrTransition) {
				t.Errorf("%s to %s = %v, allowed %t", from, to, err, allowed)
			}
			want := to
			switch {
			case err != nil || to == store.Cancelling && from.Terminal():
				want = from
			case to == store.Cancelling && from == store.Queued:
				want = store.Cancelled
			}
			c.state(n, want)
		}
	}
}

// states are those that a stored task stands in.
func states() []store.State {
	return []store.State{store.Queued, store.Running, store.Cancelling, store.Completed, store.Failed, store.Cancelled}
}

// put brings a new task into a state.
func (c *session) put(n int, to store.State) {
	c.t.Helper()
	c.submit(task(n))
	if to == store.Queued {
		return
	}
	c.want("Start", c.start(n, 1).Err, nil)
	if to == store.Cancelling || to == store.Cancelled {
		c.want("Cancel", c.cancel(n, "client").Err, nil)
	}
	if to.Terminal() {
		c.want("Complete", c.complete(n, 1, to, ""), nil)
	}
	c.state(n, to)
}

// ask asks for a move of a task that put made.
func (c *session) ask(n int, to store.State) error {
	c.t.Helper()
	attempt := c.record(n).Attempt
	switch to {
	case store.Running:
		return c.start(n, attempt+1).Err
	case store.Cancelling:
		return c.cancel(n, "client").Err
	default:
		return c.complete(n, attempt, to, "")
	}
}

func bodyAndOutput(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1), task(2), task(3))
	if _, err := c.Output(c.ctx, id(1)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Output of a queued task = %v, want ErrNotFound", err)
	}
	if a := c.start(1, 1); string(a.Body) != "sealed 1" {
		t.Errorf("Start() = %q, want the body", a.Body)
	}
	c.want("Complete", c.completeWith(store.Completion{ID: id(1), Attempt: 1, State: store.Completed, Output: []byte("out")}), nil)
	if a := c.start(1, 1); len(a.Body) != 0 || !errors.Is(a.Err, store.ErrTransition) {
		t.Errorf("Start of an ended task = %q, %v, want ErrTransition and no body", a.Body, a.Err)
	}
	if out, err := c.Output(c.ctx, id(1)); err != nil || string(out) != "out" {
		t.Errorf("Output() = %q, %v", out, err)
	}
	c.want("Complete without output", c.complete(2, 0, store.Failed, "X"), nil)
	c.want("Cancel", c.cancel(3, "client").Err, nil)
	for n := 2; n <= 4; n++ {
		if _, err := c.Output(c.ctx, id(n)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Output(task %d) = %v, want ErrNotFound", n, err)
		}
	}
}

func unknownTasks(t testing.TB, s suite) {
	c := s.begin(t)
	c.want("Start", c.start(1, 1).Err, store.ErrNotFound)
	c.want("Mark", c.mark(1, 1), store.ErrNotFound)
	c.want("Complete", c.complete(1, 1, store.Completed, ""), store.ErrNotFound)
	c.want("Cancel", c.cancel(1, "client").Err, store.ErrNotFound)
	_, err := c.Task(c.ctx, id(1))
	c.want("Task", err, store.ErrNotFound)
	_, err = c.Output(c.ctx, id(1))
	c.want("Output", err, store.ErrNotFound)
	_, err = c.Doc(c.ctx, store.KindInstall, "k")
	c.want("Doc", err, store.ErrNotFound)
	if n := len(c.all()); n != 0 {
		t.Errorf("store holds %d tasks, want none", n)
	}
}

func badArguments(t testing.TB, s suite) {
	c := s.begin(t)
	c.submit(task(1), task(2))
	for _, limit := range []int{-1, store.MaxPage + 1} {
		_, err := c.Tasks(c.ctx, store.Filter{Limit: limit})
		c.want("Tasks with that limit", err, store.ErrInvalid)
		_, err = c.Purge(c.ctx, c.epoch, c.record(1).Created, limit)
		c.want("Purge with that limit", err, store.ErrInvalid)
	}
	large := make([]byte, store.MaxOutput+1)
	c.want("Complete with a large output", c.completeWith(store.Completion{ID: id(1), State: store.Failed, Output: large}), store.ErrTooLarge)
	c.want("Complete with broken details", c.completeWith(store.Completion{ID: id(1), State: store.Failed, Outcome: store.Outcome{Details: []byte("{")}}), store.ErrInvalid)
	c.want("Complete to a state that is no end", c.complete(1, 0, store.Deleted, ""), store.ErrTransition)
	c.state(1, store.Queued)
	for what, d := range map[string]store.Doc{"kind": {Key: "k"}, "key": {Kind: store.KindInstall}} {
		_, err := c.PutDoc(c.ctx, d, 0)
		c.want("PutDoc without "+what, err, store.ErrInvalid)
	}
	_, err := c.PutDoc(c.ctx, store.Doc{Kind: store.KindInstall, Key: "k", Data: make([]byte, store.MaxDoc+1)}, 0)
	c.want("PutDoc of a large document", err, store.ErrTooLarge)
	atLimit := task(3)
	atLimit.Body = make([]byte, store.MaxBody)
	c.submit(atLimit)
	if got := len(c.start(3, 1).Body); got != store.MaxBody {
		t.Errorf("the largest body came back with %d bytes", got)
	}
}
