package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/storetest"
)

// TestMemory is ORC-646: the memory store keeps the whole contract but durability.
func TestMemory(t *testing.T) {
	storetest.Run(t, func(testing.TB) store.Store { return store.NewMemory() }, storetest.Caps{})
}

func numbered(n int) store.TaskID {
	id := store.TaskID{1}
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// led returns a memory store and its term.
func led(t testing.TB) (*store.Memory, store.Epoch) {
	t.Helper()
	m := store.NewMemory()
	l, err := m.Lead(t.Context(), store.LeaseRequest{Holder: "test"})
	if err != nil {
		t.Fatalf("Lead() = %v", err)
	}
	return m, l.Epoch
}

// submit stores one task and returns the answer to it.
func submit(t testing.TB, m *store.Memory, e store.Epoch, n, body int) error {
	t.Helper()
	q := store.NewTask{Record: store.Record{ID: numbered(n), IdemKey: fmt.Sprint(n)}, Body: make([]byte, body)}
	out, err := m.Submit(t.Context(), e, []store.NewTask{q})
	if err != nil {
		t.Fatalf("Submit() = %v", err)
	}
	return out[0].Err
}

func complete(t testing.TB, m *store.Memory, e store.Epoch, n, output int) {
	t.Helper()
	out, err := m.Complete(t.Context(), e, []store.Completion{{ID: numbered(n), State: store.Failed, Output: make([]byte, output)}})
	if err != nil || out[0] != nil {
		t.Fatalf("Complete(%d) = %v, %v", n, out, err)
	}
}

// TestMemoryBound is ORC-646: 100,000 records, the tasks that ended first go
// first, live ones never.
func TestMemoryBound(t *testing.T) {
	m, e := led(t)
	const bound, more = 100_000, 5_000
	for n := range bound + more {
		if err := submit(t, m, e, n, 1); err != nil {
			t.Fatalf("Submit(%d) = %v", n, err)
		}
		if n%2 == 1 {
			complete(t, m, e, n, 0)
		}
	}
	records, log, ended := m.Held()
	if records != bound || log > bound+more || ended != (bound-more)/2 {
		t.Errorf("store holds %d records, %d and %d places, want %d records", records, log, ended, bound)
	}
	for n := range bound + more {
		gone := n%2 == 1 && n < 2*more
		if _, err := m.Task(t.Context(), numbered(n)); errors.Is(err, store.ErrNotFound) != gone {
			t.Fatalf("Task(%d) = %v, evicted %t", n, err, gone)
		}
	}
	// The idempotency key of an evicted task is free again.
	if err := submit(t, m, e, 1, 1); err != nil {
		t.Errorf("Submit() of an evicted id = %v", err)
	}
}

func TestMemoryFullOfLiveTasks(t *testing.T) {
	m, e := led(t)
	m.Limit(3, 100, 100)
	for n := range 3 {
		if err := submit(t, m, e, n, 1); err != nil {
			t.Fatalf("Submit(%d) = %v", n, err)
		}
	}
	if err := submit(t, m, e, 3, 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Submit to a full store = %v, want ErrUnavailable", err)
	}
	complete(t, m, e, 0, 0)
	if err := submit(t, m, e, 3, 1); err != nil {
		t.Errorf("Submit after an end = %v", err)
	}
}

func TestMemoryBytes(t *testing.T) {
	m, e := led(t)
	m.Limit(100, 100, 100)
	for n := range 2 {
		if err := submit(t, m, e, n, 50); err != nil {
			t.Fatalf("Submit(%d) = %v", n, err)
		}
	}
	if err := submit(t, m, e, 2, 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Submit above the bound on bodies = %v, want ErrUnavailable", err)
	}
	complete(t, m, e, 0, 60)
	complete(t, m, e, 1, 40)
	if err := submit(t, m, e, 2, 100); err != nil {
		t.Errorf("Submit after the bodies went = %v", err)
	}
	complete(t, m, e, 2, 50)
	for n, want := range []error{store.ErrNotFound, nil, nil} {
		if _, err := m.Output(t.Context(), numbered(n)); !errors.Is(err, want) {
			t.Errorf("Output(%d) = %v, want %v", n, err, want)
		}
	}
}

// TestMemoryShrinks fills and purges: the lists do not grow for ever.
func TestMemoryShrinks(t *testing.T) {
	m, e := led(t)
	m.Limit(10, 1000, 1000)
	for n := range 20_000 {
		if err := submit(t, m, e, n, 1); err != nil {
			t.Fatalf("Submit(%d) = %v", n, err)
		}
		complete(t, m, e, n, 1)
	}
	if records, log, ended := m.Held(); records != 10 || log > 2_000 || ended != 10 {
		t.Errorf("store holds %d records, %d and %d places, want 10 and little more", records, log, ended)
	}
}
