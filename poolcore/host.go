package poolcore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolregistry"
)

// Host runs the pools of one machine. Its methods are safe for concurrent use.
type Host struct {
	cfg        Config
	devices    gpuinfo.Provider
	gpus       atomic.Pointer[gpuinfo.Snapshot] // the newest that was taken
	health     deviceHealth
	ops        atomic.Uint64
	operations operations
	atWork     chan struct{} // bounds what Operate runs
	stats      *counters
	observe    chan Event
	crew       crew // nil: the real one, made by Run; tests bring their own

	mark func(point string) // tests: each step of the edges

	started chan struct{} // closed when Run accepts pools
	stopped chan struct{} // closed when Run no longer does

	mu       sync.Mutex
	ran      bool
	ended    bool
	schedule poolregistry.Schedule                 // what the scheduler wants of this node
	closeBy  time.Time                             // while it is to be drained
	shown    map[poolregistry.PoolID]time.Duration // by the clock of its loop: how the last beat showed the pool
	pools    map[poolregistry.PoolID]*Pool
	wg       *sync.WaitGroup // loops
	loops    context.Context // of the loops; ends after every worker is gone
	events   []poolregistry.Event
	lastID   uint64
}

// New validates the whole configuration and reports every fault; it starts nothing
// and touches no disk.
func New(cfg Config) (*Host, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure host: %w", err)
	}
	h := &Host{
		cfg: cfg, stats: newCounters(), observe: make(chan Event, 256), pools: map[poolregistry.PoolID]*Pool{},
		started: make(chan struct{}), stopped: make(chan struct{}), atWork: make(chan struct{}, atOnce),
	}
	if cfg.Devices != nil {
		h.devices = gpuinfo.NewCache(cfg.Devices, time.Second)
	}
	return h, nil
}

// Run takes over the engines that an earlier run left alive, starts Config.Pools,
// supervises all pools and, when ctx ends, stops every worker within
// Timing.StopBudget, or leaves it alone with Config.LeaveRunning. It blocks; its
// error is nil after an orderly end, and a host runs once. A StateDir that another
// host uses is an error.
func (h *Host) Run(ctx context.Context) error {
	h.mu.Lock()
	again := h.ran
	h.ran = true
	h.mu.Unlock()
	if again {
		return errors.New("run host: a host runs once")
	}
	c, release, err := h.prepare()
	if err != nil {
		close(h.stopped)
		return fmt.Errorf("run host: %w", err)
	}
	defer release()
	var wg sync.WaitGroup
	loops, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	h.mu.Lock()
	h.crew, h.wg, h.loops = c, &wg, loops
	h.mu.Unlock()
	observed := make(chan struct{})
	go h.tell(loops, observed)
	h.takeOver(ctx, c)
	for _, pc := range h.cfg.Pools {
		h.startConfigured(ctx, pc)
	}
	close(h.started)
	wg.Go(func() { h.attend(ctx) })
	wg.Go(func() { h.hear(ctx) })
	<-ctx.Done()
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	close(h.stopped)
	err = h.endEngines(c, end)
	end()
	wg.Wait()
	<-observed
	return err
}

// leaver is a crew that can part from its engines: their waits return.
type leaver interface{ leave() }

// endEngines stops the engines, or leaves them: then the loops end first, so that
// no pool takes an engine that was left for one that is gone.
func (h *Host) endEngines(c crew, endLoops func()) error {
	l, ok := c.(leaver)
	if !h.cfg.LeaveRunning || !ok {
		return h.stopAll()
	}
	endLoops()
	for p := range h.Pools() {
		<-p.done
	}
	l.leave()
	return nil
}

// stopAll stops all pools at once and gives them the budget together.
func (h *Host) stopAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.Timing.StopBudget)
	defer cancel()
	return h.all(func(p *Pool) error {
		_, err := p.ask(ctx, "stop pool", evStop{op: h.nextOp(), most: h.cfg.Timing.StopBudget / 2, last: true})
		return err
	})
}

// all does work for each pool at once.
func (h *Host) all(work func(*Pool) error) error {
	pools := slices.Collect(h.Pools())
	errs := make([]error, len(pools))
	var wg sync.WaitGroup
	for i, p := range pools {
		wg.Go(func() {
			if err := work(p); err != nil {
				errs[i] = fmt.Errorf("pool %s: %w", p.id, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Drain drains all pools at once, each as [Pool.Drain] does, and waits for them.
// Pools that are stopped are left out.
func (h *Host) Drain(ctx context.Context, within time.Duration) error {
	return h.all(func(p *Pool) error {
		if _, err := p.Drain(ctx, within); !errors.Is(err, PoolUnready) {
			return err
		}
		return nil
	})
}

// Undrain puts all pools into service again.
func (h *Host) Undrain() error {
	return h.all((*Pool).Undrain)
}

// Preload starts a pool and returns an operation that ends when all its workers
// are ready, or when everything it did is undone again. A pool that already runs
// this configuration gives a finished operation; one that runs another is
// PoolExists, one with an operation under way PoolBusy. Before Run it waits for
// Run; afterwards it is HostStopped.
func (h *Host) Preload(ctx context.Context, pc PoolConfig) (*Operation, error) {
	select {
	case <-h.started:
	case <-h.stopped:
		return nil, fmt.Errorf("preload pool: %w", HostStopped)
	case <-ctx.Done():
		return nil, fmt.Errorf("preload pool: %w", ctx.Err())
	}
	ed, err := h.edition(pc)
	if err != nil {
		return nil, fmt.Errorf("preload pool: %w", err)
	}
	o, err := h.startEdition(ctx, ed, evStart{})
	if err != nil {
		return nil, fmt.Errorf("preload pool: %w", err)
	}
	return o, nil
}

// startEdition starts a pool; e holds what an earlier run left of it.
func (h *Host) startEdition(ctx context.Context, ed *edition, e evStart) (*Operation, error) {
	p, err := h.pool(poolregistry.PoolID(ed.cfg.ID))
	if err != nil {
		return nil, err
	}
	e.op, e.edition, e.sick = h.nextOp(), ed, h.sick(ed)
	return p.operation(ctx, "preload", e.op, e, h.stats.preloaded)
}

// pool returns the pool with that id and makes it if there is none.
func (h *Host) pool(id poolregistry.PoolID) (*Pool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil, HostStopped
	}
	if p := h.pools[id]; p != nil {
		return p, nil
	}
	if len(h.pools) >= h.cfg.Limits.Pools && !h.makeRoomLocked() {
		return nil, fmt.Errorf("more than %d pools: %w", h.cfg.Limits.Pools, InvalidParams)
	}
	p := newPool(h, h.crew, id)
	p.state.closed, p.state.closeBy = shut(h.schedule), p.clock(h.closeBy)
	h.pools[id] = p
	loop, end := context.WithCancel(h.loops)
	p.end = end
	h.wg.Go(func() { p.run(loop) })
	return p, nil
}

// makeRoomLocked forgets one pool that has ended and that nobody has configured.
func (h *Host) makeRoomLocked() bool {
	for _, id := range slices.Sorted(maps.Keys(h.pools)) {
		p := h.pools[id]
		configured := slices.ContainsFunc(h.cfg.Pools, func(pc PoolConfig) bool { return pc.ID == string(id) })
		if !configured && p.Phase() == stopped {
			delete(h.pools, id)
			p.end()
			return true
		}
	}
	return false
}

// Config returns the configuration with its defaults filled in. What it refers to
// is the host's own: for reading only.
func (h *Host) Config() Config { return h.cfg }

// Pool returns the pool with that id, or nil.
func (h *Host) Pool(id poolregistry.PoolID) *Pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pools[id]
}

// Pools yields all pools, sorted by id.
func (h *Host) Pools() iter.Seq[*Pool] {
	h.mu.Lock()
	pools := slices.SortedFunc(maps.Values(h.pools), func(a, b *Pool) int { return cmp.Compare(a.id, b.id) })
	h.mu.Unlock()
	return slices.Values(pools)
}

// Worker finds a worker by its id, and the pool that it belongs to.
func (h *Host) Worker(id poolregistry.WorkerID) (Worker, *Pool, bool) {
	for p := range h.Pools() {
		for w := range p.Workers() {
			if w.ID == id {
				return w, p, true
			}
		}
	}
	return Worker{}, nil, false
}

func (h *Host) nextOp() op { return op(h.ops.Add(1)) }

// modelBytes is the size of the model on disk, 0 where it is not known.
func (h *Host) modelBytes(pc PoolConfig) int64 {
	if pc.ModelPath != "" {
		if info, err := os.Stat(pc.ModelPath); err == nil {
			return info.Size()
		}
		return 0
	}
	if h.cfg.Catalog != nil && pc.Model != "" {
		if m, err := h.cfg.Catalog.Locate(pc.Model); err == nil {
			return m.SizeBytes
		}
	}
	return 0
}
