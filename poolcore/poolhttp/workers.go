package poolhttp

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

const (
	maxTail     = 200 // lines that a host keeps
	defaultTail = 100
	maxGPU      = 1<<16 - 1
	spawnPoll   = 10 * time.Millisecond // for the process of a worker that is being started
	spawnWait   = 30 * time.Second
)

// state is what the node is.
type state struct {
	NodeID  poolregistry.NodeID  `json:"node_id"`
	Version string               `json:"version"`
	Pools   []nodeapi.PoolStatus `json:"pools"`
	Workers map[string]int       `json:"workers"` // by status
	GPUs    []gpuinfo.Device     `json:"gpus"`    // as last seen
}

func (h *handler) state(*call) (answer, error) {
	s := h.cfg.Host.Stats()
	out := state{NodeID: s.NodeID, Version: h.cfg.Version, Pools: []nodeapi.PoolStatus{}, Workers: s.Workers, GPUs: s.Devices}
	if out.GPUs == nil {
		out.GPUs = []gpuinfo.Device{}
	}
	for p := range h.cfg.Host.Pools() {
		out.Pools = append(out.Pools, p.Status())
	}
	return answer{http.StatusOK, out}, nil
}

// startRequest asks for the node's default pool on one device.
type startRequest struct {
	ModelRef string `json:"model_ref"`
	GPUID    *int   `json:"gpu_id"`
}

// workerReply names a worker and what becomes of it.
type workerReply struct {
	WorkerID poolregistry.WorkerID `json:"worker_id"`
	Status   string                `json:"status"`
}

func (h *handler) startWorker(c *call, q startRequest) (answer, error) {
	switch {
	case h.node.DefaultPool == nil:
		return answer{}, poolcore.Unsupported
	case q.ModelRef == "":
		return answer{}, invalid("model_ref: empty")
	case q.GPUID == nil || *q.GPUID < 0 || *q.GPUID > maxGPU:
		return answer{}, invalid("gpu_id: range")
	}
	cfg := *h.node.DefaultPool
	if cfg.Model != q.ModelRef {
		cfg.Model, cfg.ModelPath = q.ModelRef, "" // another model is not in that file
	}
	cfg.Devices = strconv.Itoa(*q.GPUID)
	cfg.ID, cfg.Replicas = "gpu"+cfg.Devices, 1
	op, err := h.cfg.Host.Preload(c.r.Context(), cfg)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), spawnWait)
	defer cancel()
	return c.spawned(ctx, op)
}

// spawned waits for the process, not for its being ready.
func (c *call) spawned(ctx context.Context, op *poolcore.Operation) (answer, error) {
	every := time.NewTicker(spawnPoll)
	defer every.Stop()
	for {
		for w := range c.h.cfg.Host.Pool(op.Pool).Workers() {
			status := "starting"
			if w.Usable() {
				status = "ready"
			}
			if w.Usable() || w.Status == "starting" {
				return answer{http.StatusOK, workerReply{w.ID, status}}, nil
			}
		}
		if c.h.ended(op) {
			return answer{}, cmp.Or(op.Err(), error(poolcore.PoolUnready))
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return c.follow(0, nil, op, nil)
		}
	}
}

// named finds a worker and the pool that it is alone in: what is asked of it is
// asked of the pool.
func (c *call) named(id string) (poolcore.Worker, *poolcore.Pool, error) {
	w, p, ok := c.h.cfg.Host.Worker(poolregistry.WorkerID(id))
	if !ok {
		return w, nil, poolcore.WorkerUnknown
	}
	if p.Config().Replicas > 1 {
		return w, nil, poolcore.Unsupported
	}
	return w, p, nil
}

func (h *handler) stopWorker(c *call, q struct {
	WorkerID string `json:"worker_id"`
},
) (answer, error) {
	w, p, err := c.named(q.WorkerID)
	if err != nil {
		return answer{}, err
	}
	op, err := h.cfg.Host.Operate("stop", p.ID(), func(ctx context.Context, _ *poolcore.Operation) (any, error) { return nil, p.Stop(ctx, 0) })
	return c.follow(30*time.Second, func(*poolcore.Operation) any { return workerReply{w.ID, "stopped"} }, op, err)
}

func (h *handler) drainWorker(c *call, q nodeapi.DrainRequest) (answer, error) {
	_, p, err := c.named(c.r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return h.drain(c, p, q)
}

func (h *handler) worker(c *call) (answer, error) {
	w, _, ok := h.cfg.Host.Worker(poolregistry.WorkerID(c.r.PathValue("id")))
	if !ok {
		return answer{}, poolcore.WorkerUnknown
	}
	return answer{http.StatusOK, w.Worker}, nil
}

func (h *handler) workerLogs(c *call) (answer, error) {
	tail := defaultTail
	if text := c.r.URL.Query().Get("tail"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxTail {
			return answer{}, invalid("tail: range")
		}
		tail = n
	}
	w, p, ok := h.cfg.Host.Worker(poolregistry.WorkerID(c.r.PathValue("id")))
	if !ok {
		return answer{}, poolcore.WorkerUnknown
	}
	lines := slices.AppendSeq([]string{}, p.Logs(string(w.ID), tail))
	return answer{http.StatusOK, struct {
		WorkerID poolregistry.WorkerID `json:"worker_id"`
		Lines    []string              `json:"lines"` // escaped, oldest first
	}{w.ID, lines}}, nil
}

// readyRequest is an engine's own message. Its key comes as a bearer token.
type readyRequest struct {
	WorkerID string `json:"worker_id"`
	Model    string `json:"model"`
	URL      string `json:"url"`
}

func (h *handler) workerReady(c *call, q readyRequest) (answer, error) {
	token, _ := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if err := h.cfg.Host.Called(poolregistry.WorkerID(q.WorkerID), token, q.Model, q.URL); err != nil {
		return answer{}, err
	}
	return answer{http.StatusNoContent, nil}, nil
}
