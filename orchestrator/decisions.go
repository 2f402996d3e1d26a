package orchestrator

import (
	"context"
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
	"github.com/llorch/llorch/orchestrator/observe"
)

// gapsEvery is how often lost steps of the decision log are looked for.
const gapsEvery = 5 * time.Second

// writeDecisions begins the decision log, if there is one; stop ends it when all
// steps are written.
func (o *Orchestrator) writeDecisions(ctx context.Context) (stop func()) {
	w := o.cfg.Decisions
	if w == nil {
		return func() {}
	}
	w.OnSealed(o.decisionsSealed)
	w.Begin(o.loop.core, o.epoch.Load(), o.loop.start)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != nil {
			o.log.Error("Decisions can not be recorded.", slog.String("event", "decision_gap"), slog.Any("err", err))
		}
	}()
	o.wg.Go(func() { o.watchGaps(o.attempt) })
	return func() { cancel(); <-done }
}

// watchGaps tells observers of steps that the decision log lost.
func (o *Orchestrator) watchGaps(ctx context.Context) {
	tick := time.NewTicker(gapsEvery)
	defer tick.Stop()
	for told := uint64(0); ; {
		if n := o.cfg.Decisions.Lost(); n > told {
			o.observe.Observe(observe.DecisionGap{Steps: int(n - told)})
			told = n
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// decisionsSealed puts the digest of a whole segment into the audit log.
func (o *Orchestrator) decisionsSealed(file, sum string) {
	raw, err := hex.DecodeString(sum)
	if o.cfg.Recorder == nil || err != nil || len(raw) != 32 {
		return
	}
	e := audit.Event{Actor: audit.System(), Data: decisionsSealed{File: file, SHA256: events.Digest(raw)}}
	if _, err := o.cfg.Recorder.Emit(context.Background(), e); err != nil {
		o.observe.Observe(observe.AuditFailed{})
	}
}
