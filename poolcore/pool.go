package poolcore

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
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

	inbox   chan message
	wake    chan struct{} // there is news
	done    chan struct{} // the loop ended
	mailbox mailbox
	view    atomic.Pointer[view]

	// The rest belongs to the loop's goroutine.
	state    poolState
	start    time.Time
	editions map[int]edition
	edition  int // the newest
	workers  map[uint64]*worker
	found    []adopted     // of the evStart under way
	slots    chan struct{} // bounds spawns, probes and proofs under way
	waiting  map[uint64]waiter
	purges   map[uint64]purgeWork
	after    []event         // to be stepped once the present effects are carried out
	inOrder  chan struct{}   // closed when the newest file effect is done; nil: none
	helpers  *sync.WaitGroup // of file effects, proofs and purges
}

// executors is how many effects of one pool run at once.
const executors = 8

// edition is a configuration that decide knows by its number.
type edition struct {
	cfg  PoolConfig
	kind engine.Kind
}

// message is what reaches a pool's loop.
type message struct {
	ev     event
	worker *worker // evSpawned
	ed     edition // evStart, evReload, evBind
	to     edition // evStart with a reload to resume
	found  []adopted
	purge  purgeWork
	wait   waiter
}

// waiter is told how a request ended. accepted, of capacity 1, is for operations
// only. done must not block; false: nobody wants the answer any more.
type waiter struct {
	accepted chan acceptance
	done     func(reply) bool
}

type acceptance struct {
	code     Code
	finished bool
}

// reply is the answer to a request.
type reply struct {
	err     error
	worker  *worker // evAcquire
	gen     uint64
	shown   Worker
	drained DrainOutcome
}

// mailbox holds the newest news of each kind, so that a loop which is behind reads
// what is true now; what was replaced before it was read is counted.
type mailbox struct {
	mu      sync.Mutex
	active  *activeNews
	device  *evDevice
	trouble *failure
	dropped uint64
}

type activeNews struct {
	n     int
	until time.Time // zero: for good
}

func newPool(h *Host, c crew, id poolregistry.PoolID) *Pool {
	p := &Pool{
		id: id, host: h, crew: c, inbox: make(chan message), wake: make(chan struct{}, 1), done: make(chan struct{}),
		state: poolState{phase: stopped, breaker: breaker{state: breakerClosed}}, workers: map[uint64]*worker{}, editions: map[int]edition{},
		slots: make(chan struct{}, executors), waiting: map[uint64]waiter{}, purges: map[uint64]purgeWork{}, helpers: &sync.WaitGroup{},
	}
	p.publish()
	return p
}

// note puts news into the mailbox and wakes the loop.
func (p *Pool) note(put func(*mailbox)) {
	p.mailbox.mu.Lock()
	put(&p.mailbox)
	p.mailbox.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // it will read the newest
	}
}

// noteDevice keeps a restart that was not read yet.
func (m *mailbox) noteDevice(e evDevice) {
	if m.device != nil {
		e.restart = e.restart || m.device.restart
		m.dropped++
	}
	m.device = &e
}

func (p *Pool) readNews(ctx context.Context) {
	p.mailbox.mu.Lock()
	active, device, trouble := p.mailbox.active, p.mailbox.device, p.mailbox.trouble
	dropped := p.mailbox.dropped
	p.mailbox.active, p.mailbox.device, p.mailbox.trouble, p.mailbox.dropped = nil, nil, nil, 0
	p.mailbox.mu.Unlock()
	if dropped > 0 {
		p.host.stats.dropped(int(dropped))
	}
	if active != nil {
		e := evActive{n: active.n, until: never}
		if !active.until.IsZero() {
			e.until = max(active.until.Sub(p.start), 0)
		}
		p.step(ctx, e)
	}
	if device != nil {
		device.jitter = jitter()
		p.step(ctx, *device)
	}
	if trouble != nil {
		p.step(ctx, evTrouble{fail: *trouble})
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
	case <-p.done:
		return false
	default:
	}
	select {
	case p.inbox <- m:
		return true
	case <-p.done:
		return false
	}
}

// run is the single writer. It ends with ctx; unless the engines are left running
// that must not be before every worker is gone or given up.
func (p *Pool) run(ctx context.Context) {
	defer p.helpers.Wait()
	defer p.dismiss()
	defer close(p.done)
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
			p.readNews(ctx)
		case <-timer.C:
			p.step(ctx, evTick{jitter: jitter()})
		}
	}
}

// dismiss tells everybody who still waits that nothing will come any more.
func (p *Pool) dismiss() {
	for _, w := range p.waiting {
		if w.done != nil {
			w.done(reply{err: HostStopped})
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
		p.workers[e.gen] = m.worker
	case evStart:
		if p.host.isEnding() {
			m.wait.accepted <- acceptance{code: HostStopped}
			return
		}
		p.waiting[e.op] = m.wait
		e.same = !p.state.bound && p.editions[p.state.edition].cfg.same(m.ed.cfg)
		e.edition = p.remember(m.ed)
		if e.resume != "" {
			e.to = p.remember(m.to)
		}
		p.found = m.found
		for _, a := range m.found {
			n := e.edition
			if e.resume != "" && a.cfg.same(m.to.cfg) {
				n = e.to
			}
			e.found = append(e.found, found{at: a.at, edition: n})
		}
		m.ev = e
	case evReload:
		p.waiting[e.op] = m.wait
		e.same = p.editions[p.state.edition].cfg.same(m.ed.cfg)
		e.edition = p.remember(m.ed)
		m.ev = e
	case evBind:
		p.waiting[e.op] = m.wait
		e.edition = p.remember(m.ed)
		m.ev = e
	case evPurge:
		p.waiting[e.op], p.purges[e.op] = m.wait, m.purge
	default:
		if op := opOf(e); op != 0 {
			p.waiting[op] = m.wait
		}
	}
	p.step(ctx, m.ev)
}

// opOf is the number of the requests that carry nothing beside it.
func opOf(e event) uint64 {
	switch e := e.(type) {
	case evStop:
		return e.op
	case evDrain:
		return e.op
	case evUndrain:
		return e.op
	case evRestart:
		return e.op
	case evReset:
		return e.op
	case evAcquire:
		return e.op
	case evUnbind:
		return e.op
	}
	return 0
}

func (p *Pool) remember(ed edition) int {
	p.edition++
	p.editions[p.edition] = ed
	return p.edition
}

func (p *Pool) step(ctx context.Context, e event) {
	before := p.state.phase
	next, effects := decide(p.state, e, time.Since(p.start))
	p.state = next
	p.adopt(effects)
	p.publish()
	for _, f := range effects {
		p.perform(ctx, f)
	}
	p.forget()
	if next.phase != before {
		p.host.cfg.Logger.InfoContext(ctx, "pool", slog.String("pool", string(p.id)), slog.String("from", before), slog.String("to", next.phase))
	}
	for len(p.after) > 0 {
		e := p.after[0]
		p.after = p.after[1:]
		p.step(ctx, e)
	}
}

// forget drops editions and workers that the state does not name any more.
func (p *Pool) forget() {
	s := &p.state
	for n := range p.editions {
		if n != s.edition && !(s.reload.on && n == s.reload.to) && !slices.ContainsFunc(s.places, func(pl place) bool { return pl.edition == n }) {
			delete(p.editions, n)
		}
	}
	for gen := range p.workers {
		if !slices.ContainsFunc(s.places, func(pl place) bool { return pl.gen == gen }) {
			delete(p.workers, gen)
		}
	}
}

// config is what the pool runs, outside a reload.
func (p *Pool) config() PoolConfig { return p.editions[p.state.edition].cfg }

// errorOf is the failure that stands for an error of a helper.
func errorOf(err error, c Code) *failure {
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[Code](err); ok {
		c = own
	}
	return &failure{code: c, err: err, exitCode: -1, message: "a file of the pool could not be written or removed"}
}
