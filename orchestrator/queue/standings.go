package queue

import (
	"iter"
	"slices"
)

// Standing is where an item stands: its [Queue.Position] and its [Queue.Line].
type Standing struct {
	Ahead int
	Line  Line
}

// Standings yields every item that waits with its standing, all in one look; keys
// of one market compete for the same slots. Inside a tenant the first goes first;
// nothing else is said of the order.
func (q *Queue) Standings(market func(KeyID) string) iter.Seq2[ID, Standing] {
	return func(yield func(ID, Standing) bool) {
		above := make(map[string]int64) // work of higher classes, by market
		count := 0
		for c, r := range q.ranks {
			within, markets := make(map[string]int64), make([]string, len(r.groups))
			for i, g := range r.groups {
				markets[i] = market(g.key)
				within[markets[i]] += g.work
			}
			less := make([]int, len(r.levels)+1) // places that are at most the n-th of their tenant
			for i, n := range r.levels {
				less[i+1] = less[i] + n
			}
			for e := q.busy.Front(); e != nil; e = e.Next() {
				f := &e.Value.(*tenant).flows[c]
				if f.places > 0 && !f.standings(count, less, above, within, market, yield) {
					return
				}
			}
			count += r.count
			for i, g := range r.groups {
				above[markets[i]] += g.work
			}
		}
	}
}

// standings yields those of one tenant in one class.
func (f *flow) standings(count int, less []int, above, within map[string]int64, market func(KeyID) string, yield func(ID, Standing) bool) bool {
	all, whole, done := make([]*entry, 0, f.places), make(map[string]int64), make(map[string]int64)
	for _, l := range f.lanes {
		all = append(append(all, l.items...), l.shut...)
		whole[market(l.group.key)] += l.work
	}
	slices.SortFunc(all, func(a, b *entry) int { return order(&a.item, &b.item) })
	for own, e := range all {
		m := market(e.item.Key)
		ahead := f.rank.count - f.places + own
		if own+1 < len(f.rank.levels) {
			ahead = less[own+1] - 1
		}
		if !yield(e.item.ID, Standing{count + ahead, Line{
			Above: above[m], Others: within[m] - whole[m], Own: done[m], Behind: whole[m] - done[m] - e.item.Service,
			Service: e.item.Service, Weight: f.tenant.weight, Weights: f.rank.weights,
		}}) {
			return false
		}
		done[m] += e.item.Service
	}
	return true
}

// order is before as a comparison.
func order(a, b *Item) int {
	switch {
	case before(a, b):
		return -1
	case before(b, a):
		return 1
	}
	return 0
}
