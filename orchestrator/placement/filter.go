package placement

import "slices"

// Request is what a task needs of a worker.
type Request struct {
	Model    string
	Engine   string // "" = any
	Workload string // "" = any
	Digest   string // "" = any
	Ctx      int    // tokens
	Prompt   int    // tokens, estimated
	Expected int    // output tokens, estimated
	Place    Constraints
	Regions  []string // allowed: countries or groups; nil = all. Already the intersection of all rules
	Affinity Key      // worker of the session's last turn; zero = none
	Tried    []Key    // workers that failed this task already; avoided while others are feasible
}

// The filters in their order (ORC-301); the first one that a worker fails is the
// reason. Those before online do not depend on load: they decide whether a task
// can ever be served.
const (
	avoid = iota
	pin
	engine
	model
	ctx
	online
	ready
	draining
	slots
	passed
)

var filterNames = [passed]string{"avoid", "pin", "engine", "model", "ctx", "online", "ready", "draining", "slots"}

// failing returns the first filter that w fails, or passed.
func failing(w *row, r *Request) int {
	p := &r.Place
	switch {
	case slices.Contains(p.Avoid, w.Pool):
		return avoid
	case p.Pool != "" && p.Pool != w.Pool, p.Node != "" && p.Node != w.Node, p.Worker != "" && p.Worker != w.Key.Worker:
		return pin
	case r.Engine != "" && r.Engine != w.Engine:
		return engine
	case !slices.Contains(w.Models, r.Model):
		return model
	case w.CtxMax != 0 && r.Ctx > w.CtxMax:
		return ctx
	case !w.Online:
		return online
	case !w.Ready:
		return ready
	case w.Draining:
		return draining
	case w.free == 0:
		return slots
	}
	return passed
}

// Binding says which filter keeps a request from being served, looking only at
// what load does not change: "" if some worker passes, "empty" without any
// worker, else the last filter that some worker reached and none passed.
func Binding(v *View, r Request) string {
	if len(v.rows) == 0 {
		return "empty"
	}
	furthest := avoid
	for i := range v.rows {
		at := failing(&v.rows[i], &r)
		if at >= online {
			return ""
		}
		furthest = max(furthest, at)
	}
	return filterNames[furthest]
}
