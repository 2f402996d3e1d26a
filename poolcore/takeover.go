package poolcore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/poolcore/handoff"
	"github.com/llorch/llorch/poolregistry"
)

// adopter is a crew that finds the engines which an earlier run left alive, and
// the journals of reloads that it did not finish.
type adopter interface {
	adopt(ctx context.Context) ([]adopted, []reloadJournal)
}

// takeOver hands what an earlier run left to the loops of its pools.
func (h *Host) takeOver(ctx context.Context, c crew) {
	a, ok := c.(adopter)
	if !ok {
		return
	}
	engines, journals := a.adopt(ctx)
	byPool := map[string][]adopted{}
	for _, e := range engines {
		byPool[e.cfg.ID] = append(byPool[e.cfg.ID], e)
	}
	for _, j := range journals {
		h.resume(ctx, c, j, byPool[j.Pool])
		delete(byPool, j.Pool)
	}
	dropped := h.dropped(c)
	for id, list := range byPool {
		if dropped[id] {
			h.cfg.Logger.WarnContext(ctx, "pool is not configured any more", slog.String("pool", id))
			h.endFound(ctx, c, list)
			continue
		}
		h.continuePool(ctx, c, h.asConfigured(list[0].cfg), nil, list)
	}
}

// configurer is a crew that remembers which pools the program's own configuration
// named; it returns those of the run before.
type configurer interface {
	configured(now []string) (before []string)
}

// dropped are the pools that were configured for the run before and are no more;
// those that somebody preloaded go on.
func (h *Host) dropped(c crew) map[string]bool {
	out := map[string]bool{}
	r, ok := c.(configurer)
	if !ok {
		return out
	}
	var now []string
	for _, pc := range h.cfg.Pools {
		now = append(now, pc.ID)
	}
	for _, id := range r.configured(now) {
		out[id] = !slices.Contains(now, id)
	}
	return out
}

// asConfigured is what an engine was started with, but in as many places as the
// program's configuration has now: a reload changes places, it takes none away.
func (h *Host) asConfigured(pc PoolConfig) PoolConfig {
	for _, now := range h.cfg.Pools {
		if now.ID == pc.ID {
			pc.Replicas = max(now.Replicas, 1)
		}
	}
	return pc
}

// endFound ends engines of an earlier run and takes back what was said of them.
func (h *Host) endFound(ctx context.Context, c crew, list []adopted) {
	for _, a := range list {
		h.cfg.Logger.WarnContext(ctx, "engine of an earlier run is ended", slog.String("worker", string(a.w.id)))
		c.announce(a.w, a.cfg, false)
		if c.stop(a.w, h.cfg.Timing.StopGrace) {
			c.wait(a.w)
		}
	}
}

// resume takes up a reload. Where the program was configured anew, so that only the
// old configuration is left or not even that, the journal goes, lest a later run
// takes it up.
func (h *Host) resume(ctx context.Context, c crew, j reloadJournal, list []adopted) {
	to, err := h.edition(j.To)
	if h.continuePool(ctx, c, j.From, to, list) && err == nil {
		return
	}
	if err := c.journal(poolregistry.PoolID(j.Pool), nil); err != nil {
		h.cfg.Logger.ErrorContext(ctx, "reload journal", slog.String("pool", j.Pool), slog.Any("error", err))
	}
}

// continuePool starts a pool with the engines that run its configuration or the one
// that it was being reloaded to; nil: it was not. Other engines are ended, since a
// record that does not fit is not believed.
func (h *Host) continuePool(ctx context.Context, c crew, pc PoolConfig, to *edition, list []adopted) bool {
	from, err := h.edition(pc)
	var rest []adopted
	e := evStart{keep: true, resume: to}
	for _, a := range list {
		was := a.cfg
		was.Replicas = pc.Replicas
		switch {
		case a.at >= max(pc.Replicas, 1):
			rest = append(rest, a)
		case err == nil && was.same(from.cfg):
			e.found = append(e.found, found{at: a.at, edition: from, worker: a.w})
		case err == nil && to != nil && a.cfg.same(to.cfg):
			e.found = append(e.found, found{at: a.at, edition: to, worker: a.w})
		default:
			rest = append(rest, a)
		}
	}
	if err == nil {
		_, err = h.startEdition(ctx, from, e)
	}
	if err != nil {
		h.cfg.Logger.WarnContext(ctx, "pool of an earlier run is not continued", slog.String("pool", pc.ID), slog.Any("error", err))
		rest = list
	}
	h.endFound(ctx, c, rest)
	return err == nil
}

// startConfigured starts a pool of Config.Pools. One that was taken over with
// another configuration is reloaded: the configuration of the program is what
// counts, and requests that run need not suffer for it.
func (h *Host) startConfigured(ctx context.Context, pc PoolConfig) {
	ed, err := h.edition(pc)
	p := h.Pool(poolregistry.PoolID(pc.ID))
	switch {
	case err != nil:
	case p == nil:
		_, err = h.startEdition(ctx, ed, evStart{keep: true})
	case !p.view.Load().cfg.same(ed.cfg) || p.Phase() == reloading:
		h.wg.Go(func() { h.bringBack(ctx, p, ed) })
	}
	h.notStarted(ctx, pc.ID, err)
}

// bringBack reloads a pool to the program's configuration, once what is under way
// there has ended.
func (h *Host) bringBack(ctx context.Context, p *Pool, ed *edition) {
	again := time.NewTicker(h.cfg.Timing.Health)
	defer again.Stop()
	for {
		o, err := p.reloadTo(ctx, ed, strategyAuto, sickDrain, true)
		if err == nil {
			h.notStarted(ctx, ed.cfg.ID, o.Wait(ctx))
			return
		}
		if !errors.Is(err, PoolBusy) && !errors.Is(err, Draining) {
			h.notStarted(ctx, ed.cfg.ID, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

func (h *Host) notStarted(ctx context.Context, pool string, err error) {
	if err != nil && ctx.Err() == nil {
		h.cfg.Logger.ErrorContext(ctx, "pool does not run as configured", slog.String("pool", pool), slog.Any("error", err))
	}
}

// BindExternal puts an engine that somebody else runs into its place of a pool; one
// that is there already gives way, and its requests end where they are. Before Run
// it waits for Run. PoolExists: the pool runs engines of its own.
func (h *Host) BindExternal(b handoff.Binding) error {
	if err := h.bind(b); err != nil {
		return fmt.Errorf("bind engine: %w", err)
	}
	return nil
}

func (h *Host) bind(b handoff.Binding) error {
	at, err := placeOf(b.Replica)
	if err != nil {
		return err
	}
	ed, err := h.edition(PoolConfig{
		ID: string(b.Pool), Engine: "external", Model: b.Model.ID, URL: b.URL, EngineVersion: b.EngineVersion, Slots: b.SlotsTotal,
		Devices: b.DeviceMask,
	})
	if err != nil {
		return err
	}
	select {
	case <-h.started:
	case <-h.stopped:
		return HostStopped
	}
	p, err := h.pool(b.Pool)
	if err == nil {
		_, err = p.answered(context.Background(), evBind{op: h.nextOp(), at: at, edition: ed})
	}
	return err
}

// placeOf reads r0 … r63.
func placeOf(replica string) (int, error) {
	digits, ok := strings.CutPrefix(replica, "r")
	at, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil || at >= maxReplicas || strconv.FormatUint(at, 10) != digits {
		return 0, fmt.Errorf("replica_id is not r0 to r63: %w", InvalidParams)
	}
	return int(at), nil
}

// Unbind takes an external engine out of its place; with the last one the pool is
// stopped. WorkerUnknown: nothing is bound there.
func (h *Host) Unbind(pool, replica string) error {
	at, err := placeOf(replica)
	if err != nil {
		return fmt.Errorf("unbind engine: %w", err)
	}
	_, err = h.Pool(poolregistry.PoolID(pool)).ask(context.Background(), "unbind engine", evUnbind{op: h.nextOp(), at: at})
	return err
}
