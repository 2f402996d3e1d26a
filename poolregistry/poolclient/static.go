package poolclient

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// A StaticConfig makes a [StaticProbe].
type StaticConfig struct {
	Registry *poolregistry.Registry // required
	// Address says where workers may be; use the registry's policy.
	Address poolregistry.AddressPolicy
	Most    int          // workers; 0 = 1024
	Logger  *slog.Logger // nil = none
}

// A StaticProbe keeps workers registered that have no node daemon: each is the
// node "static-<id>" that beats while GET /health of the engine answers with a
// status of 2xx. The node has no address, because it has no API of its own that
// anybody could be sent to with a token; its one worker has.
//
// A refused connection makes the node suspect at once. A node that is released,
// or forgotten after it was offline for long, is not probed any more: Put it
// again. Nothing is remembered over a restart. Methods are safe for concurrent
// use.
type StaticProbe struct {
	cfg     StaticConfig
	http    *http.Client
	changed chan struct{} // tells Run that there are new workers; capacity 1
	running atomic.Bool

	mu      sync.Mutex // guards what follows; Register is called under it, which is memory only
	workers map[poolregistry.NodeID]*static
}

// static is one worker. Its beats belong to the goroutine that tends it.
type static struct {
	spec     nodeapi.StaticWorker
	reg      poolregistry.Registration
	url      string
	lease    string
	interval int64         // of the grant, ms
	replaced chan struct{} // closed when another one has its place
	tended   bool          // guarded by StaticProbe.mu
	seq      uint64
}

// NewStaticProbe returns a probe without workers. It does no I/O.
func NewStaticProbe(cfg StaticConfig) (*StaticProbe, error) {
	if cfg.Registry == nil {
		return nil, errors.New("poolclient: Registry is required")
	}
	cfg.Most = cmp.Or(cfg.Most, 1024)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &StaticProbe{
		cfg: cfg, http: guarded(cfg.Address), changed: make(chan struct{}, 1),
		workers: map[poolregistry.NodeID]*static{},
	}, nil
}

// Put registers a worker for principal and has it probed at once, if Run is
// running. The same worker again changes nothing; another one with its id takes
// its place, under a new epoch. The error is a [*poolregistry.Error]: of the
// worker's members, or that of Registry.Register.
func (p *StaticProbe) Put(ctx context.Context, w nodeapi.StaticWorker, principal string) error {
	next, err := p.check(w, principal)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := next.reg.NodeID
	old, there := p.workers[id]
	if there {
		_, there = p.cfg.Registry.View().Node(id)
	}
	switch {
	case there && old.reg.Principal != principal:
		return &poolregistry.Error{Code: poolregistry.NodeIDTaken}
	case there && old.spec == w:
		return nil
	case there:
		next.reg.LeaseToken = old.lease
	case old == nil && len(p.workers) >= p.cfg.Most:
		return &poolregistry.Error{Code: poolregistry.NodeLimit}
	}
	grant, err := p.cfg.Registry.Register(ctx, next.reg)
	if err != nil {
		return err
	}
	next.lease, next.interval = grant.LeaseToken, grant.HeartbeatIntervalMS
	if old != nil {
		close(old.replaced)
	}
	p.workers[id] = next
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

// Run probes until ctx ends and returns its cause. A second concurrent call is
// an error. The registrations stay; their nodes fall silent.
func (p *StaticProbe) Run(ctx context.Context) error {
	if p.running.Swap(true) {
		return errors.New("poolclient: Run is already running")
	}
	defer p.running.Store(false)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		for _, w := range p.untended() {
			wg.Go(func() { p.tend(ctx, w) })
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.changed:
		}
	}
}

// untended takes the workers that no goroutine looks after.
func (p *StaticProbe) untended() []*static {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.DeleteFunc(slices.Collect(maps.Values(p.workers)), func(w *static) bool { return w.tended })
	for _, w := range out {
		w.tended = true
	}
	return out
}

// drop forgets a worker, unless another one has its place already.
func (p *StaticProbe) drop(w *static) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers[w.reg.NodeID] == w {
		delete(p.workers, w.reg.NodeID)
	}
}

// rest gives a worker back to the next Run.
func (p *StaticProbe) rest(w *static) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.tended = false
}
