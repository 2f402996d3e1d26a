package orchestrator_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// faulty is a store whose next calls of one operation fail: with ErrUnavailable
// before anything is written, with ErrUnknown after it was.
type faulty struct {
	*store.Memory
	mu    sync.Mutex
	op    string
	err   error
	times int
}

// plant lets the next n calls of op fail with err.
func (f *faulty) plant(op string, err error, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.op, f.err, f.times = op, err, n
}

// left returns how many planted errors nobody met.
func (f *faulty) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times
}

func (f *faulty) next(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.op != op || f.times == 0 {
		return nil
	}
	f.times--
	return f.err
}

// planted runs call, before or instead of which the planted error happens.
func planted[T any](f *faulty, op string, call func() (T, error)) (T, error) {
	var none T
	switch err := f.next(op); {
	case err == nil:
		return call()
	case errors.Is(err, store.ErrUnknown): // it was written, but nobody heard so
		_, _ = call()
		return none, err
	default:
		return none, err
	}
}

func (f *faulty) Submit(ctx context.Context, e store.Epoch, b []store.NewTask) ([]store.Submitted, error) {
	return planted(f, "submit", func() ([]store.Submitted, error) { return f.Memory.Submit(ctx, e, b) })
}

func (f *faulty) Start(ctx context.Context, e store.Epoch, b []store.StartReq) ([]store.Started, error) {
	return planted(f, "start", func() ([]store.Started, error) { return f.Memory.Start(ctx, e, b) })
}

func (f *faulty) Mark(ctx context.Context, e store.Epoch, b []store.MarkReq) ([]error, error) {
	return planted(f, "mark", func() ([]error, error) { return f.Memory.Mark(ctx, e, b) })
}

func (f *faulty) Complete(ctx context.Context, e store.Epoch, b []store.Completion) ([]error, error) {
	return planted(f, "complete", func() ([]error, error) { return f.Memory.Complete(ctx, e, b) })
}

func (f *faulty) Cancel(ctx context.Context, e store.Epoch, b []store.CancelReq) ([]store.CancelState, error) {
	return planted(f, "cancel", func() ([]store.CancelState, error) { return f.Memory.Cancel(ctx, e, b) })
}

// TestFaultyStore: a store that fails one operation once, or for a while,
// neither loses an accepted task nor runs it twice (G1, G3, ORC-404). The
// record and the stream tell the same end.
func TestFaultyStore(t *testing.T) {
	for _, c := range []struct {
		op    string
		err   error
		times int
		code  taskapi.Code // of the end; "" = completed
	}{
		{"start", store.ErrUnavailable, 1, ""},
		{"start", store.ErrUnknown, 1, ""},
		{"start", store.ErrUnavailable, 9, taskapi.StoreUnavailable},
		{"start", store.ErrUnknown, 9, taskapi.StoreUnavailable},
		{"mark", store.ErrUnavailable, 1, ""},
		{"mark", store.ErrUnknown, 1, ""},
		{"complete", store.ErrUnavailable, 1, ""},
		{"complete", store.ErrUnknown, 1, ""},
		{"complete", store.ErrUnavailable, 10, ""},
		{"complete", store.ErrUnknown, 10, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			net, st := new(workertest.Net), &faulty{Memory: store.NewMemory()}
			e := start(t, net, workertest.Config{})
			o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st})
			st.plant(c.op, c.err, c.times)
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatalf("%s %v: Submit = %v", c.op, c.err, err)
			}
			all, got := ends(t, o, acc.ID)
			if got != string(c.code) {
				t.Errorf("%s %v × %d: ended with %q, want %q", c.op, c.err, c.times, got, c.code)
			}
			if tokens := len(all) - 2; c.code == "" && (types(all) != "started token end" || tokens != 20) {
				t.Errorf("%s %v: %s with %d tokens, want 20", c.op, c.err, types(all), tokens)
			}
			rec, err := st.Task(t.Context(), acc.ID)
			if err != nil || !rec.State.Terminal() || rec.Outcome.Code != string(c.code) {
				t.Errorf("%s %v × %d: the store says %s %q, %v", c.op, c.err, c.times, rec.State, rec.Outcome.Code, err)
			}
			if st.left() == c.times {
				t.Errorf("%s: nobody met the planted error", c.op)
			}
			synctest.Wait()
			if held := o.Active("n"); len(held) != 0 {
				t.Errorf("%s: slots still held: %v", c.op, held)
			}
		})
	}
}

// TestFaultySubmit: what the store did not take was not accepted and leaves
// nothing; what it took without saying so is accepted once (ORC-240, ORC-644).
func TestFaultySubmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, st := new(workertest.Net), &faulty{Memory: store.NewMemory()}
		e := start(t, net, workertest.Config{})
		o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st})
		st.plant("submit", store.ErrUnavailable, 1)
		_, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if te, ok := errors.AsType[*taskapi.Error](err); !ok || te.Code != taskapi.StoreUnavailable || !te.Retriable {
			t.Errorf("Submit = %v, want a retriable STORE_UNAVAILABLE", err)
		}
		for task := range o.Tasks(t.Context(), me, orchestrator.Filter{}) {
			t.Errorf("a refused task is listed: %v", task.ID)
		}
		st.plant("submit", store.ErrUnknown, 2)
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Key: "k"}))
		if err != nil {
			t.Fatalf("Submit with an unknown outcome = %v, want the answer of the repetition", err)
		}
		if acc.Duplicate {
			t.Errorf("our own repetition counts as a duplicate of a client")
		}
		if _, c := ends(t, o, acc.ID); c != "" {
			t.Errorf("ended with %q", c)
		}
		n := 0
		for range o.Tasks(t.Context(), me, orchestrator.Filter{}) {
			n++
		}
		if got := e.Stats().Arrived; n != 1 || got != 1 {
			t.Errorf("%d tasks, %d requests at the engine, want 1 and 1", n, got)
		}
		if st.left() != 0 {
			t.Errorf("%d planted errors were not met", st.left())
		}
	})
}

// TestFaultyCancel: a cancel that the store did not take is no success; the task
// ends nevertheless, and once.
func TestFaultyCancel(t *testing.T) {
	for _, fault := range []error{store.ErrUnavailable, store.ErrUnknown} {
		synctest.Test(t, func(t *testing.T) {
			net, st := new(workertest.Net), &faulty{Memory: store.NewMemory()}
			e := start(t, net, workertest.Config{Tokens: 500})
			o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st})
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 500}))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			st.plant("cancel", fault, 1)
			if err := o.Cancel(t.Context(), me, acc.ID); err != nil && !errors.Is(err, taskapi.StoreUnavailable) {
				t.Errorf("Cancel = %v, want nil or STORE_UNAVAILABLE", err)
			}
			if _, c := ends(t, o, acc.ID); c != string(taskapi.Cancelled) {
				t.Errorf("%v: ended with %q", fault, c)
			}
			if rec, err := st.Task(t.Context(), acc.ID); err != nil || rec.State != store.Cancelled {
				t.Errorf("%v: the store says %s, %v", fault, rec.State, err)
			}
		})
	}
}

// TestSubmitUnknown: a task that the store took while nobody heard so, however
// often it was asked, runs when the client comes back for it (G1, ORC-246).
func TestSubmitUnknown(t *testing.T) {
	for _, spec := range []orchestrator.Spec{{ID: orchestrator.TaskID{7}}, {Key: "k"}} {
		synctest.Test(t, func(t *testing.T) {
			net, st := new(workertest.Net), &faulty{Memory: store.NewMemory()}
			e := start(t, net, workertest.Config{})
			o, _ := serve(t, orchestrator.Config{Pools: newPools(e), Workers: dialer(t, net), Store: st})
			st.plant("submit", store.ErrUnknown, 5)
			if _, err := o.Submit(t.Context(), me, fill(spec)); !errors.Is(err, taskapi.StoreUnavailable) {
				t.Fatalf("Submit = %v, want STORE_UNAVAILABLE", err)
			}
			acc, err := o.Submit(t.Context(), me, fill(spec))
			if err != nil {
				t.Fatalf("Submit again = %v", err)
			}
			if _, c := ends(t, o, acc.ID); c != "" {
				t.Errorf("ended with %q", c)
			}
			if got := e.Stats().Arrived; got != 1 {
				t.Errorf("%d requests at the engine, want 1", got)
			}
		})
	}
}
