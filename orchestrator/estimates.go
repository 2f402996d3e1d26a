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

// estimator is a core that keeps what it has learned over a restart: how long
// things take, and what each tenant has had (ORC-654).
type estimator interface {
	Estimates() ([]byte, error) // JSON of sorted slices, ≤ store.MaxDoc
	LoadEstimates([]byte) error // refuses what it did not write
}

const (
	estimatesKey   = "core"
	estimatesEvery = time.Second
)

// loadEstimates gives the core what an earlier run had learned. What can not be
// read is learned anew.
func (o *Orchestrator) loadEstimates(ctx context.Context) error {
	d, err := o.store.Doc(ctx, store.KindEstimate, estimatesKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read estimates: %w", err)
	}
	o.loop.ask(func(c *sched.Core) {
		if e, ok := any(c).(estimator); ok {
			err = e.LoadEstimates(d.Data)
			o.cfg.Decisions.Begin(c, o.epoch.Load(), o.loop.start) // no step did this: the log goes on from here
		}
	})
	if err != nil {
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
		o.loop.ask(func(c *sched.Core) {
			if e, ok := any(c).(estimator); ok {
				now, err = e.Estimates()
			}
		})
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
