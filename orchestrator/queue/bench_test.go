package queue_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/llorch/llorch/orchestrator/queue"
)

// BenchmarkFlowMatrix counts dispatches: W clients each push a task of the next
// of F tenants and P classes and wait until it was picked; at most L tasks run
// at once (0 = no limit), a running one ends when the next event comes. The
// peer's cells of P = 8 are run with all our classes, two.
func BenchmarkFlowMatrix(b *testing.B) {
	for _, l := range []int{0, 1, 100} {
		for _, p := range []int{1, 2} {
			for _, f := range []int{10, 5000} {
				for _, w := range []int{10, 5000} {
					if (l == 0 && w > 100) || (l > 0 && w <= l) {
						continue // no queue builds up
					}
					b.Run(fmt.Sprintf("L=%d/P=%d/F=%d/W=%d", l, p, f, w), func(b *testing.B) { flow(b, l, p, f, w) })
				}
			}
		}
	}
}

// flow runs one cell: the clients' requests reach the one owner of the queue in batches.
func flow(b *testing.B, limit, classes, tenants, clients int) {
	type request struct {
		n    int
		done chan struct{}
	}
	requests := make(chan request, 1024)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			r := request{done: make(chan struct{}, 1)}
			for r.n = c; r.n < b.N; r.n += clients {
				requests <- r
				<-r.done
			}
		})
	}
	q, _ := queue.New(queue.Config{Capacity: queue.Unbounded})
	waiting := make(map[queue.ID]chan struct{}, clients)
	running := make([]chan struct{}, 0, max(limit, 1))
	take := func(r request) {
		it := queue.Item{ID: id(r.n), Tenant: who(r.n % tenants), Class: queue.Class(r.n % classes), Cost: 1000}
		q.Push(0, it, nil)
		q.Open(it.ID)
		waiting[it.ID] = r.done
	}
	b.ResetTimer()
	for picked := 0; picked < b.N; {
		if q.Empty() {
			take(<-requests)
		}
		for range min(256, len(requests)) {
			take(<-requests)
		}
		if limit > 0 && len(running) == limit {
			for _, done := range running {
				done <- struct{}{}
			}
			running = running[:0]
		}
		for limit == 0 || len(running) < limit {
			it, ok := q.Pick(0, always)
			if !ok {
				break
			}
			picked++
			done := waiting[it.ID]
			delete(waiting, it.ID)
			if limit == 0 {
				done <- struct{}{}
			} else {
				running = append(running, done)
			}
		}
		if q.Empty() {
			for _, done := range running {
				done <- struct{}{}
			}
			running = running[:0]
		}
	}
	b.StopTimer()
	for _, done := range running {
		done <- struct{}{}
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "dispatches/s")
}

// BenchmarkPushPick is one task through a queue of 5,000 with ten keys and one tenant.
func BenchmarkPushPick(b *testing.B) {
	q, _ := queue.New(queue.Config{Capacity: queue.Unbounded})
	for i := range 5000 {
		q.Push(0, queue.Item{ID: id(i), Key: queue.KeyID(i % 10)}, nil)
		q.Open(id(i))
	}
	for i := 5000; b.Loop(); i++ {
		q.Push(0, queue.Item{ID: id(i), Key: queue.KeyID(i % 10)}, nil)
		q.Open(id(i))
		q.Pick(0, always)
	}
}
