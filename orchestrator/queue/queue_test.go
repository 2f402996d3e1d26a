package queue_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

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

// model is the queue in the dullest form: a list.
type model struct {
	cap    int
	policy queue.Policy
	bytes  int64
	list   []modelItem
	seq    uint64
}

type modelItem struct {
	queue.Item
	open bool
}

func (m *model) size() (n int64) {
	for _, it := range m.list {
		n += it.Bytes
	}
	return n
}

func (m *model) push(it queue.Item) (victim *queue.Item, err error) {
	if m.index(it.ID) >= 0 {
		return nil, queue.ErrDuplicate
	}
	if len(m.list) > 0 && m.size()+it.Bytes > m.bytes {
		return nil, queue.ErrBytes
	}
	if len(m.list) >= m.cap {
		v := m.victim(it.Class)
		if v < 0 {
			return nil, queue.ErrFull
		}
		gone := m.list[v].Item
		victim = &gone
		m.list = slices.Delete(m.list, v, v+1)
	}
	m.seq++
	it.Seq = m.seq
	m.list = append(m.list, modelItem{Item: it})
	return victim, nil
}

func (m *model) victim(c queue.Class) int {
	lowest, best := queue.Class(0), -1
	for _, it := range m.list {
		if it.open {
			lowest = max(lowest, it.Class)
		}
	}
	for i, it := range m.list {
		if !it.open || it.Class != lowest {
			continue
		}
		switch m.policy {
		case queue.DropLRU:
			if lowest >= c && (best < 0 || it.Seq < m.list[best].Seq) {
				best = i
			}
		case queue.Shed:
			if lowest > c && (best < 0 || it.Seq > m.list[best].Seq) {
				best = i
			}
		}
	}
	return best
}

func (m *model) index(id queue.ID) int {
	return slices.IndexFunc(m.list, func(it modelItem) bool { return it.ID == id })
}

func (m *model) pick(openKey func(queue.KeyID) bool) (queue.Item, bool) {
	best := -1
	for i, it := range m.list {
		if !it.open || !openKey(it.Key) {
			continue
		}
		if best < 0 || cmp.Or(cmp.Compare(it.Class, m.list[best].Class), cmp.Compare(it.Seq, m.list[best].Seq)) < 0 {
			best = i
		}
	}
	if best < 0 {
		return queue.Item{}, false
	}
	it := m.list[best].Item
	m.list = slices.Delete(m.list, best, best+1)
	return it, true
}

// TestQueueModel compares the queue with a list (ORC-200, 201, 202, 214, 215, 217).
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.SampledFrom([]int{1, 2, 10, 512}).Draw(t, "capacity")
		policy := rapid.SampledFrom([]queue.Policy{queue.Reject, queue.DropLRU, queue.Shed}).Draw(t, "policy")
		m := &model{cap: capacity, policy: policy, bytes: 1000}
		q, err := queue.New(queue.Config{Capacity: capacity, Policy: policy, Bytes: 1000})
		if err != nil {
			t.Fatal(err)
		}
		anyID := rapid.IntRange(0, 30)
		var picked []queue.Item
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				it := queue.Item{
					ID: id(anyID.Draw(t, "id")), Class: queue.Class(rapid.IntRange(0, 1).Draw(t, "class")),
					Key: queue.KeyID(rapid.IntRange(1, 4).Draw(t, "key")), Bytes: int64(rapid.IntRange(0, 300).Draw(t, "bytes")),
				}
				wantVictim, wantErr := m.push(it)
				_, victims, err := q.Push(0, it, nil)
				if !errors.Is(err, wantErr) {
					t.Fatalf("Push = %v, want %v", err, wantErr)
				}
				if (wantVictim != nil) != (len(victims) == 1) || (wantVictim != nil && victims[0].Item.ID != wantVictim.ID) {
					t.Fatalf("victims = %v, want %v", victims, wantVictim)
				}
			},
			"open": func(t *rapid.T) {
				x := id(anyID.Draw(t, "id"))
				q.Open(x)
				if i := m.index(x); i >= 0 {
					m.list[i].open = true
				}
			},
			"pick": func(t *rapid.T) {
				mask := rapid.IntRange(0, 31).Draw(t, "open keys")
				openKey := func(k queue.KeyID) bool { return mask&(1<<k) != 0 }
				want, wantOK := m.pick(openKey)
				got, ok := q.Pick(0, openKey)
				if got != want || ok != wantOK {
					t.Fatalf("Pick = %v %v, want %v %v", got, ok, want, wantOK)
				}
				if ok {
					picked = append(picked, got)
				}
			},
			"return": func(t *rapid.T) {
				if len(picked) == 0 {
					t.Skip("nothing picked")
				}
				it := picked[len(picked)-1]
				picked = picked[:len(picked)-1]
				if m.index(it.ID) < 0 {
					m.list = append(m.list, modelItem{Item: it})
				}
				q.Return(it)
			},
			"remove": func(t *rapid.T) {
				x := id(anyID.Draw(t, "id"))
				i := m.index(x)
				_, ok := q.Remove(x)
				if ok != (i >= 0) {
					t.Fatalf("Remove = %v, want %v", ok, i >= 0)
				}
				if i >= 0 {
					m.list = slices.Delete(m.list, i, i+1)
				}
			},
			"": func(t *rapid.T) {
				if q.Len() != len(m.list) || q.Bytes() != m.size() {
					t.Fatalf("Len %d Bytes %d, want %d %d", q.Len(), q.Bytes(), len(m.list), m.size())
				}
				for _, it := range m.list {
					ahead := 0
					for _, o := range m.list {
						if o.Class < it.Class || (o.Class == it.Class && o.Seq < it.Seq) {
							ahead++
						}
					}
					if got, ok := q.Ahead(it.ID); !ok || got != ahead {
						t.Fatalf("Ahead = %d %v, want %d", got, ok, ahead)
					}
				}
			},
		})
	})
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
	err := queue.Config{Capacity: -7, Policy: "x", Bytes: -2}.Validate()
	if err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 3 {
		t.Errorf("Validate = %v, want three faults", err)
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
