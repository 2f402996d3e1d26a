package queue_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator/queue"
)

// model is the queue in the dullest form: a list.
type model struct {
	cfg     queue.Config
	list    []modelItem
	seq     uint64
	now     queue.Instant
	picks   int
	clock   [2]int64
	tenants map[queue.Tenant]*modelTenant
}

type modelItem struct {
	queue.Item
	open bool
}

type modelTenant struct {
	weight  int64
	held    bool
	virtual [2]int64
	since   queue.Instant
}

func (m *model) tenant(id queue.Tenant) *modelTenant {
	if m.tenants[id] == nil {
		m.tenants[id] = &modelTenant{weight: 1, since: m.now}
	}
	return m.tenants[id]
}

func (m *model) count(ok func(modelItem) bool) (n int) {
	for _, it := range m.list {
		if ok(it) {
			n++
		}
	}
	return n
}

func (m *model) places(id queue.Tenant) int {
	return m.count(func(it modelItem) bool { return it.Tenant == id })
}

func (m *model) size() (n int64) {
	for _, it := range m.list {
		n += it.Bytes
	}
	return n
}

func (m *model) see(now queue.Instant) {
	m.now = max(m.now, now)
	for id, t := range m.tenants {
		if m.places(id) == 0 && m.now-t.since >= queue.Instant(10*time.Minute) {
			if t.virtual, t.since = [2]int64{}, m.now; !t.held && t.weight == 1 {
				delete(m.tenants, id)
			}
		}
	}
}

func (m *model) active(id queue.Tenant, c queue.Class) bool {
	return !m.tenant(id).held && m.count(func(it modelItem) bool { return it.open && it.Tenant == id && it.Class == c }) > 0
}

// change runs f and lets those start at the clock who became active by it.
func (m *model) change(id queue.Tenant, f func()) {
	var was [2]bool
	for c := range was {
		was[c] = m.active(id, queue.Class(c))
	}
	f()
	for c := range was {
		if t := m.tenant(id); !was[c] && m.active(id, queue.Class(c)) {
			t.virtual[c] = max(t.virtual[c], m.clock[c])
		}
	}
}

func (m *model) push(it queue.Item) (victim *queue.Item, err error) {
	held, weights, busy := m.places(it.Tenant), int64(0), 0
	for id, t := range m.tenants {
		if m.places(id) > 0 {
			weights, busy = weights+t.weight, busy+1
		}
	}
	switch {
	case m.index(it.ID) >= 0:
		return nil, queue.ErrDuplicate
	case len(m.list) > 0 && m.size()+it.Bytes > m.cfg.Bytes:
		return nil, queue.ErrBytes
	case m.cfg.TenantCapacity > 0 && held >= m.cfg.TenantCapacity:
		return nil, queue.ErrTenantFull
	case m.cfg.Capacity > 0 && 5*len(m.list) >= 4*m.cfg.Capacity && held > 0 && busy > 1 &&
		held > max(4, int(2*int64(m.cfg.Capacity)*m.tenant(it.Tenant).weight/weights)):
		return nil, queue.ErrTenantFull
	}
	if m.cfg.Capacity > 0 && len(m.list) >= m.cfg.Capacity {
		v := m.victim(it.Class)
		if v < 0 {
			return nil, queue.ErrFull
		}
		victim = new(m.list[v].Item)
		m.drop(v)
	}
	m.seq++
	it.Seq = m.seq
	m.tenant(it.Tenant)
	m.list = append(m.list, modelItem{Item: it})
	return victim, nil
}

func (m *model) drop(i int) {
	id := m.list[i].Tenant
	m.list = slices.Delete(m.list, i, i+1)
	if m.places(id) == 0 {
		m.tenant(id).since = m.now
	}
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
		switch m.cfg.Policy {
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

func (m *model) pick(now queue.Instant, openKey func(queue.KeyID) bool) (queue.Item, bool) {
	m.see(now)
	heads := m.pickable(openKey)
	if len(heads) == 0 {
		return queue.Item{}, false
	}
	head := slices.MinFunc(heads, func(a, b queue.Item) int {
		if m.less(a, b) {
			return -1
		}
		return 1
	})
	best, aged := m.index(head.ID), -1
	for i, it := range m.list {
		if it.open && openKey(it.Key) && !m.tenant(it.Tenant).held && m.picks >= 3 && it.Arrived <= m.now-queue.Instant(m.cfg.AgingAfter) &&
			(aged < 0 || it.Seq < m.list[aged].Seq) {
			aged = i
		}
	}
	if aged >= 0 {
		best, m.picks = aged, 0
	} else {
		m.picks = min(m.picks+1, 4)
	}
	it := m.list[best].Item
	it.Promoted = aged >= 0
	t := m.tenant(it.Tenant)
	if aged < 0 {
		m.clock[it.Class] = max(m.clock[it.Class], t.virtual[it.Class])
	}
	t.virtual[it.Class] += (it.Cost + t.weight - 1) / t.weight
	m.drop(best)
	return it, true
}

func ends(it queue.Item) queue.Instant {
	if it.Due == 0 {
		return math.MaxInt64
	}
	return it.Due
}

// less is the order of Pick among items that may be picked. Two tenants with
// one virtual time are ordered by the arrival of what each would run.
func (m *model) less(a, b queue.Item) bool {
	x, y := m.tenant(a.Tenant).virtual[a.Class], m.tenant(b.Tenant).virtual[b.Class]
	own := 0
	if a.Tenant == b.Tenant {
		own = cmp.Compare(ends(a), ends(b))
	}
	return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(x, y), own, cmp.Compare(a.Seq, b.Seq)) < 0
}

func (m *model) position(it queue.Item) (n int) {
	own := m.count(func(o modelItem) bool {
		return o.Class == it.Class && o.Tenant == it.Tenant && cmp.Or(cmp.Compare(ends(o.Item), ends(it)), cmp.Compare(o.Seq, it.Seq)) < 0
	})
	for id := range m.tenants {
		if id != it.Tenant {
			n += min(own+1, m.count(func(o modelItem) bool { return o.Class == it.Class && o.Tenant == id }))
		}
	}
	return n + own + m.count(func(o modelItem) bool { return o.Class < it.Class })
}

// pickable returns what each tenant would run next in each class.
func (m *model) pickable(openKey func(queue.KeyID) bool) (heads []queue.Item) {
	for _, it := range m.list {
		if !it.open || !openKey(it.Key) || m.tenant(it.Tenant).held {
			continue
		}
		i := slices.IndexFunc(heads, func(h queue.Item) bool { return h.Tenant == it.Tenant && h.Class == it.Class })
		switch {
		case i < 0:
			heads = append(heads, it.Item)
		case m.less(it.Item, heads[i]):
			heads[i] = it.Item
		}
	}
	return heads
}

// drawItem makes any item at an instant.
func drawItem(t *rapid.T, now queue.Instant) queue.Item {
	it := queue.Item{
		ID: id(rapid.IntRange(0, 30).Draw(t, "id")), Tenant: queue.Tenant{byte(rapid.IntRange(1, 4).Draw(t, "tenant"))},
		Class: queue.Class(rapid.IntRange(0, 1).Draw(t, "class")), Key: queue.KeyID(rapid.IntRange(1, 4).Draw(t, "key")),
		Cost: int64(rapid.IntRange(0, 5000).Draw(t, "cost")), Bytes: int64(rapid.IntRange(0, 300).Draw(t, "bytes")),
		Service: int64(rapid.IntRange(0, 9).Draw(t, "service")), Arrived: now,
	}
	if rapid.Bool().Draw(t, "with a deadline") {
		it.Due = now + queue.Instant(rapid.IntRange(1, 100).Draw(t, "due"))
	}
	return it
}

// machine runs the queue and the list side by side.
type machine struct {
	m      *model
	q      *queue.Queue
	now    queue.Instant
	picked []queue.Item
}

func (x *machine) push(t *rapid.T) {
	it := drawItem(t, x.now)
	x.m.see(x.now)
	wantVictim, wantErr := x.m.push(it)
	ahead, victims, err := x.q.Push(x.now, it, nil)
	if !errors.Is(err, wantErr) {
		t.Fatalf("Push = %v, want %v", err, wantErr)
	}
	if (wantVictim != nil) != (len(victims) == 1) || (wantVictim != nil && victims[0].Item != *wantVictim) {
		t.Fatalf("victims = %v, want %v", victims, wantVictim)
	}
	if want := x.m.list; err == nil && ahead != x.m.position(want[len(want)-1].Item) {
		t.Fatalf("Push tells %d ahead, want %d", ahead, x.m.position(want[len(want)-1].Item))
	}
}

func (x *machine) open(t *rapid.T) {
	a := id(rapid.IntRange(0, 30).Draw(t, "id"))
	x.q.Open(a)
	if i := x.m.index(a); i >= 0 {
		x.m.change(x.m.list[i].Tenant, func() { x.m.list[i].open = true })
	}
}

func (x *machine) pick(t *rapid.T) {
	mask := rapid.IntRange(0, 31).Draw(t, "open keys")
	asked := map[queue.KeyID]int{}
	openKey := func(k queue.KeyID) bool { return mask&(1<<k) != 0 }
	want, wantOK := x.m.pick(x.now, openKey)
	got, ok := x.q.Pick(x.now, func(k queue.KeyID) bool { asked[k]++; return openKey(k) })
	if got != want || ok != wantOK {
		t.Fatalf("Pick = %+v %v, want %+v %v", got, ok, want, wantOK)
	}
	for k, n := range asked {
		if n > 2 { // classes
			t.Fatalf("key %d was asked for %d times", k, n)
		}
	}
	if ok {
		x.picked = append(x.picked, got)
	}
}

func (x *machine) putBack(t *rapid.T) {
	if len(x.picked) == 0 {
		t.Skip("nothing picked")
	}
	it := x.picked[len(x.picked)-1]
	x.picked = x.picked[:len(x.picked)-1]
	if x.m.index(it.ID) < 0 {
		back := it
		back.Promoted = false
		x.m.list = append(x.m.list, modelItem{Item: back})
		own := x.m.tenant(it.Tenant)
		own.virtual[it.Class] = max(0, own.virtual[it.Class]-(it.Cost+own.weight-1)/own.weight)
	}
	x.q.Return(it)
}

func (x *machine) settle(t *rapid.T) {
	who, c := queue.Tenant{byte(rapid.IntRange(1, 4).Draw(t, "tenant"))}, queue.Class(rapid.IntRange(0, 1).Draw(t, "class"))
	delta := int64(rapid.IntRange(-3000, 3000).Draw(t, "delta"))
	x.q.Settle(who, c, delta)
	own := x.m.tenants[who]
	switch {
	case own == nil:
	case delta > 0:
		own.virtual[c] += (delta + own.weight - 1) / own.weight
	default:
		own.virtual[c] = max(own.virtual[c]+delta/own.weight, min(own.virtual[c], x.m.clock[c]))
	}
}

func (x *machine) hold(t *rapid.T) {
	who, on := queue.Tenant{byte(rapid.IntRange(1, 4).Draw(t, "tenant"))}, rapid.Bool().Draw(t, "hold")
	x.q.Hold(who, on)
	if on || x.m.tenants[who] != nil {
		x.m.change(who, func() { x.m.tenant(who).held = on })
	}
}

func (x *machine) weight(t *rapid.T) {
	who, w := queue.Tenant{byte(rapid.IntRange(1, 4).Draw(t, "tenant"))}, rapid.SampledFrom([]int{1, 3, 1000}).Draw(t, "weight")
	x.q.SetWeight(who, w)
	if w > 1 || x.m.tenants[who] != nil {
		x.m.tenant(who).weight = int64(w)
	}
}

func (x *machine) remove(t *rapid.T) {
	a := id(rapid.IntRange(0, 30).Draw(t, "id"))
	i := x.m.index(a)
	if _, ok := x.q.Remove(a); ok != (i >= 0) {
		t.Fatalf("Remove = %v, want %v", ok, i >= 0)
	}
	if i >= 0 {
		x.m.drop(i)
	}
}

// restart replaces the queue by one that was read from its own State.
func (x *machine) restart(t *rapid.T) {
	text, err := json.Marshal(x.q.State())
	if err != nil {
		t.Fatal(err)
	}
	var s queue.State
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	x.q, _ = queue.New(x.m.cfg)
	if err := x.q.Load(s); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(x.q.State()); string(again) != string(text) {
		t.Fatalf("State after Load\n%s\nbefore\n%s", again, text)
	}
}

func (x *machine) check(t *rapid.T) {
	m, q := x.m, x.q
	if q.Len() != len(m.list) || q.Bytes() != m.size() {
		t.Fatalf("Len %d Bytes %d, want %d %d", q.Len(), q.Bytes(), len(m.list), m.size())
	}
	if want := m.pickable(always); q.Empty() != (len(want) == 0) {
		t.Fatalf("Empty = %v with %d to pick", q.Empty(), len(want))
	}
	for _, it := range m.list {
		if got, ok := q.Position(it.ID); !ok || got != m.position(it.Item) {
			t.Fatalf("Position = %d %v, want %d", got, ok, m.position(it.Item))
		}
	}
	x.standings(t)
	for who, own := range m.tenants {
		for c := range own.virtual {
			if got := q.Virtual(who, queue.Class(c)); got != own.virtual[c] {
				t.Fatalf("Virtual of %d in %d = %d, want %d", who[0], c, got, own.virtual[c])
			}
		}
	}
	if got := q.All(); !slices.EqualFunc(got, x.inOrder(), func(a queue.Item, b modelItem) bool { return a == b.Item }) {
		t.Fatalf("All = %v", got)
	}
}

// standings: one look at all says the same as many looks at one.
func (x *machine) standings(t *rapid.T) {
	left := len(x.m.list)
	parity := func(k queue.KeyID) string { return fmt.Sprint(k % 2) }
	for id, s := range x.q.Standings(parity) {
		left--
		at := slices.IndexFunc(x.m.list, func(it modelItem) bool { return it.ID == id })
		if at < 0 {
			t.Fatalf("Standings has an item that is not there")
		}
		it := x.m.list[at].Item
		ahead, _ := x.q.Position(id)
		line := x.q.Line(it, func(k queue.KeyID) bool { return parity(k) == parity(it.Key) })
		if s.Ahead != ahead || s.Line != line {
			t.Fatalf("Standings = %+v, want %d and %+v", s, ahead, line)
		}
	}
	if left != 0 {
		t.Fatalf("Standings leaves %d items out", left)
	}
}

func (x *machine) inOrder() []modelItem {
	return slices.SortedFunc(slices.Values(x.m.list), func(a, b modelItem) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Seq, b.Seq))
	})
}

// TestQueueModel compares the queue with a list over all policies, and over
// restarts from its State (ORC-124, ORC-200 to ORC-203, ORC-210 to ORC-217).
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := queue.Config{
			Capacity:       rapid.SampledFrom([]int{1, 2, 10, 20, 512}).Draw(t, "capacity"),
			TenantCapacity: rapid.SampledFrom([]int{0, 0, 6}).Draw(t, "tenant capacity"),
			Policy:         rapid.SampledFrom([]queue.Policy{queue.Reject, queue.DropLRU, queue.Shed}).Draw(t, "policy"),
			Bytes:          3000, AgingAfter: 100,
		}
		q, err := queue.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		x := &machine{q: q, m: &model{cfg: cfg, picks: 4, tenants: map[queue.Tenant]*modelTenant{}}}
		t.Repeat(map[string]func(*rapid.T){
			"push": x.push, "push more": x.push, "open": x.open, "open more": x.open, "pick": x.pick, "return": x.putBack, "settle": x.settle,
			"hold": x.hold, "weight": x.weight, "remove": x.remove, "restart": x.restart, "": x.check,
			"wait": func(t *rapid.T) {
				x.now += rapid.SampledFrom([]queue.Instant{1, 30, 120, queue.Instant(11 * time.Minute)}).Draw(t, "for")
			},
		})
	})
}

// TestEqualItemsAnyOrder: what the heaps do inside never shows: the same items
// opened in another order are picked in the same order (ORC-122).
func TestEqualItemsAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "items")
		order := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed"))).Perm(n)
		a, _ := queue.New(queue.Config{})
		b, _ := queue.New(queue.Config{})
		for i := range n {
			it := drawItem(t, 0)
			it.ID = id(i)
			a.Push(0, it, nil)
			b.Push(0, it, nil)
		}
		for i := range n {
			a.Open(id(i))
			b.Open(id(order[i]))
		}
		for range n + 1 {
			x, _ := a.Pick(0, always)
			if y, _ := b.Pick(0, always); x != y {
				t.Fatalf("Pick = %v and %v", x, y)
			}
		}
	})
}
