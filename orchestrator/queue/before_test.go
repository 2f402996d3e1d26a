package queue_test

import (
	"testing"

	"github.com/llorch/llorch/orchestrator/queue"
	"pgregory.net/rapid"
)

// TestBefore: the place that is foretold is the one that Push gives (ORC-216, ORC-240).
func TestBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, err := queue.New(queue.Config{Capacity: queue.Unbounded})
		if err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "items") {
			it := queue.Item{
				ID: queue.ID{byte(i)}, Tenant: queue.Tenant{byte(rapid.IntRange(0, 3).Draw(t, "tenant"))}, Class: queue.Class(rapid.IntRange(0, 1).Draw(t, "class")),
				Key: queue.KeyID(rapid.IntRange(1, 2).Draw(t, "key")), Cost: 1000, Service: 5, Due: queue.Instant(rapid.IntRange(0, 5).Draw(t, "due")),
			}
			want := q.Before(it)
			if again := q.Before(it); again != want {
				t.Fatalf("Before changed the queue: %d, then %d", want, again)
			}
			got, _, err := q.Push(queue.Instant(i), it, nil)
			if err != nil || got != want {
				t.Fatalf("Push = %d, %v; Before said %d", got, err, want)
			}
			if rapid.Bool().Draw(t, "open") {
				q.Open(it.ID)
			}
			if rapid.IntRange(0, 4).Draw(t, "pick") == 0 {
				q.Pick(queue.Instant(i), func(queue.KeyID) bool { return true })
			}
		}
	})
}
