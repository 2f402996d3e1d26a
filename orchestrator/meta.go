package orchestrator

import (
	"context"
	"slices"
	"strings"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Capabilities returns what the workers that may be given work report now.
func (o *Orchestrator) Capabilities() taskapi.Capabilities {
	byName := map[string]*taskapi.Engine{}
	if p := phase(o.phase.Load()); p == serving || p == refusing {
		o.loop.ask(func(c *sched.Core) {
			for w := range c.View().Workers() {
				if w.Online && w.Ready && !w.Draining {
					join(byName, w)
				}
			}
		})
	}
	out := taskapi.Capabilities{APIVersion: taskapi.APIVersion, Engines: []taskapi.Engine{}}
	for _, e := range byName {
		for _, list := range []*[]string{&e.Versions, &e.Models, &e.Workloads, &e.Features} {
			slices.Sort(*list)
			*list = slices.Compact(*list)
		}
		out.Engines = append(out.Engines, *e)
	}
	slices.SortFunc(out.Engines, func(a, b taskapi.Engine) int { return strings.Compare(a.Engine, b.Engine) })
	return out
}

// join adds what one worker reports.
func join(byName map[string]*taskapi.Engine, w *placement.Worker) {
	e := byName[w.Engine]
	if e == nil {
		e = &taskapi.Engine{Engine: w.Engine, Versions: []string{}, Models: []string{}, Workloads: []string{}, Features: []string{}}
		byName[w.Engine] = e
	}
	if w.Version != "" {
		e.Versions = append(e.Versions, w.Version)
	}
	e.Models = append(e.Models, w.Models...)
	e.Workloads = append(e.Workloads, w.Workloads...)
	e.Features = append(e.Features, w.Features...)
	e.CtxMax = max(e.CtxMax, w.CtxMax)
	e.Slots += w.SlotsTotal
	e.Batching = e.Batching || w.SlotsTotal > 1
}

// maxDecisions bounds one page of decisions.
const maxDecisions = 1000

// Decisions returns the newest decisions that are kept in memory, at most limit
// (1…1,000; 0 = 100), newest first. Operators only.
func (o *Orchestrator) Decisions(_ context.Context, p Principal, limit int) ([]placement.Explanation, error) {
	if !p.Has(RoleOperator) {
		return nil, taskapi.NewError(taskapi.Forbidden)
	}
	if limit < 0 || limit > maxDecisions {
		return nil, taskapi.InvalidField("limit", "range")
	}
	if limit == 0 {
		limit = 100
	}
	return o.runs.newest(limit), nil
}

// newest returns the last n explanations, newest task first.
func (t *table) newest(n int) []placement.Explanation {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]placement.Explanation, 0, min(n, len(t.order)))
	for _, id := range slices.Backward(t.order) {
		if len(out) == n {
			break
		}
		out = append(out, t.why[id])
	}
	return out
}
