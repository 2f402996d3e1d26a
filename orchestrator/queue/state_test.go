package queue_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llorch/llorch/orchestrator/queue"
)

// some returns a queue with a bit of everything in it.
func some(t testing.TB) *queue.Queue {
	q, err := queue.New(queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	q.SetWeight(who(1), 3)
	for i := range 8 {
		push(t, q, queue.Item{ID: id(i), Tenant: who(i % 4), Class: queue.Class(i % 2), Key: queue.KeyID(i % 3), Cost: int64(100 * i), Arrived: queue.Instant(i)})
	}
	q.Push(9, queue.Item{ID: id(90), Tenant: who(6)}, nil)
	q.Hold(who(2), true)
	it, _ := q.Pick(10, always)
	q.Settle(it.Tenant, it.Class, 50)
	return q
}

// TestLoadRefuses: a state that no queue can have is refused, and changes nothing (ORC-124).
func TestLoadRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*queue.State){
		"id twice":          func(s *queue.State) { s.Items[1].ID = s.Items[0].ID },
		"arrival twice":     func(s *queue.State) { s.Items[1].Seq = s.Items[0].Seq },
		"arrival to come":   func(s *queue.State) { s.Items[1].Seq = s.Seq + 1 },
		"class":             func(s *queue.State) { s.Items[1].Class = 2 },
		"cost":              func(s *queue.State) { s.Items[1].Cost = -1 },
		"bytes":             func(s *queue.State) { s.Items[1].Bytes = -1 },
		"service":           func(s *queue.State) { s.Items[1].Service = 1 << 62 },
		"weight":            func(s *queue.State) { s.Tenants[0].Weight = 0 },
		"virtual time":      func(s *queue.State) { s.Tenants[0].Virtual[1] = -1 },
		"tenant twice":      func(s *queue.State) { s.Tenants[1].ID = s.Tenants[0].ID },
		"places":            func(s *queue.State) { s.Tenants[0].Places++ },
		"since to come":     func(s *queue.State) { s.Tenants[0].Since = s.Now + 1 },
		"clock":             func(s *queue.State) { s.Clocks[0] = -1 },
		"promotion":         func(s *queue.State) { s.Picks = 5 },
		"too many tenants":  func(s *queue.State) { s.Tenants = make([]queue.TenantState, 70_000) },
		"before the start":  func(s *queue.State) { s.Now = -1 },
		"tenant of nothing": func(s *queue.State) { s.Items = nil },
	} {
		q := some(t)
		was := q.State()
		s := q.State()
		spoil(&s)
		if err := q.Load(s); !errors.Is(err, queue.ErrState) {
			t.Errorf("%s: Load = %v, want ErrState", name, err)
		}
		if d := cmp.Diff(was, q.State()); d != "" {
			t.Errorf("%s: a refused state changed the queue:\n%s", name, d)
		}
	}
}

// TestLedger: weights and virtual times outlive a restart, items come back by Restore (ORC-654).
func TestLedger(t *testing.T) {
	a := some(t)
	b := open(t, queue.Config{})
	if err := b.Load(a.Ledger()); err != nil {
		t.Fatal(err)
	}
	if b.Len() != 0 {
		t.Errorf("%d items came with the ledger", b.Len())
	}
	for _, it := range a.All() {
		it = b.Restore(it)
		b.Open(it.ID)
	}
	clocks, ahead := a.State().Clocks, 0
	for _, was := range a.Tenants() {
		for c, v := range was.Virtual {
			if v > clocks[c] {
				ahead++
			}
			if got := b.Virtual(was.ID, queue.Class(c)); got != max(v, clocks[c]) && was.Places > 0 {
				t.Errorf("virtual time in class %d is %d, was %d", c, got, v)
			}
		}
	}
	if ahead == 0 {
		t.Error("nobody was ahead: the test is too tame")
	}
	if got, ok := b.Pick(0, always); !ok || got.Class != queue.Interactive {
		t.Errorf("Pick after the restart = %+v %v", got, ok)
	}
}

func TestIDText(t *testing.T) {
	text, err := json.Marshal(struct {
		A queue.ID
		B queue.Tenant
	}{queue.ID{1, 15: 255}, queue.Tenant{2}})
	if want := `{"A":"010000000000000000000000000000ff","B":"02000000000000000000000000000000"}`; err != nil || string(text) != want {
		t.Errorf("Marshal = %s %v", text, err)
	}
	for _, bad := range []string{"", "01", "zz000000000000000000000000000000", "010000000000000000000000000000ff0"} {
		if err := new(queue.ID).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("UnmarshalText(%q) took it", bad)
		}
	}
}

// FuzzRestore: any text that is a State is either refused or a queue that works
// and tells the same State again (ORC-124).
func FuzzRestore(f *testing.F) {
	text, _ := json.Marshal(some(f).State())
	f.Add(text)
	text, _ = json.Marshal(some(f).Ledger())
	f.Add(text)
	f.Add([]byte(`{"seq":1,"items":[{"id":"01000000000000000000000000000000","tenant":"01000000000000000000000000000000","seq":1,"due":-5,"open":true}]}`))
	f.Add([]byte(`{"clocks":[9223372036854775807,0]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s queue.State
		if json.Unmarshal(text, &s) != nil {
			return
		}
		q, _ := queue.New(queue.Config{})
		if err := q.Load(s); err != nil {
			if !errors.Is(err, queue.ErrState) {
				t.Fatal(err)
			}
			return
		}
		one, again := q.State(), queue.State{}
		r, _ := queue.New(queue.Config{})
		if err := r.Load(one); err != nil {
			t.Fatalf("its own state is refused: %v", err)
		}
		if again = r.State(); !cmp.Equal(one, again) {
			t.Fatal(cmp.Diff(one, again))
		}
		for n := 0; ; n++ {
			a, ok := q.Pick(s.Now, always)
			if b, _ := r.Pick(s.Now, always); a != b {
				t.Fatalf("Pick = %v and %v", a, b)
			}
			if !ok {
				break
			}
			if n > len(s.Items) {
				t.Fatal("more picks than items")
			}
		}
	})
}
