package orchestrator

import (
	"context"
	"iter"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
)

// Engine is a running engine that nobody supervises for us.
type Engine struct {
	Name  string // unique; shown as the pool
	URL   string // base, without path
	Slots int    // 0 = as the engine reports, else 1

	// Region is where it stands, as poolregistry.ParseRegion reads it. Empty or not
	// readable is unknown, and no task with a rule of residency goes there.
	Region string
}

// StaticPool watches one running engine.
func StaticPool(name, url string) Pools { return Static(Engine{Name: name, URL: url}) }

// Static watches running engines by probing each of them every two seconds: it
// is ready while it answers and lists a model.
func Static(engines ...Engine) Pools { return &staticPools{engines: slices.Clone(engines)} }

// StaticWith is Static through another adapter than the default one.
func StaticWith(a worker.Adapter, engines ...Engine) Pools {
	return &staticPools{engines: slices.Clone(engines), adapter: a}
}

type staticPools struct {
	engines []Engine
	adapter worker.Adapter
}

// How static engines are probed.
const (
	staticNode   = "static"
	probeEvery   = 2 * time.Second
	probeTimeout = time.Second
)

// Watch yields the list after the first round of probes and whenever one differs.
func (p *staticPools) Watch(ctx context.Context) iter.Seq[[]*placement.Worker] {
	return func(yield func([]*placement.Worker) bool) {
		adapter := p.adapter
		if adapter == nil {
			d, err := worker.NewDialer(worker.Config{})
			if err != nil {
				return // the zero Config is valid
			}
			defer d.Close()
			adapter = d
		}
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		last := []*placement.Worker(nil)
		for first := true; ; first = false {
			if list := p.probe(ctx, adapter, last); first || !reflect.DeepEqual(list, last) {
				if last = list; ctx.Err() != nil || !yield(list) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// probe asks every engine at once. An engine that does not answer keeps what it
// said before and is not ready.
func (p *staticPools) probe(ctx context.Context, a worker.Adapter, last []*placement.Worker) []*placement.Worker {
	out := make([]*placement.Worker, len(p.engines))
	var wg sync.WaitGroup
	for i, e := range p.engines {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			w := placement.Worker{Key: placement.Key{Node: staticNode, Pool: e.Name, Worker: "r0"}}
			if last != nil {
				w = *last[i]
			}
			if r, err := poolregistry.ParseRegion(e.Region); err == nil {
				w.Country, w.Group = r.Country, r.Group
			}
			st, err := a.Probe(ctx, worker.Target{URL: e.URL, Slots: max(1, e.Slots)})
			w.URL, w.Static, w.Online, w.Ready, w.Why = e.URL, true, true, err == nil && st.Ready, ""
			if !w.Ready {
				w.Why = "no answer"
				if err == nil {
					w.Why = "starting"
				}
			} else {
				w.Engine, w.Version, w.CtxMax = string(st.Flavour), st.Version, st.CtxMax
				w.Models = slices.Sorted(slices.Values(st.Models))
				w.SlotsTotal, w.OnDemand = slots(e, st), st.Flavour == worker.Ollama
			}
			out[i] = &w
		})
	}
	wg.Wait()
	return out
}

func slots(e Engine, st worker.Status) int {
	if e.Slots > 0 {
		return e.Slots
	}
	return max(1, st.SlotsTotal)
}

// Join is the union of several sources.
func Join(pools ...Pools) Pools { return joined(pools) }

type joined []Pools

// Heard passes on what calls saw to the sources that want to know.
func (j joined) Heard(node string) {
	for _, p := range j {
		if l, ok := p.(listener); ok {
			l.Heard(node)
		}
	}
}

// Watch yields the union whenever one source yields.
func (j joined) Watch(ctx context.Context) iter.Seq[[]*placement.Worker] {
	return func(yield func([]*placement.Worker) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		var mu sync.Mutex
		lists := make([][]*placement.Worker, len(j))
		changed := make(chan struct{}, 1)
		for i, p := range j {
			wg.Go(func() {
				for list := range p.Watch(ctx) {
					mu.Lock()
					lists[i] = list
					mu.Unlock()
					select {
					case changed <- struct{}{}:
					default:
					}
				}
			})
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			mu.Lock()
			all := slices.Concat(lists...)
			mu.Unlock()
			if !yield(all) {
				return
			}
		}
	}
}
