package sched

import "container/list"

// recent is a bounded table that forgets what was used longest ago. Its order is
// that of use, never that of a map.
type recent[K comparable, V any] struct {
	max   int
	byKey map[K]*list.Element
	order *list.List // of item[K, V], the newest first
}

type item[K comparable, V any] struct {
	Key   K
	Value V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{max: limit, byKey: make(map[K]*list.Element), order: list.New()}
}

// put makes k the newest entry.
func (r *recent[K, V]) put(k K, v V) {
	r.take(k)
	r.byKey[k] = r.order.PushFront(item[K, V]{k, v})
	if r.order.Len() > r.max {
		r.take(r.order.Back().Value.(item[K, V]).Key)
	}
}

// get does not count as a use.
func (r *recent[K, V]) get(k K) (v V, ok bool) {
	e, ok := r.byKey[k]
	if ok {
		v = e.Value.(item[K, V]).Value
	}
	return v, ok
}

// take removes an entry.
func (r *recent[K, V]) take(k K) (v V, ok bool) {
	if v, ok = r.get(k); ok {
		r.order.Remove(r.byKey[k])
		delete(r.byKey, k)
	}
	return v, ok
}

// all lists the entries, the oldest first: putting them in that order gives an
// equal table.
func (r *recent[K, V]) all() []item[K, V] {
	out := make([]item[K, V], 0, r.order.Len())
	for e := r.order.Back(); e != nil; e = e.Prev() {
		out = append(out, e.Value.(item[K, V]))
	}
	return out
}
