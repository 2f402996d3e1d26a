package orchestrator

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// BenchmarkFlowMatrix: requests through the loop and the whole core, from submit to
// the given slot and its return, in the cells of llm-d-router's
// FlowController_PerformanceMatrix: L slots (0 = as many as anybody wants), P
// priorities (two are what there is: 8 takes both), F tenants with skewed demand, W
// callers that wait for their turn. d/s are dispatches per second.
func BenchmarkFlowMatrix(b *testing.B) {
	for _, slots := range []int{0, 1, 100} {
		for _, priorities := range []int{1, 8} {
			for _, tenants := range []int{10, 5000} {
				for _, callers := range []int{10, 5000} {
					if slots == 0 && callers > 100 || slots > 0 && callers <= slots {
						continue // nothing waits
					}
					b.Run(fmt.Sprintf("L=%d/P=%d/F=%d/W=%d", slots, priorities, tenants, callers), func(b *testing.B) {
						flow(b, slots, priorities, tenants, callers)
					})
				}
			}
		}
	}
}

// BenchmarkFlowFullPath: as llm-d-router's FullPath: 100 callers, four priorities, a
// new tenant with every request, slots for all: admit, place, release.
func BenchmarkFlowFullPath(b *testing.B) { flow(b, 0, 4, 0, 100) }

// flow runs b.N requests of callers; tenants 0: every request is of a new one.
func flow(b *testing.B, slots, priorities, tenants, callers int) {
	core, err := sched.New(sched.Config{Queue: queue.Config{Capacity: queue.Unbounded, Bytes: -1}, CancelAfter: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	if slots == 0 {
		slots = 1 << 20
	}
	var waiting [1 << 14]chan struct{} // by caller
	l := newLoop(core, nil, func(fx sched.Effect) {
		if f, ok := fx.(sched.Assign); ok {
			waiting[binary.BigEndian.Uint16(f.ID[:])] <- struct{}{}
		}
	}, func(*sched.Core, time.Duration) {})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	l.post(sched.Workers{List: []*placement.Worker{{
		Key: placement.Key{Node: "n", Pool: "p", Worker: "w"}, Models: []string{"m"}, SlotsTotal: slots, Online: true, Ready: true,
	}}})
	rng := rand.New(rand.NewPCG(1, 1))
	var zipf *rand.Zipf
	if tenants > 1 {
		zipf = rand.NewZipf(rng, 1.1, 1, uint64(tenants-1))
	}
	demand := make([]uint32, 1<<15)
	for i := range demand {
		if zipf != nil {
			demand[i] = uint32(zipf.Uint64())
		}
	}
	var caller, fresh atomic.Uint32
	b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		me := caller.Add(1)
		turn := make(chan struct{}, 1)
		waiting[me] = turn
		var id queue.ID
		binary.BigEndian.PutUint16(id[:], uint16(me))
		for i := me * 9973; pb.Next(); i++ {
			tenant := demand[i%uint32(len(demand))]
			if tenants == 0 {
				tenant = fresh.Add(1)
			}
			binary.BigEndian.PutUint32(id[12:], i)
			task := sched.Task{ID: id, Need: placement.Request{Model: "m"}, Bytes: int64(100 + tenant%9000), Total: time.Hour, Ephemeral: true, Cost: 1000}
			binary.BigEndian.PutUint32(task.Tenant[:], tenant)
			if priorities > 1 {
				task.Class = queue.Class(tenant % 2)
			}
			if err := l.submit(ctx, sched.Submit{Task: task}); err != nil {
				b.Error(err)
				return
			}
			<-turn
			l.post(sched.Finished{ID: id, Attempt: 1})
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "d/s")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
