package poolcore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/poolregistry"
)

// Bounds of the operations that a host remembers.
const (
	maxOperations = 256
	keptFor       = time.Hour // after its end
	atOnce        = 8         // of those that Operate runs
)

// Operation is something that takes a while, such as a preload. It is safe for
// concurrent use and goes on when nobody waits for it. A host remembers 256 of
// them, each for one hour after its end.
type Operation struct {
	// ID names the operation within its host; Kind is preload, reload, purge or
	// what [Host.Operate] was told.
	ID, Kind string
	Pool     poolregistry.PoolID // empty: of no pool

	done    chan struct{}
	cancel  func()
	began   time.Time
	fetched *atomic.Uint64 // the host's sum of Progress.Received

	mu sync.Mutex
	standing
}

// standing is how an operation stands.
type standing struct {
	queued   bool
	phase    string
	progress Progress
	result   any
	err      error
	ended    time.Time
}

// Progress is how far an operation has come. The zero value says nothing.
type Progress struct {
	Done, Total int64 // bytes; a Total below 0 is not known
	Received    int64 // what came over the network, counted anew where it falls
	Human       string
}

// Wait blocks until the operation ended or ctx did, and returns the operation's
// error or ctx's. A preload fails with *PreflightError, *CrashError or a Code; a
// reload with RELOAD_… and that as its cause; a cancelled operation with Cancelled.
func (o *Operation) Wait(ctx context.Context) error {
	select {
	case <-o.done:
		return o.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Err returns the error of an operation that ended, else nil.
func (o *Operation) Err() error { return o.now().err }

// State returns queued, running, done, failed or cancelled.
func (o *Operation) State() string {
	switch s := o.now(); {
	case s.ended.IsZero() && s.queued:
		return "queued"
	case s.ended.IsZero():
		return "running"
	case errors.Is(s.err, Cancelled):
		return "cancelled"
	case s.err != nil:
		return "failed"
	}
	return "done"
}

// Phase returns a word for what is being done now, or was done last; "" is none.
func (o *Operation) Phase() string { return o.now().phase }

// Progress returns how far the operation has come.
func (o *Operation) Progress() Progress { return o.now().progress }

// Result returns what the work of [Host.Operate] returned; nil before its end.
func (o *Operation) Result() any { return o.now().result }

func (o *Operation) now() standing {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.standing
}

// Report is for the work of [Host.Operate]: it says what is being done.
func (o *Operation) Report(phase string, p Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if more := p.Received - o.progress.Received; more > 0 && o.fetched != nil {
		o.fetched.Add(uint64(more))
	}
	o.phase, o.progress = phase, p
}

// Cancel asks for an early end; the operation undoes what it did and then ends
// with Cancelled, or ends as it would have. It does not wait.
func (o *Operation) Cancel() {
	select {
	case <-o.done:
	default:
		if o.cancel != nil {
			o.cancel()
		}
	}
}

// finish ends the operation; it is called once.
func (o *Operation) finish(result any, err error) {
	o.mu.Lock()
	o.err, o.result, o.ended = err, result, time.Now()
	o.mu.Unlock()
	close(o.done)
}

func (o *Operation) endedBefore(t time.Time) bool {
	ended := o.now().ended
	return !ended.IsZero() && ended.Before(t)
}

// operations are those that a host remembers. They are safe for concurrent use.
type operations struct {
	mu   sync.Mutex
	list []*Operation // oldest first
}

// add remembers o, in the place of the oldest that ended; PoolBusy: none has.
func (s *operations) add(o *Operation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(time.Now().Add(-keptFor))
	if len(s.list) >= maxOperations {
		i := slices.IndexFunc(s.list, func(o *Operation) bool { return o.endedBefore(time.Now().Add(time.Hour)) })
		if i < 0 {
			return fmt.Errorf("%d operations are under way: %w", maxOperations, PoolBusy)
		}
		s.list = slices.Delete(s.list, i, i+1)
	}
	s.list = append(s.list, o)
	return nil
}

func (s *operations) forgetLocked(before time.Time) {
	s.list = slices.DeleteFunc(s.list, func(o *Operation) bool { return o.endedBefore(before) })
}

func (s *operations) remove(o *Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(other *Operation) bool { return other == o })
}

func (s *operations) all() []*Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(time.Now().Add(-keptFor))
	return slices.Clone(s.list)
}

// Operation returns a remembered operation.
func (h *Host) Operation(id string) (*Operation, bool) {
	list := h.operations.all()
	if i := slices.IndexFunc(list, func(o *Operation) bool { return o.ID == id }); i >= 0 {
		return list[i], true
	}
	return nil, false
}

// newOperation makes operation number n and remembers it: from then on others see
// it, so it is whole before that.
func (h *Host) newOperation(n op, kind string, pool poolregistry.PoolID, queued bool, cancel func()) (*Operation, error) {
	o := &Operation{
		ID: "op-" + strconv.FormatUint(uint64(n), 10), Kind: kind, Pool: pool, done: make(chan struct{}), began: time.Now(),
		fetched: &h.stats.fetched, cancel: cancel, standing: standing{queued: queued},
	}
	return o, h.operations.add(o)
}

// Operate runs work as an operation of kind and returns at once. Work's context
// ends with Cancel, with cause Cancelled, and when the host stops. At most eight of
// the kinds fetch and verify, which take a disk for themselves, run at once; the
// others are queued. The end of a fetch is an [Event].
func (h *Host) Operate(kind string, pool poolregistry.PoolID, work func(context.Context, *Operation) (any, error)) (*Operation, error) {
	h.mu.Lock()
	ended := h.ended || h.wg == nil
	loops, wg := h.loops, h.wg
	if !ended {
		wg.Add(1) // under the lock: Run waits only after it has set ended
	}
	h.mu.Unlock()
	if ended {
		return nil, HostStopped
	}
	ctx, cancel := context.WithCancelCause(loops)
	o, err := h.newOperation(h.nextOp(), kind, pool, true, func() { cancel(Cancelled) })
	if err != nil {
		cancel(nil)
		wg.Done()
		return nil, err
	}
	go func() {
		defer wg.Done()
		defer cancel(nil)
		h.operate(ctx, o, work)
	}()
	return o, nil
}

func (h *Host) operate(ctx context.Context, o *Operation, work func(context.Context, *Operation) (any, error)) {
	if o.Kind == "fetch" || o.Kind == "verify" {
		select {
		case h.atWork <- struct{}{}:
			defer func() { <-h.atWork }()
		case <-ctx.Done():
			o.finish(nil, cmp.Or(asCode(context.Cause(ctx)), HostStopped))
			return
		}
	}
	o.mu.Lock()
	o.queued = false
	o.mu.Unlock()
	result, err := work(ctx, o)
	if err != nil && errors.Is(context.Cause(ctx), Cancelled) {
		err = fmt.Errorf("%w: %w", Cancelled, err)
	}
	o.finish(result, err)
	if o.Kind == "fetch" {
		e := Event{Kind: "fetch", Pool: o.Pool, Took: time.Since(o.began)}
		if err != nil {
			e.Detail = reason(err)
		}
		h.report(e)
	}
}

func asCode(err error) Code {
	c, _ := errors.AsType[Code](err)
	return c
}
