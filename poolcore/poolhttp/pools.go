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
	return answer{http.StatusOK, struct {
		Status  string `json:"status"`
		Version string `json:"version"`
	}{"ok", h.cfg.Version}}, nil
}

// pool is the pool of the path.
func (c *call) pool() (*poolcore.Pool, error) {
	if p := c.h.cfg.Host.Pool(poolregistry.PoolID(c.r.PathValue("id"))); p != nil {
		return p, nil
	}
	return nil, poolcore.PoolUnknown
}

func (h *handler) pools(*call) (answer, error) {
	list := nodeapi.PoolList{Pools: []nodeapi.PoolStatus{}}
	for p := range h.cfg.Host.Pools() {
		list.Pools = append(list.Pools, p.Status())
	}
	return answer{http.StatusOK, list}, nil
}

func (h *handler) status(c *call) (answer, error) {
	p, err := c.pool()
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, p.Status()}, nil
}

// workers lists only those that take requests: nobody needs the key of another.
func (h *handler) workers(c *call) (answer, error) {
	p, err := c.pool()
	if err != nil {
		return answer{}, err
	}
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

func (h *handler) drain(c *call, q nodeapi.DrainRequest) (answer, error) {
	p, err := c.pool()
	if err != nil {
		return answer{}, err
	}
	return c.drain(p, q)
}

func (c *call) drain(p *poolcore.Pool, q nodeapi.DrainRequest) (answer, error) {
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
	if err != nil {
		return answer{}, err
	}
	return c.follow(op, shortWait, nil)
}

func (h *handler) undrain(c *call, _ none) (answer, error) {
	return c.change((*poolcore.Pool).Undrain)
}

func (h *handler) resetBreaker(c *call, _ none) (answer, error) {
	return c.change((*poolcore.Pool).ResetBreaker)
}

// change does what is done at once, and shows the pool.
func (c *call) change(do func(*poolcore.Pool) error) (answer, error) {
	p, err := c.pool()
	if err != nil {
		return answer{}, err
	}
	if err := do(p); err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, p.Status()}, nil
}

func (h *handler) restart(c *call, _ none) (answer, error) {
	p, err := c.pool()
	if err != nil {
		return answer{}, err
	}
	return c.operate("restart", p, func(ctx context.Context) (any, error) { return nil, p.Restart(ctx) })
}

func (h *handler) reload(c *call, q nodeapi.ReloadRequest) (answer, error) {
	p, err := c.pool()
	if err != nil {
		return answer{}, err
	}
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
	if err != nil {
		return answer{}, err
	}
	return c.follow(op, shortWait, nil)
}

func (h *handler) purge(c *call, q nodeapi.PurgeRequest) (answer, error) {
	p, err := c.pool()
	if err != nil {
		return answer{}, err
	}
	if len(q.PurgeModels) > 1000 {
		return answer{}, invalid("purge_models: too_long")
	}
	op, err := p.Purge(c.r.Context(), poolcore.PurgeRequest{
		Engine: q.PurgeEngine, Models: q.PurgeModels, Caches: q.DeleteCacheDirs, Force: q.Force, NoDrain: q.DrainFirst != nil && !*q.DrainFirst,
	})
	if err != nil {
		return answer{}, err
	}
	return c.follow(op, shortWait, nil)
}
