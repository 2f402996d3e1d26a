package poolcore

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// Pool is one pool of a host. Its methods are safe for concurrent use; those of a
// nil pool answer PoolUnknown or nothing.
type Pool struct {
	id   poolregistry.PoolID
	host *Host
	crew crew

	inbox  chan message
	wake   chan struct{} // active changed
	done   chan struct{} // the loop ended
	active atomic.Int64
	view   atomic.Pointer[view]

	// The rest belongs to the loop's goroutine.
	cfg     PoolConfig
	kind    engine.Kind
	state   poolState
	start   time.Time
	workers map[int]*worker // by place: the newest that was spawned
	slots   chan struct{}   // bounds spawns and probes under way
	waiting map[uint64]waiter
}

// executors is how many spawns and probes of one pool may run at once.
const executors = 8

// message is what reaches a pool's loop.
type message struct {
	ev     event
	worker *worker    // evSpawned
	cfg    PoolConfig // evStart
	kind   engine.Kind
	wait   waiter
}

// waiter is told how a request ended. accepted is only for starts.
type waiter struct {
	accepted chan acceptance // capacity 1
	done     func(error)
}

type acceptance struct {
	code     Code
	finished bool
}

func newPool(h *Host, c crew, id poolregistry.PoolID) *Pool {
	p := &Pool{
		id: id, host: h, crew: c, inbox: make(chan message), wake: make(chan struct{}, 1), done: make(chan struct{}),
		state: poolState{phase: stopped, breaker: breaker{state: breakerClosed}}, workers: map[int]*worker{},
		slots: make(chan struct{}, executors), waiting: map[uint64]waiter{},
	}
	p.publish()
	return p
}

// ID returns the pool's id.
func (p *Pool) ID() poolregistry.PoolID {
	if p == nil {
		return ""
	}
	return p.id
}

// Status returns the pool as the node contract shows it. It never waits.
func (p *Pool) Status() poolregistry.Pool {
	if p == nil {
		return poolregistry.Pool{State: "failed", LastError: &poolregistry.PoolError{Code: string(PoolUnknown)}}
	}
	v := p.view.Load()
	status := v.status
	status.Workers = make([]poolregistry.Worker, len(v.workers))
	for i := range v.workers {
		status.Workers[i] = v.workers[i].Worker
	}
	status.ModelsAvailable = slices.Clone(v.status.ModelsAvailable)
	status.ModelsLoaded = slices.Clone(v.status.ModelsLoaded)
	if status.LastError != nil {
		status.LastError = new(*status.LastError)
	}
	status.VRAMTotalBytes, status.VRAMFreeBytes = p.host.vram()
	return status
}

// Workers yields the pool's workers with their credentials, sorted by id.
func (p *Pool) Workers() iter.Seq[Worker] {
	return func(yield func(Worker) bool) {
		if p == nil {
			return
		}
		for _, w := range p.view.Load().workers {
			if !yield(w) {
				return
			}
		}
	}
}

// Stop ends all workers of the pool: SIGTERM, after grace (0: the pool's own)
// SIGKILL. It returns when they are gone; when ctx ends first the stop goes on. A
// stopped pool may be preloaded again. A process that survives SIGKILL is
// WorkerStuck.
func (p *Pool) Stop(ctx context.Context, grace time.Duration) error {
	if p == nil {
		return PoolUnknown
	}
	return p.stop(ctx, evStop{op: p.host.nextOp(), grace: grace})
}

func (p *Pool) stop(ctx context.Context, e evStop) error {
	result := make(chan error, 1)
	m := message{ev: e, wait: waiter{done: func(err error) { result <- err }}}
	if err := p.send(ctx, m); err != nil {
		return fmt.Errorf("stop pool: %w", err)
	}
	select {
	case err := <-result:
		return err
	case <-p.done:
		return HostStopped
	case <-ctx.Done():
		return fmt.Errorf("stop pool: %w", ctx.Err())
	}
}

// send hands m to the loop.
func (p *Pool) send(ctx context.Context, m message) error {
	select {
	case p.inbox <- m:
		return nil
	case <-p.done:
		return HostStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// post is send for the loop's own helpers; false: the loop has ended.
func (p *Pool) post(m message) bool {
	select {
	case p.inbox <- m:
		return true
	case <-p.done:
		return false
	}
}

// run is the single writer. It ends with ctx, which must not end before every
// worker is gone or given up.
func (p *Pool) run(ctx context.Context) {
	defer close(p.done)
	p.start = time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(p.untilDue())
		select {
		case <-ctx.Done():
			return
		case m := <-p.inbox:
			p.receive(ctx, m)
		case <-p.wake:
			p.step(ctx, evActive{n: int(p.active.Load())})
		case <-timer.C:
			p.step(ctx, evTick{jitter: jitter()})
		}
	}
}

func (p *Pool) untilDue() time.Duration {
	due := p.state.due()
	if due == never {
		return time.Hour
	}
	return max(due-time.Since(p.start), 0)
}

func jitter() float64 { return 2*rand.Float64() - 1 }

// receive notes what decide does not see, then steps.
func (p *Pool) receive(ctx context.Context, m message) {
	switch e := m.ev.(type) {
	case evSpawned:
		p.workers[e.at] = m.worker
	case evStart:
		if p.host.isEnding() {
			m.wait.accepted <- acceptance{code: HostStopped}
			return
		}
		e.same = p.cfg.same(m.cfg)
		m.ev = e
		p.waiting[e.op] = m.wait
		if p.state.phase == stopped || p.state.phase == failed && p.state.halted() {
			p.cfg, p.kind = m.cfg, m.kind
		}
	case evStop:
		p.waiting[e.op] = m.wait
	}
	p.step(ctx, m.ev)
}

func (p *Pool) step(ctx context.Context, e event) {
	before := p.state.phase
	next, effects := decide(p.state, e, time.Since(p.start))
	p.state = next
	p.publish()
	for _, f := range effects {
		p.perform(ctx, f)
	}
	if next.phase != before {
		p.host.cfg.Logger.InfoContext(ctx, "pool", slog.String("pool", string(p.id)), slog.String("from", before), slog.String("to", next.phase))
	}
}

// perform carries one effect out; what takes time runs beside the loop and comes
// back as a message.
func (p *Pool) perform(ctx context.Context, f effect) {
	switch f := f.(type) {
	case effSpawn:
		go p.spawn(ctx, p.cfg, p.kind, f)
	case effProbe:
		go p.probe(ctx, p.workers[f.at], f)
	case effKill:
		go p.kill(p.workers[f.at], f)
	case effAccept:
		p.accept(f)
	case effDone:
		p.answer(f)
	case effFailed:
		p.host.failed(ctx, p, p.worker(f.at, f.gen), f)
	case effMoved:
		p.host.moved(ctx, p, p.worker(f.at, f.gen), f)
	case effNudge:
		p.host.nudge()
	}
}

// worker returns the process of an attempt, or nil if there was none.
func (p *Pool) worker(at int, gen uint64) *worker {
	if w := p.workers[at]; w != nil && w.gen == gen {
		return w
	}
	return nil
}

func (p *Pool) spawn(ctx context.Context, c PoolConfig, k engine.Kind, f effSpawn) {
	p.slots <- struct{}{}
	w, fail := p.crew.spawn(ctx, c, k, f.at, f.gen)
	<-p.slots
	if fail != nil {
		p.post(message{ev: evSpawnFailed{at: f.at, gen: f.gen, fail: *fail, jitter: jitter()}})
		return
	}
	if !p.post(message{ev: evSpawned(f), worker: w}) {
		p.crew.stop(w, 0) // the loop gave up waiting for us
		p.crew.wait(w)
		return
	}
	why := p.crew.wait(w)
	p.post(message{ev: evExited{at: f.at, gen: f.gen, fail: why, jitter: jitter()}})
}

func (p *Pool) probe(ctx context.Context, w *worker, f effProbe) {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	began := time.Now()
	answer := p.crew.probe(ctx, w)
	served := w.served.Load()
	if answer.ready && !answer.foreign {
		w.served.Store(true)
	}
	p.host.stats.probed(served, answer, time.Since(began))
	p.post(message{ev: evProbed{at: f.at, gen: f.gen, probe: answer, jitter: jitter()}})
}

func (p *Pool) kill(w *worker, f effKill) {
	if !p.crew.stop(w, f.grace) {
		p.post(message{ev: evStuck{at: f.at, gen: f.gen}})
	}
}

// accept answers a start for the first time.
func (p *Pool) accept(f effAccept) {
	w := p.waiting[f.op]
	if f.code != "" || f.done {
		delete(p.waiting, f.op)
	}
	if w.accepted != nil {
		w.accepted <- acceptance{code: f.code, finished: f.done}
	}
}

// answer tells a waiter how its request ended.
func (p *Pool) answer(f effDone) {
	w := p.waiting[f.op]
	delete(p.waiting, f.op)
	if w.done == nil {
		return
	}
	if f.fail == nil {
		w.done(nil)
		return
	}
	w.done(f.fail.asError())
}
