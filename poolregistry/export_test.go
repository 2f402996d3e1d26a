package poolregistry

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"
)

// Due is NodeTimes.due.
func Due(n NodeTimes, o ObserverTimes, t Timing) time.Duration { return n.due(o, t) }

// RunPausable is Run with a detection timer that misses its ticks while paused is
// true, as that of a stopped process does.
func (r *Registry) RunPausable(ctx context.Context, paused *atomic.Bool) error {
	if err := r.detect(true); err != nil {
		return err
	}
	defer func() { _ = r.detect(false) }()
	tick := time.NewTicker(r.state.cfg.Timing.tick())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if !paused.Load() {
				now := r.lockOnly()
				r.state.tick(now, false)
				r.unlock()
			}
		}
	}
}

// Times returns what the freshness rule knows of a node and of the observer, and
// the instant now.
func (r *Registry) Times(id NodeID) (NodeTimes, ObserverTimes, time.Duration) {
	now := r.lock()
	defer r.unlock()
	var n NodeTimes
	if e, ok := r.state.nodes[id]; ok {
		n = e.times
	}
	return n, r.state.observer, now
}

// Transitions returns the table of liveness.
func Transitions() [][3]string {
	var rows [][3]string
	for _, t := range transitions() {
		rows = append(rows, [3]string{t.from, t.event, cmp.Or(string(t.to), "removed")})
	}
	return rows
}

// Scheduling returns the table of schedules.
func Scheduling() [][3]string { return scheduling() }
