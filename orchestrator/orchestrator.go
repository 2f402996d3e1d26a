package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/observe"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
)

// phase is where Run stands.
type phase int32

const (
	idle phase = iota
	starting
	serving
	refusing
	stopped
)

// Orchestrator admits, queues, places and streams tasks. All methods are safe
// for concurrent use. Submit works while Run does.
type Orchestrator struct {
	cfg     Config
	log     *slog.Logger
	store   store.Store
	workers worker.Adapter
	seal    sealer
	refs    *subjectKeys // makes references; its keys are used only if Config.Keys is nil
	observe observe.Observer
	access  *accessCache
	loop    *loop
	runs    *table
	people  *people
	tenants *tenants
	audit   auditLog
	talks   *sessions
	catalog *catalog

	phase    atomic.Int32
	epoch    atomic.Uint64
	models   atomic.Pointer[[]string]       // what can be placed now, sorted
	contexts atomic.Pointer[map[string]int] // largest context of a model's workers
	pulse    chan observe.Event             // from the loop to the observer; what does not fit is left out
	stats    atomic.Pointer[observe.Loop]   // how the loop stands, as of its last turn
	turned   chan struct{}                  // says that stats is new; holds one
	attempt  context.Context                // parent of every attempt; set before the loop runs
	hurry    chan struct{}                  // closed by Cut
	cut      sync.Once
	wg       sync.WaitGroup // goroutines that Run joins
	endings  sync.WaitGroup // tasks that are being ended
}

// New checks cfg and reports all faults at once. It does no I/O and starts no
// goroutine.
func New(cfg Config) (*Orchestrator, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Store == nil {
		cfg.Store = store.NewMemory()
	}
	if len(cfg.SealKeys) == 0 {
		cfg.SealKeys = [][]byte{randomKey()} // a store without durability needs no key that outlives it
	}
	if cfg.Workers == nil {
		d, err := worker.NewDialer(worker.Config{})
		if err != nil {
			return nil, err
		}
		cfg.Workers = d
	}
	refs := NewSubjectKeys(cfg.Store, cfg.SealKeys).(*subjectKeys)
	keys := cfg.Keys
	if keys == nil {
		keys = refs
	}
	if _, ok := keys.(audit.KeyFinder); !ok {
		return nil, errors.New("orchestrator: Config.Keys: must also be an audit.KeyFinder")
	}
	core, err := sched.New(sched.Config{
		Queue: cfg.Queue, Policy: cfg.Policy, Scorers: cfg.Scorers, CancelAfter: cfg.Timing.Cancel, Startup: cfg.Timing.Startup, Regions: regionNames(cfg.Residency),
		Optimistic: cfg.Admission.Optimistic, Hold: cfg.Admission.HoldWhenEmpty, PromptCost: cfg.Admission.PromptCost, OutputCost: cfg.Admission.OutputCost,
	})
	if err != nil {
		return nil, err
	}
	o := &Orchestrator{
		cfg: cfg, log: cfg.Logger, store: cfg.Store, workers: cfg.Workers, seal: sealer{keys}, refs: refs,
		runs: newTable(), people: newPeople(), tenants: newTenants(cfg.Tenants), talks: newSessions(cfg.Sessions, cfg.Timing.Max), catalog: newCatalog(),
		audit: newAuditLog(cfg.Recorder, cfg.Logger), access: newAccessCache(cfg.Control), pulse: make(chan observe.Event, 256), turned: make(chan struct{}, 1), hurry: make(chan struct{}),
	}
	o.observe = observe.All(guard(cfg.Observer, cfg.Logger), guard(o.audit.observer(), cfg.Logger), guard(newWideLog(cfg.Logger), cfg.Logger))
	o.loop = newLoop(core, cfg.Decisions, o.execute, o.published)
	return o, nil
}

// Ready returns nil while tasks are admitted, else a *taskapi.Error.
func (o *Orchestrator) Ready() error {
	switch phase(o.phase.Load()) {
	case serving:
		return nil
	case refusing, stopped:
		return taskapi.NewError(taskapi.ShuttingDown)
	}
	return taskapi.NewError(taskapi.StoreUnavailable).With("reason", "starting")
}

// Models returns the names of the models that can be placed now, sorted.
func (o *Orchestrator) Models() []string {
	if m := o.models.Load(); m != nil {
		return slices.Clone(*m)
	}
	return nil
}

// Active returns the reservations on a node now, per pool; made for
// poolregistry.Config.Active.
func (o *Orchestrator) Active(n poolregistry.NodeID) map[poolregistry.PoolID]int {
	out := make(map[poolregistry.PoolID]int)
	if p := phase(o.phase.Load()); p == serving || p == refusing {
		o.loop.ask(func(c *sched.Core) {
			for pool, n := range c.View().Active(string(n)) {
				out[poolregistry.PoolID(pool)] = n
			}
		})
	}
	return out
}

// Run takes the lead, recovers the tasks of earlier runs and schedules until
// ctx ends; then it refuses, drains and cuts, each within its time, and joins
// every goroutine that it started. A second call is ErrRunning.
func (o *Orchestrator) Run(ctx context.Context) error {
	if !o.phase.CompareAndSwap(int32(idle), int32(starting)) {
		return ErrRunning
	}
	defer o.phase.Store(int32(stopped))
	background := context.WithoutCancel(ctx)
	lease, err := o.store.Lead(ctx, store.LeaseRequest{Holder: o.cfg.Replica})
	if err != nil {
		return err
	}
	if _, err := o.refs.installKey(ctx); err != nil { // before anything is taken up that it could not open
		return err
	}
	o.epoch.Store(uint64(lease.Epoch))
	if err := o.loadErasures(ctx); err != nil { // nobody who is being erased is taken up again
		return err
	}
	if err := o.loadEstimates(ctx); err != nil {
		return err
	}
	defer o.observe.Observe(observe.Leader{Epoch: uint64(lease.Epoch)})
	work, stopWork := context.WithCancel(background) // attempts outlive ctx: they are drained
	defer stopWork()
	o.attempt = work
	stopDecisions := o.writeDecisions(background)
	defer stopDecisions() // after the loop
	loopDone := make(chan error, 1)
	o.wg.Go(func() { loopDone <- o.loop.run(work) })
	watch, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	o.wg.Go(func() { o.watchPools(watch) })
	o.wg.Go(func() { o.janitor(watch) })
	o.wg.Go(func() { o.tell(work) })
	o.wg.Go(func() { o.tellWaiting(watch) })
	o.wg.Go(func() { o.tellFacts(watch) })
	o.wg.Go(func() { o.keepEstimates(watch) })
	o.wg.Go(func() { o.keepLedgers(watch) })
	o.wg.Go(func() { o.keepSessions(watch) })
	o.wg.Go(func() { o.keepCatalog(watch) })
	if err = errors.Join(o.loadSessions(ctx), o.loadCatalog(ctx)); err == nil {
		err = o.recoverTasks(ctx)
	}
	if err == nil {
		o.phase.Store(int32(serving))
		o.log.InfoContext(ctx, "The orchestrator admits tasks.", slog.String("event", "serving"), slog.Uint64("epoch", uint64(lease.Epoch)))
		o.wg.Go(func() { o.resumeErasures(watch) })
		o.observe.Observe(observe.Leader{Leads: true, Epoch: uint64(lease.Epoch)})
		select {
		case <-ctx.Done():
			o.shutdown(background)
		case err = <-loopDone:
			loopDone <- err
		}
	}
	o.phase.Store(int32(refusing))
	stopWatch()
	o.loop.close()
	if e := <-loopDone; err == nil {
		err = e
	}
	o.endings.Wait()
	o.saveLedgers(background, time.Now())
	o.endAll()
	stopWork()
	o.wg.Wait()
	return err
}

// shutdown refuses, drains and cuts (ORC-102).
func (o *Orchestrator) shutdown(ctx context.Context) {
	o.phase.Store(int32(refusing))
	o.log.InfoContext(ctx, "New tasks are refused; running ones may finish.", slog.String("event", "shutdown_step"), slog.String("step", "drain"))
	o.loop.post(sched.Refuse{Durable: o.store.Durable()})
	if o.loop.waitIdle(max(0, o.cfg.Timing.Drain), o.hurry) {
		return
	}
	o.log.WarnContext(ctx, "Running tasks are cut.", slog.String("event", "shutdown_step"), slog.String("step", "cut"))
	o.loop.post(sched.Cut{})
	o.loop.waitIdle(o.cfg.Timing.Cancel+time.Second, nil)
}

// Cut ends the drain of a Run that is stopping: what still runs is cut at once.
// Before the end of Run's context it only says that there will be no drain.
func (o *Orchestrator) Cut() { o.cut.Do(func() { close(o.hurry) }) }

// endAll ends the streams that nobody else ends any more: after a panic of the
// loop their readers must not wait for ever. What is stored is taken up by the
// next start; what is not, ends here.
func (o *Orchestrator) endAll() {
	for _, r := range o.runs.all() {
		if r.ephemeral || !o.store.Durable() {
			o.publish(r, EventError, taskapi.NewError(taskapi.Internal).Event(r.spec.Correlation, time.Now()))
		}
		r.stream.abandon()
	}
}

// tell passes what the loop reports to the observer.
func (o *Orchestrator) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-o.pulse:
			o.observe.Observe(e)
		case <-o.turned:
			o.observe.Observe(*o.stats.Load())
		}
	}
}

// note hands an event to tell; called by the loop, so it never waits.
func (o *Orchestrator) note(e observe.Event) {
	select {
	case o.pulse <- e:
	default:
	}
}

// watchPools feeds every new list of workers to the loop.
func (o *Orchestrator) watchPools(ctx context.Context) {
	for list := range o.cfg.Pools.Watch(ctx) {
		var models []string
		contexts := make(map[string]int)
		for _, w := range list {
			most := cmp.Or(w.CtxMax, taskapi.MaxContext)
			for _, m := range w.Models {
				contexts[m] = max(contexts[m], most)
			}
			for _, d := range w.OnDisk {
				contexts[d.Model] = max(contexts[d.Model], most)
			}
			if w.Online && w.Ready && !w.Draining {
				models = append(models, w.Models...)
			}
		}
		slices.Sort(models)
		models = slices.Compact(models)
		o.models.Store(&models)
		o.contexts.Store(&contexts)
		o.access.keepOnly(list)
		o.catalog.report(list)
		o.offer()
	}
}

func (o *Orchestrator) term() store.Epoch { return store.Epoch(o.epoch.Load()) }

// guard puts each observer behind its own switch: a broken one must not take
// the audit log with it.
func guard(next observe.Observer, log *slog.Logger) observe.Observer {
	if next == nil {
		return nil
	}
	return &guardedObserver{next: next, log: log}
}

// guardedObserver survives a panicking observer by switching it off.
type guardedObserver struct {
	next observe.Observer
	log  *slog.Logger
	off  atomic.Bool
}

// Observe passes e on.
func (g *guardedObserver) Observe(e observe.Event) {
	if g.off.Load() {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			g.off.Store(true)
			g.log.Error("The observer panicked and is switched off.", slog.String("event", "observer_off"))
		}
	}()
	g.next.Observe(e)
}
