package orchestrator

import (
	"context"
	"fmt"
	"sync"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/poolregistry"
)

// accessCache remembers how to dial workers: PoolControl is asked once per
// worker. What it holds is never logged and never stored.
type accessCache struct {
	control PoolControl
	asking  chan struct{} // holds one: who asks; the others find the answer in byID

	mu   sync.Mutex
	byID map[placement.Key]WorkerAccess
}

func newAccessCache(c PoolControl) *accessCache {
	return &accessCache{control: c, asking: make(chan struct{}, 1), byID: make(map[placement.Key]WorkerAccess)}
}

// of returns the access to a worker. Workers that a static list names are
// dialled as the list says.
func (a *accessCache) of(ctx context.Context, w *placement.Worker) (WorkerAccess, error) {
	if a.control == nil || w.Static {
		return WorkerAccess{}, nil
	}
	if got, ok := a.known(w.Key); ok {
		return got, nil
	}
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	case <-ctx.Done():
		return WorkerAccess{}, context.Cause(ctx)
	}
	if got, ok := a.known(w.Key); ok {
		return got, nil
	}
	list, err := a.control.Workers(ctx, poolregistry.PoolKey{Node: poolregistry.NodeID(w.Node), Pool: poolregistry.PoolID(w.Pool)})
	if err != nil {
		return WorkerAccess{}, fmt.Errorf("ask pool for workers: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range list {
		a.byID[placement.Key{Node: w.Node, Pool: w.Pool, Worker: x.Worker}] = x
	}
	got, ok := a.byID[w.Key]
	if !ok {
		return WorkerAccess{}, fmt.Errorf("pool does not know worker %s", w.Key.Worker)
	}
	return got, nil
}

func (a *accessCache) known(k placement.Key) (WorkerAccess, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	got, ok := a.byID[k]
	return got, ok
}

// forget drops one worker, so that it is asked for again.
func (a *accessCache) forget(w *placement.Worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byID, w.Key)
}

// keepOnly drops every worker that is not in the list any more.
func (a *accessCache) keepOnly(list []*placement.Worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.byID) == 0 {
		return
	}
	alive := make(map[placement.Key]bool, len(list))
	for _, w := range list {
		alive[w.Key] = true
	}
	for k := range a.byID {
		if !alive[k] {
			delete(a.byID, k)
		}
	}
}
