package sched

import (
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
)

// refusals are the codes by what binds first (ORC-247). Filters without a row are
// POOL_UNAVAILABLE. A zero hint is the code's own.
var refusals = [...]struct {
	filter, code, field string
	after               time.Duration
}{
	{"empty", "POOL_UNAVAILABLE", "", time.Second},
	{"pin", "INVALID_PARAMS", "placement", 0},
	{"node", "NODE_UNAVAILABLE", "placement.node", time.Second},
	{"online", "NODE_UNAVAILABLE", "placement", time.Second},
	{"ready", "POOL_UNREADY", "placement", 2 * time.Second},
	{"draining", "POOL_UNREADY", "placement", 2 * time.Second},
	{"engine", "MODEL_NOT_AVAILABLE", "engine", 0},
	{"workload", "MODEL_INCOMPATIBLE", "kind", 0},
	{"model", "MODEL_NOT_FOUND", "model", 0},
	{"digest", "MODEL_NOT_AVAILABLE", "model", 0},
	{"ctx", "CONTEXT_TOO_LARGE", "ctx", 0},
	{"features", "MODEL_INCOMPATIBLE", "placement.features", 0},
	{"vram", "INSUFFICIENT_VRAM", "", 0},
}

// unservable says why a request can not be served, whatever the load: code "" if
// it can. A worker that is only busy, not ready or not online is no reason to
// refuse, except where the request names the place.
func (c *Core) unservable(r placement.Request) (code string, d Details, after time.Duration) {
	d.Filter = placement.Binding(c.view, r)
	switch d.Filter {
	case "":
		return "", d, 0
	case "region":
		return residencyCode(r.Regions), d, 0
	}
	for _, x := range refusals {
		if x.filter == d.Filter {
			d.Field = x.field
			return x.code, d, x.after
		}
	}
	return "POOL_UNAVAILABLE", d, time.Second
}

// any reports whether a worker satisfies f.
func (c *Core) any(f func(*placement.Worker) bool) bool {
	for w := range c.view.Workers() {
		if f(w) {
			return true
		}
	}
	return false
}
