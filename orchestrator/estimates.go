package orchestrator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/store"
)

const (
	estimatesKey   = "core"
	estimatesEvery = time.Second
)

// loadEstimates gives the core what an earlier run had learned: how long things
// take, and what each tenant has had (ORC-654). What can not be read is learned
// anew. It is called before the loop runs.
func (o *Orchestrator) loadEstimates(ctx context.Context) error {
	d, err := o.store.Doc(ctx, store.KindEstimate, estimatesKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read estimates: %w", err)
	}
	if err := o.loop.core.LoadEstimates(d.Data); err != nil { // no step does this: the decision log begins after it
		o.log.WarnContext(ctx, "The estimates of an earlier run are not used.", slog.String("event", "estimates_lost"), slog.Any("err", err))
	}
	return nil
}

// keepEstimates stores what the core has learned, each second in which it changed.
func (o *Orchestrator) keepEstimates(ctx context.Context) {
	if !o.store.Durable() {
		return
	}
	tick := time.NewTicker(estimatesEvery)
	defer tick.Stop()
	var last []byte
	var version store.Version
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var now []byte
		var err error
		o.loop.ask(func(c *sched.Core) { now, err = c.Estimates() })
		if err != nil || now == nil || bytes.Equal(now, last) {
			continue
		}
		v, err := o.putDoc(ctx, store.Doc{Kind: store.KindEstimate, Key: estimatesKey, Data: now}, version)
		switch {
		case err == nil:
			last, version = now, v
		case errors.Is(err, store.ErrVersion):
			if d, err := o.store.Doc(ctx, store.KindEstimate, estimatesKey); err == nil {
				version = d.Version // of an earlier run; the next second writes
			}
		}
	}
}
