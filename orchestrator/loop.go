package orchestrator

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/queue"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Bounds of the loop's inputs (ORC-103). Facts are what happened and come
// first; submits are what people want.
const (
	factsBound   = 4096
	submitsBound = 1024
	asksBound    = 64
	turnBound    = 256
)

// loop is the one goroutine that owns the core. It never does I/O and never
// waits for a lock that is held during I/O.
type loop struct {
	core    *sched.Core
	execute func(sched.Effect)
	publish func(*sched.Core, time.Duration)                              // after each turn; must not block
	record  func(*sched.Core, sched.Instant, sched.Event, []sched.Effect) // after each step; must not block
	start   time.Time

	facts   chan fact
	submits chan sched.Submit
	asks    chan func(*sched.Core)
	quit    chan struct{} // closed by close
	done    chan struct{} // closed when run returned
	once    sync.Once
	idle    chan chan struct{} // waiters for an idle core
	waiters []chan struct{}
	timer   *time.Timer
}

// fact is an event, with an optional channel that is closed once it is applied.
type fact struct {
	event   sched.Event
	applied chan struct{}
	at      time.Time
}

func newLoop(core *sched.Core, decisions *decisionlog.Writer, execute func(sched.Effect), publish func(*sched.Core, time.Duration)) *loop {
	return &loop{
		start: time.Now(), core: core, record: decisions.Record, execute: execute, publish: publish,
		facts: make(chan fact, factsBound), submits: make(chan sched.Submit, submitsBound), asks: make(chan func(*sched.Core), asksBound),
		quit: make(chan struct{}), done: make(chan struct{}), idle: make(chan chan struct{}, 4),
	}
}

// post hands a fact over; after the end of the loop it is dropped.
func (l *loop) post(e sched.Event) {
	select {
	case l.facts <- fact{event: e, at: time.Now()}:
	case <-l.done:
	}
}

// offer is post for facts that nobody misses; it never waits.
func (l *loop) offer(e sched.Event) {
	select {
	case l.facts <- fact{event: e, at: time.Now()}:
	default:
	}
}

// apply hands a fact over and waits until its effects were given out; false if
// the loop ended first.
func (l *loop) apply(e sched.Event) bool {
	f := fact{event: e, applied: make(chan struct{}), at: time.Now()}
	select {
	case l.facts <- f:
	case <-l.done:
		return false
	}
	select {
	case <-f.applied:
		return true
	case <-l.done:
		return false
	}
}

// submit hands a request over, or gives up when ctx or the loop ends.
func (l *loop) submit(ctx context.Context, s sched.Submit) error {
	select {
	case l.submits <- s:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.done:
		return taskapi.NewError(taskapi.ShuttingDown)
	}
}

// ask runs f on the core, between two steps; false if the loop ended first. f
// must only read.
func (l *loop) ask(f func(*sched.Core)) bool {
	ready := make(chan struct{})
	select {
	case l.asks <- func(c *sched.Core) { f(c); close(ready) }:
	case <-l.done:
		return false
	}
	select {
	case <-ready:
		return true
	case <-l.done:
		return false
	}
}

// waitIdle waits until the core holds no task, at most d or until hurry; it
// reports whether it does.
func (l *loop) waitIdle(d time.Duration, hurry <-chan struct{}) bool {
	w := make(chan struct{})
	select {
	case l.idle <- w:
	case <-l.done:
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-w:
		return true
	case <-l.done:
		return true
	case <-hurry:
		return false
	case <-t.C:
		return false
	}
}

// close ends run after the turn in progress.
func (l *loop) close() { l.once.Do(func() { close(l.quit) }) }

// run owns the core until close or the end of ctx. A panic in the core is
// returned as an error.
func (l *loop) run(ctx context.Context) (err error) {
	defer close(l.done)
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("orchestrator: internal error in the scheduling loop: %v\n%s", v, debug.Stack())
		}
	}()
	l.timer = time.NewTimer(time.Hour)
	defer l.timer.Stop()
	for {
		select { // facts go first
		case f := <-l.facts:
			l.turn(f)
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.quit:
			return nil
		case f := <-l.facts:
			l.turn(f)
		case s := <-l.submits:
			l.step(s)
			l.end(0)
		case ask := <-l.asks:
			ask(l.core)
		case w := <-l.idle:
			l.waiters = append(l.waiters, w)
			l.wakeIdle()
		case <-l.timer.C:
			l.step(sched.Tick{})
			l.end(0)
		}
	}
}

// turn applies a fact and those that wait behind it.
func (l *loop) turn(first fact) {
	lag := time.Since(first.at)
	for f, n := first, 0; ; n++ {
		l.step(f.event)
		if f.applied != nil {
			close(f.applied)
		}
		if n == turnBound {
			break
		}
		select {
		case f = <-l.facts:
			continue
		default:
		}
		break
	}
	l.end(lag)
}

// step applies one event and gives its effects out.
func (l *loop) step(e sched.Event) {
	at := l.now()
	effects := l.core.Step(at, e)
	l.record(l.core, at, e, effects)
	for _, fx := range effects {
		if t, ok := fx.(sched.SetTimer); ok {
			l.setTimer(t.At)
			continue
		}
		l.execute(fx)
	}
}

func (l *loop) end(lag time.Duration) {
	l.publish(l.core, lag)
	l.wakeIdle()
}

func (l *loop) wakeIdle() {
	if !l.core.Idle() {
		return
	}
	for _, w := range l.waiters {
		close(w)
	}
	l.waiters = nil
}

// now is the instant of the loop's clock; it starts at 1, 0 means none.
func (l *loop) now() sched.Instant { return sched.Instant(time.Since(l.start)) + 1 }

// instant converts a wall time that was made by this process.
func (l *loop) instant(at time.Time) sched.Instant {
	if at.IsZero() {
		return 0
	}
	now := l.now()
	return max(1, now+min(sched.Instant(time.Until(at)), math.MaxInt64-now))
}

func (l *loop) setTimer(at sched.Instant) {
	if at == 0 {
		l.timer.Stop()
		return
	}
	l.timer.Reset(time.Duration(max(0, at-l.now())))
}

// stats is what observers hear of the loop.
func stats(c *sched.Core, lag time.Duration) observe.Loop {
	total, free := c.View().Slots()
	return observe.Loop{
		Interactive: c.Depth(queue.Interactive), Batch: c.Depth(queue.Batch), SlotsTotal: total, SlotsFree: free,
		Running: c.Running(), DuplicateReleases: c.DuplicateReleases(), Lag: lag,
	}
}
