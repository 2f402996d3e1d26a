package queue_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/llorch/llorch/orchestrator/queue"
)

func id(n int) (out queue.ID) {
	binary.BigEndian.PutUint64(out[8:], uint64(n))
	return out
}

func always(queue.KeyID) bool { return true }

func open(t *testing.T, cfg queue.Config) *queue.Queue {
	t.Helper()
	q, err := queue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// TestOneQueueLimit: the bound is exact at 1, 10 and 512 (ORC-201).
func TestOneQueueLimit(t *testing.T) {
	for _, n := range []int{1, 10, 512} {
		q := open(t, queue.Config{Capacity: n})
		for i := range n {
			if _, _, err := q.Push(0, queue.Item{ID: id(i), Class: queue.Class(i % 2)}, nil); err != nil {
				t.Fatalf("push %d of %d: %v", i, n, err)
			}
		}
		if _, _, err := q.Push(0, queue.Item{ID: id(n)}, nil); !errors.Is(err, queue.ErrFull) {
			t.Errorf("push %d into %d = %v, want ErrFull", n, n, err)
		}
		if q.Len() != n {
			t.Errorf("Len = %d, want %d", q.Len(), n)
		}
	}
}

// TestCapacityZero: RejectAll refuses even the first (ORC-201).
func TestCapacityZero(t *testing.T) {
	q := open(t, queue.Config{Capacity: queue.RejectAll})
	if _, _, err := q.Push(0, queue.Item{ID: id(1)}, nil); !errors.Is(err, queue.ErrFull) {
		t.Errorf("Push = %v, want ErrFull", err)
	}
}

// TestFullTaskID: ids that differ only in their last byte are different tasks.
func TestFullTaskID(t *testing.T) {
	q := open(t, queue.Config{})
	a, b := queue.ID{0: 7, 15: 1}, queue.ID{0: 7, 15: 2}
	for _, x := range []queue.ID{a, b} {
		if _, _, err := q.Push(0, queue.Item{ID: x}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := q.Push(0, queue.Item{ID: a}, nil); !errors.Is(err, queue.ErrDuplicate) {
		t.Errorf("Push again = %v, want ErrDuplicate", err)
	}
}

func TestConfigFaultsTogether(t *testing.T) {
	err := queue.Config{Capacity: -7, TenantCapacity: -1, Policy: "x", Bytes: -2, AgingAfter: -2}.Validate()
	if err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 5 {
		t.Errorf("Validate = %v, want five faults", err)
	}
}

func ExampleQueue() {
	q, _ := queue.New(queue.Config{Capacity: 2, Policy: queue.Shed})
	q.Push(0, queue.Item{ID: queue.ID{1}, Class: queue.Batch}, nil)
	q.Push(0, queue.Item{ID: queue.ID{2}, Class: queue.Interactive}, nil)
	q.Open(queue.ID{1})
	q.Open(queue.ID{2})
	_, victims, _ := q.Push(0, queue.Item{ID: queue.ID{3}, Class: queue.Interactive}, nil)
	fmt.Println("shed:", victims[0].Item.ID[0])
	it, _ := q.Pick(0, always)
	fmt.Println("first:", it.ID[0], it.Class)
	// Output:
	// shed: 1
	// first: 2 interactive
}
