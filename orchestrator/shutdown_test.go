package orchestrator_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// busy is an orchestrator with two streaming tasks and two that wait.
func busy(t *testing.T, cfg orchestrator.Config) (o *orchestrator.Orchestrator, ids []orchestrator.TaskID, stop func() error) {
	t.Helper()
	net := new(workertest.Net)
	e := start(t, net, workertest.Config{Tokens: 2000})
	cfg.Pools, cfg.Workers = newPools(e), dialer(t, net)
	o, stop = serve(t, cfg)
	for range 4 {
		acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{MaxTokens: 2000, Keep: true}))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, acc.ID)
	}
	time.Sleep(2 * time.Second)
	return o, ids, stop
}

// TestShutdownMemory: with a store that forgets, running tasks finish, waiting
// ones are told SHUTTING_DOWN, and nobody new is let in (ORC-102).
func TestShutdownMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, ids, stop := busy(t, orchestrator.Config{Timing: orchestrator.Timing{Drain: 5 * time.Minute}})
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		synctest.Wait()
		if err := o.Ready(); !errors.Is(err, taskapi.ShuttingDown) {
			t.Errorf("Ready during the drain = %v", err)
		}
		if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.ShuttingDown) {
			t.Errorf("Submit during the drain = %v", err)
		}
		for i, id := range ids {
			all, c := ends(t, o, id)
			if want := []string{"", "", string(taskapi.ShuttingDown), string(taskapi.ShuttingDown)}[i]; c != want {
				t.Errorf("task %d ended with %q, want %q", i, c, want)
			}
			if i >= 2 && types(all) != "queued error" {
				t.Errorf("a task that waited shows %s, want queued error", types(all))
			}
		}
		if err := <-stopped; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// TestCutShortensDrain: Cut ends the drain at once; the streams end typed and
// retriable, with a durable store as well (ORC-102).
func TestCutShortensDrain(t *testing.T) {
	for _, early := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			st := durable{store.NewMemory()}
			o, ids, stop := busy(t, orchestrator.Config{Store: st, SealKeys: [][]byte{make([]byte, 32)}, Timing: orchestrator.Timing{Drain: 5 * time.Minute}})
			if early {
				o.Cut()
			}
			began := time.Now()
			stopped := make(chan error, 1)
			go func() { stopped <- stop() }()
			synctest.Wait()
			o.Cut()
			o.Cut()
			if err := <-stopped; err != nil {
				t.Errorf("Run = %v", err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("the stop took %v after Cut, want at once", took)
			}
			for i, id := range ids {
				rec, err := st.Task(t.Context(), id)
				want, state := string(taskapi.WorkerReset), store.Failed
				if i >= 2 {
					want, state = "", store.Queued // the next start takes it up
				}
				if err != nil || rec.Outcome.Code != want || rec.State != state {
					t.Errorf("task %d: %s %q, %v, want %s %q", i, rec.State, rec.Outcome.Code, err, state, want)
				}
			}
		})
	}
}

// TestDrainEnds: what does not finish within Timing.Drain is cut.
func TestDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, ids, stop := busy(t, orchestrator.Config{Timing: orchestrator.Timing{Drain: 3 * time.Second}})
		began := time.Now()
		if err := stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("the stop took %v, want the 3 s of the drain", took)
		}
		if _, c := ends(t, o, ids[0]); c != string(taskapi.WorkerReset) {
			t.Errorf("a stream that was cut ended with %q", c)
		}
		if err := o.Run(t.Context()); !errors.Is(err, orchestrator.ErrRunning) {
			t.Errorf("second Run = %v, want ErrRunning", err)
		}
	})
}

// TestLoopPanic: a panic in the loop ends Run with an error and leaves nobody
// waiting: what is not stored ends with INTERNAL, what is stored breaks off and
// is taken up by the next start; callers are refused (ORC-103).
func TestLoopPanic(t *testing.T) {
	for _, st := range []store.Store{store.NewMemory(), durable{store.NewMemory()}} {
		synctest.Test(t, func(t *testing.T) {
			o, err := orchestrator.New(orchestrator.Config{Pools: over(fake("a", 0)), Store: st, SealKeys: [][]byte{make([]byte, 32)}})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- o.Run(t.Context()) }()
			synctest.Wait()
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{}))
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan []orchestrator.Event, 1)
			var broke error
			go func() {
				var all []orchestrator.Event
				for e, err := range o.Events(t.Context(), me, acc.ID, 0) {
					if err == nil {
						all = append(all, e)
					}
					broke = err
				}
				read <- all
			}()
			synctest.Wait()
			o.Break()
			if err := <-done; err == nil || !strings.Contains(err.Error(), "planted") {
				t.Errorf("Run after a panic of the loop = %v", err)
			}
			all := <-read
			if got := types(all); st.Durable() && got != "queued" || !st.Durable() && (got != "queued error" || code(t, all) != taskapi.Internal) {
				t.Errorf("durable %v: the reader saw %s", st.Durable(), got)
			}
			if st.Durable() != errors.Is(broke, taskapi.ShuttingDown) {
				t.Errorf("durable %v: the stream broke off with %v", st.Durable(), broke)
			}
			if rec, err := st.Task(t.Context(), acc.ID); st.Durable() && (err != nil || rec.State != store.Queued) {
				t.Errorf("the stored task is %s, %v, want queued", rec.State, err)
			}
			if err := o.Ready(); !errors.Is(err, taskapi.ShuttingDown) {
				t.Errorf("Ready = %v", err)
			}
			if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.ShuttingDown) {
				t.Errorf("Submit = %v", err)
			}
		})
	}
}

// TestSubmitAfterLoop: who comes between the last check and the end of the loop
// is refused like everybody else (ORC-102).
func TestSubmitAfterLoop(t *testing.T) {
	if err := orchestrator.SubmitAfterEnd(); !errors.Is(err, taskapi.ShuttingDown) {
		t.Errorf("submit = %v, want SHUTTING_DOWN", err)
	}
}
