package queue_test

import (
	"fmt"
	"testing"

	"github.com/llorch/llorch/orchestrator/queue"
)

// BenchmarkPushPick is one task through a queue of 5,000 items of ten keys and
// so many tenants. The cells of other routers are run through the whole core, by
// BenchmarkFlowMatrix of the root package.
func BenchmarkPushPick(b *testing.B) {
	for _, tenants := range []int{1, 10, 5000} {
		b.Run(fmt.Sprintf("F=%d", tenants), func(b *testing.B) {
			q, _ := queue.New(queue.Config{Capacity: queue.Unbounded})
			push := func(i int) {
				q.Push(0, queue.Item{ID: id(i), Tenant: who(i % tenants), Key: queue.KeyID(i % 10), Cost: 1000}, nil)
				q.Open(id(i))
			}
			for i := range 5000 {
				push(i)
			}
			for i := 5000; b.Loop(); i++ {
				push(i)
				q.Pick(0, always)
			}
		})
	}
}
