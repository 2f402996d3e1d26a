package orchestrator_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// shifted is a store as another clock sees it: its instants lie that much off.
type shifted struct {
	durable
	by time.Duration
}

func (s shifted) Tasks(ctx context.Context, f store.Filter) ([]store.Record, error) {
	page, err := s.Memory.Tasks(ctx, f)
	for i := range page {
		page[i].Created = page[i].Created.Add(s.by)
		if !page[i].Started.IsZero() {
			page[i].Started = page[i].Started.Add(s.by)
		}
	}
	return page, err
}

// TestClockStep (ORC-105): a wall clock that stepped by an hour while the program was
// down changes neither the order nor the time that waiting tasks have; only a
// deadline, which is a date, follows it.
func TestClockStep(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bench{t: t, net: new(workertest.Net), seen: new(seen)}
				b.engines = append(b.engines, b.net.Start(workertest.Config{Tokens: 10}))
				b.pools = newPools(b.engines...)
				closed := *b.pools.list[0]
				closed.Ready = false
				open := b.pools.list[0]
				b.pools.list[0] = &closed
				mem := store.NewMemory()
				cfg := orchestrator.Config{Store: durable{mem}, SealKeys: [][]byte{sealKey(1)}}
				b.start(cfg)
				var ids []orchestrator.TaskID
				for range 3 {
					ids = append(ids, b.submit(orchestrator.Spec{}).ID)
				}
				late := b.submit(orchestrator.Spec{Deadline: time.Now().Add(time.Minute)}).ID
				if err := b.stop(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute) // the deadline passes meanwhile
				cfg.Store = shifted{durable{mem}, by}
				b.seen = new(seen)
				b.start(cfg)
				b.pools.set(open)
				for i, id := range ids {
					events := b.read(id, 0)
					if end := events[len(events)-1]; end.Type != orchestrator.EventEnd {
						t.Errorf("task %d after a step of %v: %s %s", i, by, end.Type, end.Data)
					}
				}
				var started []time.Time
				for _, id := range ids {
					task, err := b.Task(t.Context(), me, id)
					if err != nil {
						t.Fatal(err)
					}
					started = append(started, task.Started)
				}
				if started[0].After(started[2]) {
					t.Errorf("the order changed: %v", started)
				}
				if task, err := b.Task(t.Context(), me, late); err != nil || task.Outcome.Code != string(taskapi.DeadlineUnmet) {
					t.Errorf("a deadline that is over: %s, %v", fmt.Sprint(task.Outcome.Code), err)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
				for _, e := range b.engines {
					e.Close()
				}
			})
		})
	}
}
