package poolcore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
)

// ask sends a request to the loop and waits for its answer. When ctx ends first the
// request goes on and is answered into the void.
func (p *Pool) ask(ctx context.Context, e event) (reply, error) {
	if p == nil {
		return reply{}, PoolUnknown
	}
	answers := make(chan reply, 1)
	var mu sync.Mutex
	left := false
	take := func(r reply) bool {
		mu.Lock()
		defer mu.Unlock()
		if !left {
			answers <- r
		}
		return !left
	}
	if err := p.send(ctx, message{ev: e, wait: waiter{done: take}}); err != nil {
		return reply{}, err
	}
	select {
	case r := <-answers:
		return r, r.err
	case <-p.done:
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	left = true
	select {
	case r := <-answers: // it came in the same moment
		return r, r.err
	default:
		return reply{}, cmp.Or(ctx.Err(), error(HostStopped))
	}
}

// operation sends the request for an operation and waits until it is accepted.
func (p *Pool) operation(ctx context.Context, n uint64, kind string, m message, ended func(error)) (*Operation, error) {
	op, err := p.host.newOperation(n, kind, p.id)
	if err != nil {
		return nil, err
	}
	op.cancel = func() { p.post(message{ev: evCancel{op: n}}) }
	m.wait = waiter{accepted: make(chan acceptance, 1), done: func(r reply) bool {
		if ended != nil {
			ended(r.err)
		}
		op.finish(nil, r.err)
		return true
	}}
	if err := p.send(ctx, m); err != nil {
		p.host.operations.remove(op)
		return nil, err
	}
	select {
	case a := <-m.wait.accepted:
		if a.code != "" {
			p.host.operations.remove(op)
			return nil, a.code
		}
		if a.finished {
			op.finish(nil, nil)
		}
		return op, nil
	case <-p.done:
		p.host.operations.remove(op)
		return nil, HostStopped
	}
}

// Stop ends all workers of the pool: SIGTERM, after grace (0: the pool's own)
// SIGKILL. It returns when they are gone; when ctx ends first the stop goes on. A
// stopped pool may be preloaded again. A process that survives SIGKILL is
// WorkerStuck.
func (p *Pool) Stop(ctx context.Context, grace time.Duration) error {
	return p.stop(ctx, evStop{grace: grace})
}

func (p *Pool) stop(ctx context.Context, e evStop) error {
	e.op = p.nextOp()
	if _, err := p.ask(ctx, e); err != nil {
		return fmt.Errorf("stop pool: %w", err)
	}
	return nil
}

func (p *Pool) nextOp() uint64 {
	if p == nil {
		return 0
	}
	return p.host.nextOp()
}

// Drain takes the pool out of service at once and waits until nothing runs there
// any more: by the scheduler's count, by the slots taken with Acquire and by the
// engines themselves. After within (0: now) the engines are stopped. It joins a
// drain that is under way; the earlier deadline wins. The engines run on after an
// unforced drain unless PoolConfig.StopAfterDrain. When ctx ends first the drain
// goes on. PoolUnready: the pool is stopped; PoolBusy: an operation is under way;
// Cancelled: the drain was undone.
func (p *Pool) Drain(ctx context.Context, within time.Duration) (DrainOutcome, error) {
	r, err := p.ask(ctx, evDrain{op: p.nextOp(), within: max(within, 0)})
	if err != nil {
		return DrainOutcome{}, fmt.Errorf("drain pool: %w", err)
	}
	return r.drained, nil
}

// Undrain puts a pool that is draining or drained into service again; engines that
// were stopped are started. A pool that is not drained stays as it is.
func (p *Pool) Undrain() error {
	if _, err := p.ask(context.Background(), evUndrain{op: p.nextOp()}); err != nil {
		return fmt.Errorf("undrain pool: %w", err)
	}
	return nil
}

// Restart replaces all workers by new ones, closes the breaker, and waits until
// all are ready or one failed; supervision then goes on. PoolUnready: the pool is
// stopped.
func (p *Pool) Restart(ctx context.Context) error {
	if _, err := p.ask(ctx, evRestart{op: p.nextOp()}); err != nil {
		return fmt.Errorf("restart pool: %w", err)
	}
	return nil
}

// ResetBreaker closes the breaker, forgets failures and starts at once what waits.
func (p *Pool) ResetBreaker() error {
	if _, err := p.ask(context.Background(), evReset{op: p.nextOp()}); err != nil {
		return fmt.Errorf("reset breaker: %w", err)
	}
	return nil
}

// Acquire takes a slot of the ready worker with the most free ones. It is for
// programs without an orchestrator. Release gives the slot back; it may be called
// any number of times and counts once. Draining, PoolUnready and NoSlots say why
// there is none; it does not wait for one.
func (p *Pool) Acquire(ctx context.Context) (w Worker, release func(), err error) {
	r, err := p.ask(ctx, evAcquire{op: p.nextOp()})
	if err != nil {
		return Worker{}, nil, fmt.Errorf("acquire slot: %w", err)
	}
	var once sync.Once
	return r.shown, func() { once.Do(func() { p.post(message{ev: evRelease{gen: r.gen}}) }) }, nil
}

// ReloadRequest asks for another configuration in the places of a pool. A zero
// field keeps what the pool has; its id, replicas and devices always stay.
type ReloadRequest struct {
	Model, ModelPath, EngineVersion, Binary string
	Flags                                   []string // nil: as they are
	Ctx, Slots                              int
	// Strategy is alongside (the new worker is ready before the old one goes),
	// in_place, or auto: alongside where both fit. Empty: auto.
	Strategy string
	// Within is how long requests on the old workers may take; 0: 30 s. Force ends
	// what still runs then, else the reload fails and the old workers serve again.
	Within time.Duration
	Force  bool
}

// Reload replaces the pool's configuration. The operation ends with the new engines
// ready, or with an error: ReloadStageFailed (nothing was touched),
// ReloadDrainTimeout and ReloadRolledBack (the old engines serve again), or
// RollbackFailed (neither serves; supervision goes on trying the old ones).
// PoolBusy: an operation is under way; PoolUnready: there is nothing to replace.
func (p *Pool) Reload(ctx context.Context, r ReloadRequest) (*Operation, error) {
	if p == nil {
		return nil, fmt.Errorf("reload pool: %w", PoolUnknown)
	}
	v := p.view.Load()
	cfg, kind, err := p.host.cfg.checkPool(r.apply(v.cfg))
	if v.cfg.ID == "" {
		err = PoolUnready
	}
	strategy := cmp.Or(r.Strategy, strategyAuto)
	if err == nil && (!slices.Contains([]string{strategyAuto, strategyAlongside, strategyInPlace}, strategy) || r.Within < 0) {
		err = fmt.Errorf("strategy or drain time: %w", InvalidParams)
	}
	if err != nil {
		return nil, fmt.Errorf("reload pool: %w", err)
	}
	n := p.host.nextOp()
	e := evReload{op: n, rules: p.host.rules(cfg, kind), strategy: strategy, force: r.Force, within: cmp.Or(r.Within, sickDrain)}
	op, err := p.operation(ctx, n, "reload", message{ev: e, ed: edition{cfg, kind}}, nil)
	if err != nil {
		return nil, fmt.Errorf("reload pool: %w", err)
	}
	return op, nil
}

func (r ReloadRequest) apply(c PoolConfig) PoolConfig {
	if r.Model != "" && r.ModelPath == "" {
		c.ModelPath = "" // another model is not in the old file
	}
	c.Model, c.ModelPath = cmp.Or(r.Model, c.Model), cmp.Or(r.ModelPath, c.ModelPath)
	c.EngineVersion, c.Binary = cmp.Or(r.EngineVersion, c.EngineVersion), cmp.Or(r.Binary, c.Binary)
	c.Ctx, c.Slots = cmp.Or(r.Ctx, c.Ctx), cmp.Or(r.Slots, c.Slots)
	if r.Flags != nil {
		c.Flags = r.Flags
	}
	return c
}

// PurgeRequest says what to remove from the node.
type PurgeRequest struct {
	Engine bool     // stop the pool; its engines' logs, private directories and caches
	Models []string // references in the catalogue
	Caches bool     // partial downloads and temporary files
	Force  bool     // also models that other pools use; else those are ModelInUse
	// NoDrain ends the engines at once; else requests have 30 s.
	NoDrain bool
}

// Purge removes what r names. Only what lies below StateDir and the catalogue is
// ever deleted.
func (p *Pool) Purge(ctx context.Context, r PurgeRequest) (*Operation, error) {
	if p == nil {
		return nil, fmt.Errorf("purge pool: %w", PoolUnknown)
	}
	n := p.host.nextOp()
	e := evPurge{op: n, engine: r.Engine}
	if !r.NoDrain {
		e.within = sickDrain
	}
	work := purgeWork{engine: r.Engine, models: slices.Clone(r.Models), caches: r.Caches, force: r.Force}
	op, err := p.operation(ctx, n, "purge", message{ev: e, purge: work}, nil)
	if err != nil {
		return nil, fmt.Errorf("purge pool: %w", err)
	}
	return op, nil
}

// rules are what a configuration means for decisions.
func (h *Host) rules(pc PoolConfig, k engine.Kind) rules {
	t := h.cfg.Timing
	profile := engine.ProfileOf(k)
	r := rules{
		replicas: pc.Replicas, slots: pc.Slots, startAtMost: t.Start, stopGrace: t.StopGrace, timing: t,
		announce: !profile.External, stopAfterDrain: pc.StopAfterDrain,
	}
	if pc.StartTimeoutMS > 0 {
		r.startAtMost = time.Duration(pc.StartTimeoutMS) * time.Millisecond
	}
	// 50 MB/s: a network disk on a bad day.
	r.startAtMost = max(r.startAtMost, time.Duration(h.modelBytes(pc)/50_000_000)*time.Second)
	r.startAtMost = min(r.startAtMost, t.StartMax)
	if profile.StopGrace > 0 {
		r.stopGrace = profile.StopGrace
	}
	if pc.StopGraceMS > 0 {
		r.stopGrace = time.Duration(pc.StopGraceMS) * time.Millisecond
	}
	return r
}
