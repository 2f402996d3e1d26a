package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// report gives the readers of a task a metrics event, if they keep up.
func (o *Orchestrator) report(r *run, m taskapi.Metrics) {
	data, err := json.Marshal(m)
	if err == nil && r.stream.offer(data, time.Now()) {
		o.note(observe.MetricsDropped{})
	}
}

// tellWaiting tells the readers of waiting tasks every second how they stand, when
// that changed.
func (o *Orchestrator) tellWaiting(ctx context.Context) {
	tick := time.NewTicker(metricsEvery)
	defer tick.Stop()
	last := map[TaskID]taskapi.Queued{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		waiting := o.runs.waiting()
		now := make(map[TaskID]taskapi.Queued, len(waiting))
		if len(waiting) > 0 {
			o.loop.ask(func(c *sched.Core) {
				all := c.Standings()
				for _, r := range waiting {
					if s, ok := all[queue.ID(r.id)]; ok {
						now[r.id] = taskapi.Queued{QueuePosition: s.Ahead, PredictedStartMS: s.StartIn.Milliseconds()}
					}
				}
			})
		}
		for _, r := range waiting {
			if q, ok := now[r.id]; ok && q != last[r.id] {
				o.report(r, waitingMetrics(q))
			}
		}
		last = now
	}
}

func waitingMetrics(q taskapi.Queued) taskapi.Metrics {
	m := taskapi.Metrics{QueueDepth: &q.QueuePosition, PredictedStartMS: &q.PredictedStartMS, Phase: "queued", Human: "The task is next."}
	if q.QueuePosition > 0 {
		m.Human = fmt.Sprintf("%d tasks go first.", q.QueuePosition)
	}
	return m
}

// maxTold bounds how many waiting tasks are told how they stand.
const maxTold = 10_000

// waiting returns the runs that wait and are read.
func (t *table) waiting() []*run {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []*run
	for r := range t.read { // not byID: a million may wait that nobody reads
		if len(out) < maxTold && r.state() == store.Queued {
			out = append(out, r)
		}
	}
	return out
}

// readers notes that a reader of r came or left.
func (t *table) readers(r *run, delta int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.read[r] += delta; t.read[r] <= 0 {
		delete(t.read, r)
	}
}

func (r *run) state() store.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec.State
}
