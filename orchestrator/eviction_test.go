package orchestrator_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// full serves a queue of a capacity in front of a worker without a free slot.
func full(t *testing.T, st store.Store, seen *seen, q queue.Config) *orchestrator.Orchestrator {
	t.Helper()
	list := newPools()
	list.list = []*placement.Worker{fake("a", 0)}
	o, _ := serve(t, orchestrator.Config{Pools: list, Store: st, Observer: seen, Queue: q})
	return o
}

// TestVictimToldOnce: whoever makes room in a full queue has one terminal event
// that names the policy, a record that says the same, and one end in the
// observer's count; nobody else ends (ORC-202).
func TestVictimToldOnce(t *testing.T) {
	for _, c := range []struct {
		policy queue.Policy
		victim int // of four batch tasks, by arrival
		code   taskapi.Code
	}{{queue.DropLRU, 0, taskapi.QueueFullDropLRU}, {queue.Shed, 3, taskapi.AdmissionReject}} {
		synctest.Test(t, func(t *testing.T) {
			st, seen := store.NewMemory(), new(seen)
			o := full(t, st, seen, queue.Config{Capacity: 4, Policy: c.policy})
			var ids []orchestrator.TaskID
			for range 4 {
				acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Class: queue.Batch}))
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, acc.ID)
			}
			if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Class: queue.Interactive})); err != nil {
				t.Fatalf("%s: the newcomer was refused: %v", c.policy, err)
			}
			all, got := ends(t, o, ids[c.victim])
			if got != string(c.code) || types(all) != "queued error" {
				t.Errorf("%s: the victim read %s with %q, want queued error with %s", c.policy, types(all), got, c.code)
			}
			n, last := count[observe.Finished](seen)
			if n != 1 || last.Task != ids[c.victim].String() || last.Code != string(c.code) {
				t.Errorf("%s: %d ends, last %+v", c.policy, n, last)
			}
			if rec, err := st.Task(t.Context(), ids[c.victim]); err != nil || rec.State != store.Failed || rec.Outcome.Code != string(c.code) {
				t.Errorf("%s: the record says %s %q, %v", c.policy, rec.State, rec.Outcome.Code, err)
			}
			if err := o.Cancel(t.Context(), me, ids[c.victim]); err != nil {
				t.Errorf("%s: Cancel of a victim = %v, want nil", c.policy, err)
			}
		})
	}
}

// TestOneQueueLimit: the bound is exact on the way through the whole engine
// (ORC-201).
func TestOneQueueLimit(t *testing.T) {
	for _, capacity := range []int{1, 10, 512} {
		synctest.Test(t, func(t *testing.T) {
			o := full(t, store.NewMemory(), new(seen), queue.Config{Capacity: capacity})
			for i := range capacity {
				if acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Ephemeral: i%2 == 0})); err != nil || acc.Position != i {
					t.Fatalf("task %d of %d: position %d, %v", i, capacity, acc.Position, err)
				}
			}
			for range 3 {
				if _, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{Class: queue.Batch})); !errors.Is(err, taskapi.QueueFull) {
					t.Errorf("one above %d = %v, want QUEUE_FULL", capacity, err)
				}
			}
		})
	}
}

// TestCapacityZero: a queue that rejects all rejects also what could run at once.
func TestCapacityZero(t *testing.T) {
	inBubble(t, orchestrator.Config{Queue: queue.Config{Capacity: queue.RejectAll}}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		if _, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{})); !errors.Is(err, taskapi.QueueFull) {
			t.Errorf("Submit = %v, want QUEUE_FULL", err)
		}
		if got := b.engines[0].Stats().Arrived; got != 0 {
			t.Errorf("%d requests reached the engine", got)
		}
	})
}

// TestFullTaskID: ids that differ in one bit anywhere are two tasks (ORC-200).
func TestFullTaskID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := full(t, store.NewMemory(), new(seen), queue.Config{Capacity: queue.Unbounded})
		seen := map[orchestrator.TaskID]bool{}
		for bit := range 128 {
			id := orchestrator.TaskID{0: 1, 15: 1}
			id[bit/8] ^= 1 << (bit % 8)
			acc, err := o.Submit(t.Context(), me, fill(orchestrator.Spec{ID: id}))
			if err != nil || acc.ID != id || acc.Duplicate || seen[id] {
				t.Fatalf("bit %d: %+v, %v", bit, acc, err)
			}
			seen[id] = true
		}
		n := 0
		for task, err := range o.Tasks(t.Context(), me, orchestrator.Filter{Limit: 1000}) {
			if err != nil || !seen[task.ID] {
				t.Errorf("Tasks shows %v, %v", task.ID, err)
			}
			n++
		}
		if n != 128 {
			t.Errorf("%d tasks, want 128", n)
		}
	})
}

// TestUnknownIs404: no call makes up a task that never was.
func TestUnknownIs404(t *testing.T) {
	inBubble(t, orchestrator.Config{}, []workertest.Config{{}}, func(t *testing.T, b *bench) {
		b.read(b.submit(orchestrator.Spec{}).ID, 0)
		never := orchestrator.TaskID{1, 2, 3}
		if _, err := b.Task(t.Context(), me, never); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("Task = %v, want NOT_FOUND", err)
		}
		if err := b.Cancel(t.Context(), me, never); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("Cancel = %v, want NOT_FOUND", err)
		}
		if _, err := b.Explain(t.Context(), me, never); !errors.Is(err, taskapi.NotFound) {
			t.Errorf("Explain = %v, want NOT_FOUND", err)
		}
		n := 0
		for _, err := range b.Events(t.Context(), me, never, 0) {
			if n++; !errors.Is(err, taskapi.NotFound) {
				t.Errorf("Events = %v, want NOT_FOUND", err)
			}
		}
		if n != 1 {
			t.Errorf("Events yielded %d times, want one error", n)
		}
	})
}

// TestColdBurstSpreads: 40 arrivals at one instant spread over equal workers
// before any of them answered (ORC-400).
func TestColdBurstSpreads(t *testing.T) {
	cfgs := []workertest.Config{{Slots: 20}, {Slots: 20}, {Slots: 20}, {Slots: 20}}
	inBubble(t, orchestrator.Config{}, cfgs, func(t *testing.T, b *bench) {
		for _, w := range b.pools.list {
			w := *w
			w.SlotsTotal = 20
			b.pools.list[int(w.Key.Worker[0]-'a')] = &w
		}
		b.pools.set(b.pools.list...)
		synctest.Wait()
		errs := make(chan error, 40)
		for range 40 {
			go func() {
				_, err := b.Submit(t.Context(), me, fill(orchestrator.Spec{Keep: true}))
				errs <- err
			}()
		}
		for range 40 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		for i, e := range b.engines {
			if got := e.Stats().Arrived; got != 10 {
				t.Errorf("engine %d got %d of 40, want 10", i, got)
			}
		}
		b.checkIdle()
	})
}
