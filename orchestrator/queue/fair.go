package queue

import (
	"container/list"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Bounds of what is kept of tenants.
const (
	MaxWeight  = 1000
	maxTenants = 65_536           // known ones; those with places are never forgotten
	maxIdle    = 10 * time.Minute // how long a tenant without places keeps its virtual time
	maxVirtual = 1 << 61
)

// tenant is one party of the fair queue.
type tenant struct {
	id     Tenant
	weight int64
	held   bool
	places int
	since  Instant // without places since
	flows  [classes]flow
	list   *list.List // busy or idle
	at     *list.Element
}

// flow is a tenant in one class.
type flow struct {
	tenant  *tenant
	rank    *rank
	lanes   []*lane // sorted by key, none empty
	places  int
	virtual int64 // milli-tokens ÷ weight
	at      int   // in rank.active, −1 = not there
}

// tenant returns the state of a tenant, a new idle one if there is none.
func (q *Queue) tenant(id Tenant) *tenant {
	t := q.tenants[id]
	if t == nil {
		t = &tenant{id: id, weight: 1}
		for c := range t.flows {
			t.flows[c] = flow{tenant: t, rank: q.ranks[c], at: -1}
		}
		q.tenants[id] = t
		q.rest(t)
	}
	return t
}

func (q *Queue) move(t *tenant, to *list.List) {
	if t.at != nil {
		t.list.Remove(t.at)
	}
	t.list, t.at = to, to.PushBack(t)
}

func (q *Queue) rest(t *tenant) {
	t.since = q.now
	q.move(t, q.idle)
}

// see takes note of the time and forgets tenants that were idle for long, or
// the longest idle ones when there are too many. Weights are kept while there
// is room, and who is held stays held.
func (q *Queue) see(now Instant) {
	q.now = max(q.now, now)
	for range 64 { // a few per call: a mass of them must not delay one task
		front := q.idle.Front()
		if front == nil {
			return
		}
		t := front.Value.(*tenant)
		crowd := len(q.tenants) > maxTenants
		switch {
		case !crowd && q.now-t.since < Instant(maxIdle):
			return
		case t.held, !crowd && t.weight != 1:
			for c := range t.flows {
				t.flows[c].set(0)
			}
			q.rest(t)
		default:
			q.idle.Remove(front)
			delete(q.tenants, t.id)
			if len(q.tenants) == 0 {
				q.tenants = make(map[Tenant]*tenant) // maps never give memory back
			}
		}
	}
}

// SetWeight gives a tenant its share, 1…1,000 (values outside are brought into
// the range); tenants without one have 1. It lasts until the tenant is
// forgotten, which happens only when more than 65,536 tenants are known.
func (q *Queue) SetWeight(id Tenant, weight int) {
	w := int64(min(max(1, weight), MaxWeight))
	if q.tenants[id] == nil && w == 1 {
		return
	}
	t := q.tenant(id)
	if t.places > 0 {
		q.weights += w - t.weight
	}
	for c := range t.flows {
		if t.flows[c].places > 0 {
			t.flows[c].rank.weights += w - t.weight
		}
	}
	t.weight = w
}

// Hold keeps a tenant from being picked, or lets it go on. It earns no credit
// while it is held.
func (q *Queue) Hold(id Tenant, hold bool) {
	if q.tenants[id] == nil && !hold {
		return
	}
	t := q.tenant(id)
	t.held = hold
	for c := range t.flows {
		if f := &t.flows[c]; hold {
			f.deactivate()
		} else if f.pickable() {
			f.activate()
		}
	}
}

// Settle charges what a picked item of a class cost more than its Cost, or
// refunds what it cost less, in milli-tokens. A refund never moves a tenant
// below where a newcomer starts (ORC-211). Unknown tenants are left alone.
func (q *Queue) Settle(id Tenant, c Class, delta int64) {
	t := q.tenants[id]
	if t == nil {
		return
	}
	f := &t.flows[min(c, classes-1)]
	delta = min(max(-maxCost, delta), maxCost)
	if delta > 0 {
		q.charge(f, delta)
		return
	}
	f.set(max(f.virtual+delta/t.weight, min(f.virtual, f.rank.clock)))
}

// Virtual returns a tenant's virtual time in a class: milli-tokens ÷ weight, 0 if it is unknown.
func (q *Queue) Virtual(id Tenant, c Class) int64 {
	if t := q.tenants[id]; t != nil {
		return t.flows[min(c, classes-1)].virtual
	}
	return 0
}

// share is a cost in virtual time, rounded up so that nothing is free.
func (f *flow) share(cost int64) int64 { return (cost + f.tenant.weight - 1) / f.tenant.weight }

// set moves a flow's virtual time, also where Pick looks for it.
func (f *flow) set(v int64) {
	f.virtual = v
	if f.at >= 0 {
		f.rank.active[f.at].virtual = v
	}
}

func (q *Queue) charge(f *flow, cost int64) {
	if f.set(f.virtual + f.share(cost)); f.virtual > maxVirtual {
		q.rebase(f.rank)
	}
}

// rebase moves the zero of a class's virtual time up to its clock.
func (q *Queue) rebase(r *rank) {
	for _, l := range []*list.List{q.busy, q.idle} {
		for e := l.Front(); e != nil; e = e.Next() {
			t := e.Value.(*tenant)
			for c := range t.flows {
				if f := &t.flows[c]; f.rank == r {
					f.set(min(max(0, f.virtual-r.clock), maxVirtual))
				}
			}
		}
	}
	r.clock = 0
}

// activate lets a flow take part; it starts where the class stands, without
// credit for the time before (ORC-211).
func (f *flow) activate() {
	if f.at < 0 && !f.tenant.held {
		f.virtual = max(f.virtual, f.rank.clock)
		f.at = len(f.rank.active)
		f.rank.active = append(f.rank.active, turn{virtual: f.virtual, flow: f})
	}
	f.refresh()
}

// refresh notes the least Seq of what the flow may be asked for next.
func (f *flow) refresh() {
	if f.at < 0 {
		return
	}
	t := &f.rank.active[f.at]
	t.seq = math.MaxUint64
	for _, l := range f.lanes {
		if len(l.items) > 0 {
			t.seq = min(t.seq, l.items[0].item.Seq)
		}
	}
}

func (f *flow) deactivate() {
	if f.at < 0 {
		return
	}
	active := f.rank.active
	last := len(active) - 1
	active[f.at] = active[last]
	active[f.at].flow.at = f.at
	active[last] = turn{}
	f.rank.active = active[:last]
	f.at = -1
}

func (f *flow) pickable() bool {
	return slices.ContainsFunc(f.lanes, func(l *lane) bool { return len(l.items) > 0 })
}

// lane returns the lane of a key, a new one if there is none.
func (f *flow) lane(k KeyID) *lane {
	at, found := slices.BinarySearchFunc(f.lanes, k, laneKey)
	if !found {
		f.lanes = slices.Insert(f.lanes, at, &lane{flow: f, group: f.rank.group(k)})
	}
	return f.lanes[at]
}

// fairest returns the first item of the tenant with the lowest virtual time
// that has an open key; equal tenants go by arrival.
func (q *Queue) fairest(r *rank, open func(KeyID) bool) *entry {
	if len(r.active) == 0 {
		return nil
	}
	lead := 0 // most often the one; then nobody else is looked at closely
	for i := range r.active {
		if r.active[i].before(r.active[lead].virtual, r.active[lead].seq) {
			lead = i
		}
	}
	lowest := r.active[lead].virtual
	best := r.active[lead].flow.first(q.turn, open)
	for i := range r.active {
		t := &r.active[i]
		if i == lead || best != nil && !t.before(lowest, best.item.Seq) {
			continue
		}
		if e := t.flow.first(q.turn, open); e != nil && (best == nil || t.virtual < lowest || e.item.Seq < best.item.Seq) {
			best, lowest = e, t.virtual
		}
	}
	return best
}

// first returns the tenant's first item with an open key.
func (f *flow) first(turn uint64, open func(KeyID) bool) *entry {
	var best *entry
	for _, l := range f.lanes {
		if len(l.items) == 0 || (best != nil && before(&best.item, &l.items[0].item)) || !l.group.ask(turn, open) {
			continue
		}
		best = l.items[0]
	}
	return best
}

// mulDiv returns a × b ÷ c without overflow on the way; at most MaxInt64. All are ≥ 0, c > 0.
func mulDiv(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return 1<<63 - 1
	}
	out, _ := bits.Div64(hi, lo, uint64(c))
	return int64(min(out, 1<<63-1))
}
