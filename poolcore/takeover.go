package poolcore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/llorch/llorch/poolcore/engine"
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
	for _, list := range byPool {
		// Without a journal all engines of a pool run the same; a record that says
		// otherwise is not believed.
		same := slices.DeleteFunc(slices.Clone(list), func(e adopted) bool { return !e.cfg.same(list[0].cfg) })
		for _, e := range list {
			if !e.cfg.same(list[0].cfg) {
				h.dismissEngine(ctx, c, e)
			}
		}
		h.continuePool(ctx, c, list[0].cfg, message{ev: evStart{keep: true}, found: same})
	}
}

// resume takes up a reload. Engines of neither configuration are ended.
func (h *Host) resume(ctx context.Context, c crew, j reloadJournal, list []adopted) {
	to, kind, err := h.cfg.checkPool(j.To)
	if err != nil { // the program was configured anew: only the old configuration is left
		h.continuePool(ctx, c, j.From, message{ev: evStart{keep: true}})
		for _, e := range list {
			h.dismissEngine(ctx, c, e)
		}
		return
	}
	m := message{ev: evStart{keep: true, resume: j.Phase, toRules: h.rules(to, kind)}, to: edition{to, kind}}
	for _, e := range list {
		if e.cfg.same(j.From) || e.cfg.same(to) {
			m.found = append(m.found, e)
		} else {
			h.dismissEngine(ctx, c, e)
		}
	}
	h.continuePool(ctx, c, j.From, m)
}

func (h *Host) continuePool(ctx context.Context, c crew, cfg PoolConfig, m message) {
	if _, err := h.startPool(ctx, cfg, m); err != nil {
		h.cfg.Logger.WarnContext(ctx, "engines of an earlier run are not taken over", slog.String("pool", cfg.ID), slog.Any("error", err))
		for _, e := range m.found {
			h.dismissEngine(ctx, c, e)
		}
	}
}

func (h *Host) dismissEngine(ctx context.Context, c crew, e adopted) {
	h.cfg.Logger.WarnContext(ctx, "engine of an earlier run is ended", slog.String("worker", string(e.w.id)))
	c.stop(e.w, h.cfg.Timing.StopGrace)
	c.wait(e.w)
}

// startConfigured starts a pool of Config.Pools. One that was taken over with
// another configuration is reloaded: the configuration of the program is what
// counts, and requests that run need not suffer for it.
func (h *Host) startConfigured(ctx context.Context, pc PoolConfig) {
	warn := func(err error) {
		if err != nil && ctx.Err() == nil {
			h.cfg.Logger.ErrorContext(ctx, "pool not started", slog.String("pool", pc.ID), slog.Any("error", err))
		}
	}
	p := h.Pool(poolregistry.PoolID(pc.ID))
	if p == nil {
		_, err := h.startPool(ctx, pc, message{ev: evStart{keep: true}})
		warn(err)
		return
	}
	cfg, kind, err := h.cfg.checkPool(pc)
	if err != nil || p.view.Load().cfg.same(cfg) {
		warn(err)
		return
	}
	n := h.nextOp()
	e := evReload{op: n, rules: h.rules(cfg, kind), strategy: strategyAuto, force: true, within: sickDrain}
	_, err = p.operation(ctx, n, "reload", message{ev: e, ed: edition{cfg, kind}}, nil)
	warn(err)
}

// BindExternal puts an engine that somebody else runs into its place of a pool; one
// that is there already gives way, and its requests end where they are. PoolExists:
// the pool runs engines of its own.
func (h *Host) BindExternal(b handoff.Binding) error {
	cfg, kind, at, err := h.bound(b)
	if err != nil {
		return fmt.Errorf("bind engine: %w", err)
	}
	select {
	case <-h.started:
	default:
		return fmt.Errorf("bind engine: %w", HostStopped)
	}
	p, err := h.pool(b.Pool)
	if err != nil {
		return fmt.Errorf("bind engine: %w", err)
	}
	n := h.nextOp()
	result := make(chan error, 1)
	m := message{
		ev: evBind{op: n, at: at, rules: h.rules(cfg, kind)}, ed: edition{cfg, kind},
		wait: waiter{done: func(r reply) bool { result <- r.err; return true }},
	}
	if !p.post(m) {
		return fmt.Errorf("bind engine: %w", HostStopped)
	}
	select {
	case err = <-result:
	case <-p.done:
		err = HostStopped
	}
	if err != nil {
		return fmt.Errorf("bind engine: %w", err)
	}
	return nil
}

// bound is the configuration that a binding stands for.
func (h *Host) bound(b handoff.Binding) (PoolConfig, engine.Kind, int, error) {
	at, err := placeOf(b.Replica)
	if err != nil {
		return PoolConfig{}, nil, 0, err
	}
	cfg, kind, err := h.cfg.checkPool(PoolConfig{
		ID: string(b.Pool), Engine: "external", Model: b.Model.ID, URL: b.URL, EngineVersion: b.EngineVersion, Slots: b.SlotsTotal,
		Devices: b.DeviceMask,
	})
	return cfg, kind, at, err
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
	p := h.Pool(poolregistry.PoolID(pool))
	if _, err := p.ask(context.Background(), evUnbind{op: h.nextOp(), at: at}); err != nil {
		return fmt.Errorf("unbind engine: %w", err)
	}
	return nil
}
