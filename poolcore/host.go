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
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore/engine"
	"github.com/llorch/llorch/poolregistry"
)

// Host runs the pools of one machine. Its methods are safe for concurrent use.
type Host struct {
	cfg     Config
	devices gpuinfo.Provider
	gpus    atomic.Pointer[gpuinfo.Snapshot] // the newest that was taken
	ops     atomic.Uint64
	stats   *counters
	observe chan Event
	crew    crew // nil: the real one, made by Run; tests bring their own

	started chan struct{} // closed when Run accepts pools
	stopped chan struct{} // closed when Run no longer does

	mu     sync.Mutex
	ran    bool
	ended  bool
	pools  map[poolregistry.PoolID]*Pool
	wg     *sync.WaitGroup // loops
	loops  context.Context // of the loops; ends after every worker is gone
	events []poolregistry.Event
	lastID uint64
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
		started: make(chan struct{}), stopped: make(chan struct{}),
	}
	if cfg.Devices != nil {
		h.devices = gpuinfo.NewCache(cfg.Devices, time.Second)
	}
	return h, nil
}

// Run starts Config.Pools, supervises all pools and, when ctx ends, stops every
// worker within Timing.StopBudget. It blocks; its error is nil after an orderly
// end, and a host runs once. Engines that an earlier, killed owner of StateDir left
// behind are stopped first; a StateDir that another host uses is an error.
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
	close(h.started)
	observed := make(chan struct{})
	go h.tell(loops, observed)
	for _, pc := range h.cfg.Pools {
		if _, err := h.startPool(ctx, pc, true); err != nil && ctx.Err() == nil {
			h.cfg.Logger.Error("pool not started", "pool", pc.ID, "error", err)
		}
	}
	<-ctx.Done()
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	close(h.stopped)
	err = h.stopAll()
	end()
	wg.Wait()
	<-observed
	return err
}

// prepare takes the state directory and clears what a killed owner left there.
func (h *Host) prepare() (crew, func(), error) {
	if h.crew != nil {
		return h.crew, func() {}, nil
	}
	c := &hostCrew{cfg: h.cfg, ports: newPorts(h.cfg.WorkerBind, h.cfg.Ports), client: probeClient(h.cfg.WorkerBind)}
	if h.cfg.StateDir == "" {
		return c, c.client.CloseIdleConnections, nil
	}
	if err := os.MkdirAll(h.cfg.StateDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make state directory: %w", err)
	}
	root, err := os.OpenRoot(h.cfg.StateDir)
	if err != nil {
		return nil, nil, fmt.Errorf("open state directory: %w", err)
	}
	unlock, err := lockDir(root)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("lock state directory: %w", err), root.Close())
	}
	c.state = root
	if err := clearOrphans(root); err != nil {
		unlock()
		return nil, nil, errors.Join(err, root.Close())
	}
	return c, func() {
		c.client.CloseIdleConnections()
		_ = root.Remove(workersDir) // empty when every worker is gone
		unlock()
		_ = root.Close()
	}, nil
}

// clearOrphans ends the engines of a killed owner, which carry the names of the
// directories that it left, and removes those directories.
func clearOrphans(root *os.Root) error {
	dir, err := root.Open(workersDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for orphans: %w", err)
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return fmt.Errorf("look for orphans: %w", err)
	}
	for _, name := range names {
		if _, err := poolregistry.ParseWorkerID(name); err == nil {
			killTagged(name)
		}
		if err := root.RemoveAll(workersDir + "/" + name); err != nil {
			return fmt.Errorf("remove orphan: %w", err)
		}
	}
	return nil
}

// stopAll stops all pools at once and gives them the budget together.
func (h *Host) stopAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), h.cfg.Timing.StopBudget)
	defer cancel()
	pools := slices.Collect(h.Pools())
	errs := make([]error, len(pools))
	var wg sync.WaitGroup
	for i, p := range pools {
		wg.Go(func() { errs[i] = p.stop(ctx, evStop{op: h.nextOp(), most: h.cfg.Timing.StopBudget / 2}) })
	}
	wg.Wait()
	return errors.Join(errs...)
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
	op, err := h.startPool(ctx, pc, false)
	if err != nil {
		return nil, fmt.Errorf("preload pool: %w", err)
	}
	return op, nil
}

func (h *Host) startPool(ctx context.Context, pc PoolConfig, keep bool) (*Operation, error) {
	pc, kind, err := h.cfg.checkPool(pc)
	if err != nil {
		return nil, err
	}
	p, err := h.pool(poolregistry.PoolID(pc.ID))
	if err != nil {
		return nil, err
	}
	n := h.nextOp()
	op := newOperation("op-"+strconv.FormatUint(n, 10), "preload")
	m := message{ev: evStart{op: n, keep: keep, rules: h.rules(pc, kind)}, cfg: pc, kind: kind, wait: waiter{accepted: make(chan acceptance, 1), done: func(err error) {
		h.stats.preloaded(err)
		op.finish(err)
	}}}
	if err := p.send(ctx, m); err != nil {
		return nil, err
	}
	select {
	case a := <-m.wait.accepted:
		if a.code != "" {
			return nil, a.code
		}
		if a.finished {
			op.finish(nil)
		}
		return op, nil
	case <-p.done:
		return nil, HostStopped
	}
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
	if len(h.pools) >= maxPools {
		return nil, fmt.Errorf("more than %d pools: %w", maxPools, InvalidParams)
	}
	p := newPool(h, h.crew, id)
	h.pools[id] = p
	h.wg.Go(func() { p.run(h.loops) })
	return p, nil
}

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

// isEnding reports whether Run's context has ended: nothing is started any more.
func (h *Host) isEnding() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

func (h *Host) nextOp() uint64 { return h.ops.Add(1) }

// rules are what a configuration means for decisions.
func (h *Host) rules(pc PoolConfig, k engine.Kind) rules {
	t := h.cfg.Timing
	r := rules{replicas: pc.Replicas, slots: pc.Slots, startAtMost: t.Start, stopGrace: t.StopGrace, timing: t}
	if pc.StartTimeoutMS > 0 {
		r.startAtMost = time.Duration(pc.StartTimeoutMS) * time.Millisecond
	}
	if pc.ModelPath != "" {
		if info, err := os.Stat(pc.ModelPath); err == nil {
			// 50 MB/s: a network disk on a bad day.
			r.startAtMost = max(r.startAtMost, time.Duration(info.Size()/50_000_000)*time.Second)
		}
	}
	r.startAtMost = min(r.startAtMost, t.StartMax)
	if g := engine.ProfileOf(k).StopGrace; g > 0 {
		r.stopGrace = g
	}
	if pc.StopGraceMS > 0 {
		r.stopGrace = time.Duration(pc.StopGraceMS) * time.Millisecond
	}
	return r
}
