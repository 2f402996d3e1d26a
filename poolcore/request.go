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

// ask sends a request to the loop and waits for its answer; what names it in errors.
// When ctx ends first the request goes on and is answered into the void.
func (p *Pool) ask(ctx context.Context, what string, e event) (reply, error) {
	r, err := p.answered(ctx, e)
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}

func (p *Pool) answered(ctx context.Context, e event) (reply, error) {
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

// operation sends the request for operation n and waits until it is accepted.
func (p *Pool) operation(ctx context.Context, kind string, n op, e event, ended func(error)) (*Operation, error) {
	o, err := p.host.newOperation(n, kind, p.id, false, func() { p.post(evCancel{n}) })
	if err != nil {
		return nil, err
	}
	wait := waiter{accepted: make(chan acceptance, 1), done: func(r reply) bool {
		if ended != nil {
			ended(r.err)
		}
		o.finish(nil, r.err)
		return true
	}}
	err = p.send(ctx, message{ev: e, wait: wait})
	if err == nil {
		select {
		case a := <-wait.accepted:
			if a.code == "" {
				if a.finished {
					o.finish(nil, nil)
				}
				return o, nil
			}
			err = a.code
		case <-p.done:
			err = HostStopped
		}
	}
	p.host.operations.remove(o)
	return nil, err
}

// Stop ends all workers of the pool: SIGTERM, after grace (0: the pool's own)
// SIGKILL. It returns when they are gone; when ctx ends first the stop goes on. A
// stopped pool may be preloaded again. A process that survives SIGKILL is
// WorkerStuck.
func (p *Pool) Stop(ctx context.Context, grace time.Duration) error {
	_, err := p.ask(ctx, "stop pool", evStop{op: p.nextOp(), grace: grace})
	return err
}

func (p *Pool) nextOp() op {
	if p == nil {
		return 0
	}
	return p.host.nextOp()
}

// Drain takes the pool out of service at once and waits until nothing runs there
// any more: by the slots taken with Acquire, by the engines themselves, and by a count
// of the scheduler that it made knowing of the drain. After within (0: now) the
// engines are stopped. It joins a drain that is under way; the earlier deadline wins.
// The engines run on after an unforced drain unless PoolConfig.StopAfterDrain. When
// ctx ends first the drain goes on. PoolUnready: the pool is stopped; PoolBusy: an
// operation is under way; Cancelled: the drain was undone.
func (p *Pool) Drain(ctx context.Context, within time.Duration) (DrainOutcome, error) {
	r, err := p.ask(ctx, "drain pool", evDrain{op: p.nextOp(), within: max(within, 0)})
	return r.drained, err
}

// Undrain puts a pool that is draining or drained into service again; engines that
// were stopped are started. A pool that is not drained stays as it is, and so does one
// that the scheduler or a failing device keeps out of service.
func (p *Pool) Undrain() error {
	_, err := p.ask(context.Background(), "undrain pool", evUndrain{p.nextOp()})
	return err
}

// Restart replaces all workers by new ones, closes the breaker, and waits until
// all are ready or one failed; supervision then goes on. What the preflight would
// refuse is refused before a worker is touched. PoolUnready: the pool is stopped.
func (p *Pool) Restart(ctx context.Context) error {
	if p != nil && p.Status().Ready {
		if ed := p.view.Load().edition; ed != nil {
			if f := p.crew.stage(ctx, ed.cfg, ed.kind, true); f != nil {
				return fmt.Errorf("restart pool: %w", f.asError())
			}
		}
	}
	_, err := p.ask(ctx, "restart pool", evRestart{p.nextOp()})
	return err
}

// ResetBreaker closes the breaker, forgets failures and starts at once what waits.
func (p *Pool) ResetBreaker() error {
	_, err := p.ask(context.Background(), "reset breaker", evReset{p.nextOp()})
	return err
}

// Acquire takes a slot of the ready worker with the most free ones. It is for
// programs without an orchestrator. Release gives the slot back; it may be called
// any number of times and counts once. Draining, PoolUnready and NoSlots say why
// there is none; it does not wait for one.
func (p *Pool) Acquire(ctx context.Context) (w Worker, release func(), err error) {
	r, err := p.ask(ctx, "acquire slot", evAcquire{p.nextOp()})
	if err != nil {
		return Worker{}, nil, err
	}
	return r.shown, sync.OnceFunc(func() { p.post(evRelease{r.gen}) }), nil
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
	o, err := p.reload(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("reload pool: %w", err)
	}
	return o, nil
}

func (p *Pool) reload(ctx context.Context, r ReloadRequest) (*Operation, error) {
	if p == nil {
		return nil, PoolUnknown
	}
	now := p.view.Load().cfg
	if now.ID == "" {
		return nil, PoolUnready
	}
	strategy := cmp.Or(r.Strategy, strategyAuto)
	if !slices.Contains([]string{strategyAuto, strategyAlongside, strategyInPlace}, strategy) || r.Within < 0 {
		return nil, fmt.Errorf("strategy or drain time: %w", InvalidParams)
	}
	ed, err := p.host.edition(r.apply(now))
	if err != nil {
		return nil, err
	}
	return p.reloadTo(ctx, ed, strategy, cmp.Or(r.Within, sickDrain), r.Force)
}

func (p *Pool) reloadTo(ctx context.Context, ed *edition, strategy string, within time.Duration, force bool) (*Operation, error) {
	n := p.host.nextOp()
	return p.operation(ctx, "reload", n, evReload{op: n, edition: ed, strategy: strategy, force: force, within: within}, nil)
}

func (r ReloadRequest) apply(c PoolConfig) PoolConfig {
	if r.Model != "" && r.ModelPath == "" {
		c.ModelPath = "" // another model is not in the old file
	}
	if r.Model != "" && r.Model != c.Model {
		c.Quant, c.VRAMDeclared = "", 0 // nor is what was said of the old one true of it
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
	e := evPurge{op: n, work: purgeWork{engine: r.Engine, models: slices.Clone(r.Models), caches: r.Caches, force: r.Force}}
	if !r.NoDrain {
		e.within = sickDrain
	}
	o, err := p.operation(ctx, "purge", n, e, nil)
	if err != nil {
		return nil, fmt.Errorf("purge pool: %w", err)
	}
	return o, nil
}

// edition checks a configuration and works out what it means for decisions.
func (h *Host) edition(pc PoolConfig) (*edition, error) {
	pc, kind, err := h.cfg.checkPool(pc)
	if err != nil {
		return nil, err
	}
	t, profile := h.cfg.Timing, engine.ProfileOf(kind)
	start := cmp.Or(time.Duration(pc.StartTimeoutMS)*time.Millisecond, t.Start)
	start = max(start, time.Duration(h.modelBytes(pc)/50_000_000)*time.Second) // a network disk on a bad day
	return &edition{cfg: pc, kind: kind, rules: rules{
		replicas: pc.Replicas, slots: pc.Slots, timing: t, announce: !profile.External, stopAfterDrain: pc.StopAfterDrain,
		startAtMost: min(start, t.StartMax),
		stopGrace:   cmp.Or(time.Duration(pc.StopGraceMS)*time.Millisecond, profile.StopGrace, t.StopGrace),
	}}, nil
}
