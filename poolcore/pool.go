package poolcore

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/poolregistry"
)

// Pool is one pool of a host. Its methods are safe for concurrent use; those of a
// nil pool answer PoolUnknown or nothing.
type Pool struct {
	id    poolregistry.PoolID
	host  *Host
	crew  crew
	began time.Time // zero of the loop's clock

	inbox   chan message
	wake    chan struct{} // there is news
	done    chan struct{} // the loop ended
	end     func()        // ends the loop of a pool that the host forgets
	mailbox mailbox
	view    atomic.Pointer[view]

	// The rest belongs to the loop's goroutine.
	state   poolState
	workers map[gen]*worker
	slots   chan struct{} // bounds what is under way beside the loop
	waiting map[op]waiter
	after   []event         // to be stepped once the present effects are carried out
	inOrder chan struct{}   // closed when the newest file effect is done; nil: none
	helpers *sync.WaitGroup // of all that the end of the loop waits for
}

// executors is how many effects of one pool run at once.
const executors = 8

// message is what reaches a pool's loop; wait is for requests.
type message struct {
	ev   event
	wait waiter
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
	gen     gen // evAcquire
	shown   Worker
	drained DrainOutcome
}

// mailbox holds the newest news of each kind, so that a loop which is behind reads
// what is true now; what was replaced before it was read is counted.
type mailbox struct {
	mu   sync.Mutex
	news []event // one of a type
}

func newPool(h *Host, c crew, id poolregistry.PoolID) *Pool {
	p := &Pool{
		id: id, host: h, crew: c, began: time.Now(), inbox: make(chan message), wake: make(chan struct{}, 1), done: make(chan struct{}),
		state: emptyPool(), workers: map[gen]*worker{}, slots: make(chan struct{}, executors), waiting: map[op]waiter{}, helpers: &sync.WaitGroup{},
	}
	p.publish(0)
	return p
}

// clock is t on the loop's clock.
func (p *Pool) clock(t time.Time) time.Duration { return t.Sub(p.began) }

// note puts news into the mailbox and wakes the loop.
func (p *Pool) note(e event) {
	p.mailbox.mu.Lock()
	kind := func(old event) bool { return reflect.TypeOf(old) == reflect.TypeOf(e) }
	if i := slices.IndexFunc(p.mailbox.news, kind); i >= 0 {
		if d, ok := e.(evDevice); ok { // a restart that was not read yet is kept
			d.restart = d.restart || p.mailbox.news[i].(evDevice).restart
			e = d
		}
		p.mailbox.news[i] = e
		p.host.stats.dropped(1)
	} else {
		p.mailbox.news = append(p.mailbox.news, e)
	}
	p.mailbox.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // it will read the newest
	}
}

func (p *Pool) readNews(ctx context.Context) {
	p.mailbox.mu.Lock()
	news := p.mailbox.news
	p.mailbox.news = nil
	p.mailbox.mu.Unlock()
	for _, e := range news {
		p.step(ctx, e)
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

// post is send for what the loop waits for; false: the loop has ended.
func (p *Pool) post(e event) bool { return p.send(context.Background(), message{ev: e}) == nil }

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
		w.done(reply{err: HostStopped})
	}
}

func (p *Pool) untilDue() time.Duration {
	due := p.state.due()
	if due == never {
		return time.Hour
	}
	return max(due-time.Since(p.began), 0)
}

func jitter() float64 { return 2*rand.Float64() - 1 }

// receive remembers who waits, then steps.
func (p *Pool) receive(ctx context.Context, m message) {
	if r, ok := m.ev.(interface{ number() op }); ok && m.wait.done != nil {
		p.waiting[r.number()] = m.wait
	}
	p.step(ctx, m.ev)
}

func (p *Pool) step(ctx context.Context, e event) {
	if e, ok := e.(evSpawned); ok {
		p.workers[e.gen] = e.worker
	}
	before, now := p.state.phase, time.Since(p.began)
	next, effects := decide(p.state, e, now)
	p.state = next
	p.adopt(effects)
	p.publish(now)
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

// adopt makes the workers of effAdopt known before anything is shown.
func (p *Pool) adopt(effects []effect) {
	for _, f := range effects {
		if f, ok := f.(effAdopt); ok {
			f.worker.gen = uint64(f.gen)
			p.workers[f.gen] = f.worker
		}
	}
}

// forget drops the workers that the state does not name any more.
func (p *Pool) forget() {
	for g := range p.workers {
		if !slices.ContainsFunc(p.state.places, func(pl place) bool { return pl.gen == g }) {
			delete(p.workers, g)
		}
	}
}

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
