package orchestrator_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// after reads what follows an id.
func after(t *testing.T, o *orchestrator.Orchestrator, id orchestrator.TaskID, last uint64) []orchestrator.Event {
	t.Helper()
	var all []orchestrator.Event
	for e, err := range o.Events(t.Context(), me, id, last) {
		if err != nil {
			t.Fatalf("Events after %d: %v", last, err)
		}
		all = append(all, e)
	}
	return all
}

// TestResumeAfterCrash: a reader who comes back after a crash, with an id that
// the record knows nothing of, still gets the one terminal event, with a higher
// id; so does the reader of a task that was cancelled while it waited. Such ends
// are observed like all others (ORC-502, ORC-654, ORC-882).
func TestResumeAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, heard := new(workertest.Net), new(seen)
		e := start(t, net, workertest.Config{Tokens: 200})
		cfg := orchestrator.Config{
			Pools: newPools(e), Workers: dialer(t, net), Store: durable{store.NewMemory()}, SealKeys: [][]byte{make([]byte, 32)}, Timing: orchestrator.Timing{Drain: -1},
		}
		first, _ := serve(t, cfg)
		var ids []orchestrator.TaskID
		for range 3 { // two run, one waits
			acc, err := first.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 200, Keep: true}))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, acc.ID)
		}
		for e := range first.Events(t.Context(), me, ids[0], 0) {
			if e.ID == 7 {
				break
			}
		}
		if err := first.Cancel(t.Context(), me, ids[2]); err != nil {
			t.Fatal(err)
		}
		cfg.Observer = heard
		second, _ := serve(t, cfg) // takes the lead: what the first one does is as lost as after a crash
		for _, c := range []struct {
			id   orchestrator.TaskID
			last uint64
			want taskapi.Code
		}{{ids[0], 7, taskapi.WorkerReset}, {ids[0], 0, taskapi.WorkerReset}, {ids[2], 1, taskapi.Cancelled}} {
			all := after(t, second, c.id, c.last)
			if len(all) != 1 || all[0].ID != c.last+1 || code(t, all) != c.want {
				t.Errorf("after %d: %s, want one error with id %d and code %s", c.last, types(all), c.last+1, c.want)
			}
		}
		for _, err := range second.Events(t.Context(), me, ids[0], 1<<64-1) {
			if !errors.Is(err, taskapi.InvalidParams) {
				t.Errorf("after the last id there is = %v, want INVALID_PARAMS", err)
			}
		}
		if n, last := count[observe.Finished](heard); n < 2 || last.Code != string(taskapi.WorkerReset) || last.Model != "sim-8b" {
			t.Errorf("%d ends were observed, the last is %+v; want those of the two streaming tasks", n, last)
		}
	})
}

// TestCancelReason: the store keeps why a task was cancelled (ORC-561).
func TestCancelReason(t *testing.T) {
	inBubble(t, orchestrator.Config{Streams: orchestrator.Streams{Grace: -1}}, []workertest.Config{{Tokens: 500}}, func(t *testing.T, b *bench) {
		for _, want := range []string{"disconnect", "client"} {
			id := b.submit(orchestrator.Spec{MaxTokens: 500}).ID
			if want == "disconnect" {
				for range b.Events(t.Context(), me, id, 0) {
					break
				}
			} else {
				synctest.Wait()
				if err := b.Cancel(t.Context(), me, id); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			b.checkIdle()
			if task, err := b.Task(t.Context(), me, id); err != nil || task.Status != "cancelled" || task.CancelReason != want {
				t.Errorf("Task = %s %q, %v, want cancelled %q", task.Status, task.CancelReason, err, want)
			}
		}
	})
}

// TestStartedWithoutToken: an empty answer has a beginning too (ORC-500).
func TestStartedWithoutToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := adapter{func(context.Context, worker.Target, *worker.Job) (worker.Stream, error) { return tokens(0), nil }}
		o, _ := serve(t, orchestrator.Config{Pools: over(fake("a", 1)), Workers: a})
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		if all, c := ends(t, o, acc.ID); c != "" || types(all) != "started end" {
			t.Errorf("an empty answer shows %s, code %q", types(all), c)
		}
	})
}

// stuck is a store whose Complete waits and then fails.
type stuck struct {
	*store.Memory
	fail chan struct{}
}

func (stuck) Durable() bool { return true }

func (s stuck) Complete(context.Context, store.Epoch, []store.Completion) ([]error, error) {
	<-s.fail
	return nil, store.ErrUnavailable
}

// TestRecoveryFails: a Run that can not recover leaves no reader waiting and no
// goroutine behind (ORC-102).
func TestRecoveryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := store.NewMemory()
		cfg := orchestrator.Config{Pools: over(fake("a", 0)), Store: durable{st}, SealKeys: [][]byte{make([]byte, 32)}, Queue: queue.Config{Capacity: 10}}
		o, stop := serve(t, cfg)
		first, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		doomed, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		lease, err := st.Lead(t.Context(), store.LeaseRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Start(t.Context(), lease.Epoch, []store.StartReq{{ID: doomed.ID, Attempt: 1}}); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Mark(t.Context(), lease.Epoch, []store.MarkReq{{ID: doomed.ID, Attempt: 1}}); err != nil {
			t.Fatal(err)
		}
		cfg.Store = stuck{st, make(chan struct{})}
		if o, err = orchestrator.New(cfg); err != nil {
			t.Fatal(err)
		}
		done, read := make(chan error, 1), make(chan struct{})
		go func() { done <- o.Run(t.Context()) }()
		synctest.Wait()
		go func() {
			defer close(read)
			for range o.Events(t.Context(), me, first.ID, 0) {
			}
		}()
		synctest.Wait()
		close(cfg.Store.(stuck).fail)
		if err := <-done; !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Run = %v, want the store's error", err)
		}
		<-read
	})
}
