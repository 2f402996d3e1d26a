package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/llorch/llorch/audit"
)

// Upkeep: how often, and how much at a time (ORC-843).
const (
	sweepEvery = 10 * time.Second
	purgeEvery = 6 // sweeps: each minute
	purgeStep  = 5000
)

// janitor forgets old event logs, deletes what is too old, and goes on with
// erasures that were cut short.
func (o *Orchestrator) janitor(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if keep := o.cfg.Retention.Streams; keep >= 0 {
				o.runs.sweep(now.Add(-keep))
			}
			if n%purgeEvery == 0 {
				o.purge(ctx, now)
				o.resumeErasures(ctx)
			}
		}
	}
}

// purge deletes one step of each kind of old things and records how many went.
func (o *Orchestrator) purge(ctx context.Context, now time.Time) {
	var gone recordsPurged
	for _, p := range []struct {
		keep   time.Duration
		n      *uint64
		delete func(before time.Time) (int, error)
	}{
		{o.cfg.Retention.Tasks, &gone.Records, func(t time.Time) (int, error) { return o.store.Purge(ctx, o.term(), t, purgeStep) }},
		{o.cfg.Retention.Outputs, &gone.Outputs, func(t time.Time) (int, error) { return o.store.PurgeOutputs(ctx, o.term(), t, purgeStep) }},
		{o.cfg.Retention.Artifacts, &gone.Artifacts, func(t time.Time) (int, error) { return o.purgeArtifacts(ctx, t, purgeStep) }},
	} {
		if p.keep < 0 {
			continue
		}
		n, err := p.delete(now.Add(-p.keep))
		*p.n = uint64(n)
		if err != nil && !errors.Is(err, context.Canceled) {
			o.log.ErrorContext(ctx, "Old records could not be deleted.", slog.String("event", "store_degraded"), slog.Any("err", err))
		}
	}
	if gone != (recordsPurged{}) {
		o.audit.emit(ctx, audit.Event{Type: "orchestrator.records_purged", Actor: audit.System(), Data: gone})
	}
}
