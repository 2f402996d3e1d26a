package gpuinfo

import (
	"cmp"
	"context"
	"iter"
	"sync"
	"time"
)

// staleFor is how long an old snapshot may stand in for refreshes that fail: long
// enough for one hiccup of the driver, too short to hide a dead one.
const staleFor = 2 * time.Second

// Cache answers from a recent snapshot of another provider and lets only one
// refresh run at a time. It is itself a [Provider].
type Cache struct {
	p   Provider
	ttl time.Duration

	mu      sync.Mutex
	last    Snapshot
	have    bool
	taken   time.Time // when the taking of last began
	cost    time.Duration
	failing time.Time // when refreshes began to fail; zero while they succeed
	flight  *flight   // the refresh that is under way
}

type flight struct {
	done chan struct{}
	snap Snapshot
	err  error
}

var (
	_ Provider      = (*Cache)(nil)
	_ ProcessLister = (*Cache)(nil)
	_ EventSource   = (*Cache)(nil)
)

// NewCache wraps p. A snapshot is answered again until its age, counted from the
// begin of its taking, exceeds the larger of ttl and four times what taking it cost.
// With nvidia-smi, which takes 50 to 100 ms, that is 400 ms at most.
func NewCache(p Provider, ttl time.Duration) *Cache {
	return &Cache{p: p, ttl: max(ttl, 0)}
}

// Name is the name of the wrapped provider.
func (c *Cache) Name() string { return c.p.Name() }

// Snapshot returns a snapshot that is recent enough, or waits for one refresh that
// all waiters share. When ctx ends the wait ends, the refresh goes on. After a
// failed refresh the previous snapshot is returned with Stale set, for 2 s.
func (c *Cache) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	c.mu.Lock()
	if c.have && c.failing.IsZero() && time.Since(c.taken) <= max(c.ttl, 4*c.cost) {
		s := c.last.clone()
		c.mu.Unlock()
		return s, nil
	}
	f := c.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		c.flight = f
		go c.refresh(context.WithoutCancel(ctx), f)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.snap.clone(), f.err
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	}
}

// Processes passes the call on; lists of processes are not kept. ErrUnsupported: the
// wrapped provider does not tell.
func (c *Cache) Processes(ctx context.Context) ([]Process, error) { return processesOf(ctx, c.p) }

// Events passes the call on. ErrUnsupported: the wrapped provider does not tell.
func (c *Cache) Events(ctx context.Context) iter.Seq2[Event, error] { return eventsOf(ctx, c.p) }

// refresh runs without a caller's cancellation; the provider's own time limit ends it.
func (c *Cache) refresh(ctx context.Context, f *flight) {
	start := time.Now()
	s, err := c.p.Snapshot(ctx)
	now := time.Now()

	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	c.flight = nil
	if (err != nil || s.Reason != OK) && c.have && c.last.Reason == OK {
		c.failing = cmp.Or(c.failing, now)
		if now.Sub(c.failing) < staleFor {
			f.snap = c.last.clone()
			f.snap.Stale = true
			return
		}
	}
	f.snap, f.err = s, err
	if err == nil {
		c.last, c.have, c.taken, c.cost, c.failing = s.clone(), true, start, now.Sub(start), time.Time{}
	}
}
