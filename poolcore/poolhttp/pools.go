package poolhttp

import (
	"context"
	"net/http"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// maxDrain bounds what a caller may ask for in milliseconds: a day.
const maxDrain = int64(24 * time.Hour / time.Millisecond)

func (h *handler) health(*call) (answer, error) {
	return answer{http.StatusOK, nodeapi.Health{Status: "ok", Version: h.cfg.Version}}, nil
}

// onPool makes an endpoint of one that is about the pool of the path.
func onPool[T any](do func(*call, *poolcore.Pool, T) (answer, error)) func(*call, T) (answer, error) {
	return func(c *call, q T) (answer, error) {
		if p := c.h.cfg.Host.Pool(poolregistry.PoolID(c.r.PathValue("id"))); p != nil {
			return do(c, p, q)
		}
		return answer{}, poolcore.PoolUnknown
	}
}

func (h *handler) pools(*call) (answer, error) {
	list := nodeapi.PoolList{Pools: []nodeapi.PoolStatus{}}
	for p := range h.cfg.Host.Pools() {
		list.Pools = append(list.Pools, p.Status())
	}
	return answer{http.StatusOK, list}, nil
}

func (h *handler) status(_ *call, p *poolcore.Pool, _ none) (answer, error) {
	return answer{http.StatusOK, p.Status()}, nil
}

// workers lists only those that take requests: nobody needs the key of another.
func (h *handler) workers(_ *call, p *poolcore.Pool, _ none) (answer, error) {
	list := nodeapi.WorkerList{Workers: []nodeapi.WorkerAccess{}}
	for wk := range p.Workers() {
		if wk.Usable() {
			list.Workers = append(list.Workers, nodeapi.WorkerAccess{
				WorkerID: wk.ID, URL: wk.URL, Token: wk.Token, ModelRef: wk.ModelRef, SlotsTotal: wk.SlotsTotal,
			})
		}
	}
	return answer{http.StatusOK, list}, nil
}

func (h *handler) drain(c *call, p *poolcore.Pool, q nodeapi.DrainRequest) (answer, error) {
	within, err := drainTime(q.DeadlineMS)
	if err != nil {
		return answer{}, err
	}
	return c.operate("drain", p, func(ctx context.Context) (any, error) {
		o, err := p.Drain(ctx, within)
		if err != nil {
			return nil, err
		}
		return nodeapi.DrainResult{Forced: o.Forced, DurationMS: o.Duration.Milliseconds(), ActiveLeft: o.ActiveLeft}, nil
	})
}

func drainTime(ms int64) (time.Duration, error) {
	if ms < 0 || ms > maxDrain {
		return 0, invalid("deadline_ms: range")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// operate runs what a pool does without an operation of its own as one. Where it is
// cancelled the pool goes on, and only the operation ends.
func (c *call) operate(kind string, p *poolcore.Pool, do func(context.Context) (any, error)) (answer, error) {
	if phase := p.Phase(); phase == "stopped" || phase == "stopping" {
		return answer{}, poolcore.PoolUnready
	}
	op, err := c.h.cfg.Host.Operate(kind, p.ID(), func(ctx context.Context, _ *poolcore.Operation) (any, error) { return do(ctx) })
	return c.follow(shortWait, nil, op, err)
}

// atOnce makes an endpoint of what a pool does at once; the answer is the pool.
func atOnce(do func(*poolcore.Pool) error) func(*call, *poolcore.Pool, none) (answer, error) {
	return func(_ *call, p *poolcore.Pool, _ none) (answer, error) {
		if err := do(p); err != nil {
			return answer{}, err
		}
		return answer{http.StatusOK, p.Status()}, nil
	}
}

func (h *handler) restart(c *call, p *poolcore.Pool, _ none) (answer, error) {
	return c.operate("restart", p, func(ctx context.Context) (any, error) { return nil, p.Restart(ctx) })
}

func (h *handler) reload(c *call, p *poolcore.Pool, q nodeapi.ReloadRequest) (answer, error) {
	within, err := drainTime(q.DeadlineMS)
	if err != nil {
		return answer{}, err
	}
	path, _, err := h.modelPath("new_model_path", q.NewModelPath)
	if err != nil {
		return answer{}, err
	}
	op, err := p.Reload(c.r.Context(), poolcore.ReloadRequest{
		Model: q.NewModelRef, ModelPath: path, EngineVersion: q.NewEngineVersion, Binary: q.Binary, Flags: q.Flags, Ctx: q.Ctx, Slots: q.Slots,
		Strategy: q.Strategy, Within: within, Force: q.Force,
	})
	return c.follow(shortWait, nil, op, err)
}

func (h *handler) purge(c *call, p *poolcore.Pool, q nodeapi.PurgeRequest) (answer, error) {
	if len(q.PurgeModels) > 1000 {
		return answer{}, invalid("purge_models: too_long")
	}
	op, err := p.Purge(c.r.Context(), poolcore.PurgeRequest{
		Engine: q.PurgeEngine, Models: q.PurgeModels, Caches: q.DeleteCacheDirs, Force: q.Force, NoDrain: q.DrainFirst != nil && !*q.DrainFirst,
	})
	return c.follow(shortWait, nil, op, err)
}
