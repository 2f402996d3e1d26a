package placement

import "slices"

// Request is what a task needs of a worker.
type Request struct {
	Model  string
	Engine string // "" = any
	Ctx    int    // tokens
	Place  Constraints
	Tried  []Key // workers that failed this task already; avoided while others are feasible
}

// Filter is a named test that a worker passes or not.
type filter struct {
	name  string
	holds func(w *row, r *Request) bool
}

// static is the number of leading filters that do not depend on load: they
// decide whether a task can ever be served.
const static = 5

// filters in their order (ORC-301); the first one that fails is the reason.
var filters = [...]filter{
	{"avoid", func(w *row, r *Request) bool { return !slices.Contains(r.Place.Avoid, w.Pool) }},
	{"pin", func(w *row, r *Request) bool {
		return (r.Place.Pool == "" || r.Place.Pool == w.Pool) && (r.Place.Node == "" || r.Place.Node == w.Node) &&
			(r.Place.Worker == "" || r.Place.Worker == w.Key.Worker)
	}},
	{"engine", func(w *row, r *Request) bool { return r.Engine == "" || r.Engine == w.Engine }},
	{"model", func(w *row, r *Request) bool { return slices.Contains(w.Models, r.Model) }},
	{"ctx", func(w *row, r *Request) bool { return w.CtxMax == 0 || r.Ctx <= w.CtxMax }},
	{"online", func(w *row, _ *Request) bool { return w.Online }},
	{"ready", func(w *row, _ *Request) bool { return w.Ready }},
	{"draining", func(w *row, _ *Request) bool { return !w.Draining }},
	{"slots", func(w *row, _ *Request) bool { return w.free > 0 }},
}

// FilterNames lists the filters in their order.
func FilterNames() []string {
	out := make([]string, len(filters))
	for i, f := range filters {
		out[i] = f.name
	}
	return out
}

// failing returns the index of the first of the given filters that w fails, or −1.
func failing(w *row, r *Request, fs []filter) int {
	for i := range fs {
		if !fs[i].holds(w, r) {
			return i
		}
	}
	return -1
}

// Binding says which filter keeps a request from being served, looking only at
// what load does not change: "" if some worker passes, "empty" without any
// worker, else the last filter that some worker reached and none passed.
func Binding(v *View, r Request) string {
	if len(v.rows) == 0 {
		return "empty"
	}
	furthest := 0
	for i := range v.rows {
		at := failing(&v.rows[i], &r, filters[:static])
		if at < 0 {
			return ""
		}
		furthest = max(furthest, at)
	}
	return filters[furthest].name
}
