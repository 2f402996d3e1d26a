package orchestrator

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// FromRegistry takes the workers from a registry of nodes.
func FromRegistry(reg *poolregistry.Registry) Pools { return registryPools{reg} }

type registryPools struct{ reg *poolregistry.Registry }

// Watch yields the workers of every new view.
func (p registryPools) Watch(ctx context.Context) iter.Seq[[]*placement.Worker] {
	return func(yield func([]*placement.Worker) bool) {
		for view := range p.reg.Watch(ctx) {
			var out []*placement.Worker
			for _, n := range view.Nodes {
				out = appendNode(out, n)
			}
			if !yield(out) {
				return
			}
		}
	}
}

// Heard tells the registry that bytes came from a worker of the node: a node whose
// beats alone are lost keeps its streams (PRG-33).
func (p registryPools) Heard(node string) { p.reg.Progress(poolregistry.NodeID(node)) }

// appendNode adds the workers of a node. Workers that never were ready have no
// address and are left out.
func appendNode(out []*placement.Worker, n *poolregistry.Node) []*placement.Worker {
	placeable, why := n.Placeable()
	for i := range n.Pools {
		p := &n.Pools[i]
		for j := range p.Workers {
			w := &p.Workers[j]
			if w.URL == "" || w.ModelRef == "" {
				continue
			}
			x := &placement.Worker{
				Key:   placement.Key{Node: string(n.ID), Pool: string(p.ID), Worker: string(w.ID)},
				Epoch: n.Epoch, URL: w.URL, Engine: w.Engine, Version: w.EngineVersion, Models: []string{w.ModelRef}, ServedAs: servedAs(w),
				CtxMax: w.CtxMax, SlotsTotal: w.SlotsTotal, SlotsBusy: others(p, w), VRAMFree: p.VRAMFreeBytes,
				Digest: w.ModelDigest, Quant: w.Quant, Country: n.Region.Country, Group: n.Region.Group, VRAMUsed: w.VRAMBytes,
				TokensPerS: milli(w.TokensPerS), FirstToken: milli(w.FirstTokenMS) * 1000, OnDemand: w.Engine == string(worker.Ollama),
				Online: placeable, Ready: w.Usable() && p.Reason == "" && w.Reason == "", Draining: p.Draining,
				Gone: n.Liveness == poolregistry.Offline || slices.Contains([]poolregistry.WorkerStatus{"failed", "stopped", "stuck"}, w.Status), Why: why,
			}
			x.Workloads, x.Features = abilities(w.Capabilities)
			x.Mask, x.Compute, x.VRAMTotal = devices(n, p, w)
			if x.VRAMTotal > 0 {
				x.VRAMFree = min(x.VRAMFree, x.VRAMTotal)
			}
			x.Models, x.OnDisk = models(p, x)
			if x.Why == "" && !x.Ready {
				x.Why = string(w.Status)
			}
			out = append(out, x)
		}
	}
	return out
}

// others is what a worker reports as taken beyond the count that this scheduler
// sent to its node: the report echoes that count, one beat later.
func others(p *poolregistry.Pool, w *poolregistry.Worker) int {
	return max(0, w.SlotsTotal-w.SlotsFree-p.ActiveLeases)
}

// servedAs is the name under which an engine serves its model. Engines that
// poolcore starts are given their worker id as alias, so that a stranger on the
// same port is noticed; others use the model's own name.
func servedAs(w *poolregistry.Worker) string {
	if w.Engine == "external" {
		return ""
	}
	return string(w.ID)
}

// HTTPControl reaches the nodes of a registry over their HTTP API. A node whose
// own address refuses a connection is said to be so to the registry.
func HTTPControl(reg *poolregistry.Registry, c poolclient.Config) (PoolControl, error) {
	told := c.Refused
	c.Refused = func(address string) {
		refusedBy(reg, address)
		if told != nil {
			told(address)
		}
	}
	client, err := poolclient.New(c)
	if err != nil {
		return nil, err
	}
	return &httpControl{reg, client}, nil
}

func refusedBy(reg *poolregistry.Registry, address string) {
	for _, n := range reg.View().Nodes {
		if n.Address == address {
			reg.Refused(n.ID)
		}
	}
}

type httpControl struct {
	reg    *poolregistry.Registry
	client *poolclient.Client
}

// staticNodes begin the ids of workers that have no node daemon; they stand in the
// registry with their own addresses and have no keys (PRG-53).
const staticNodes = "static-"

// ownAccess is what the registry itself knows about a node's workers.
func ownAccess(n *poolregistry.Node, id poolregistry.PoolID) (out []WorkerAccess) {
	if p, ok := n.Pool(id); ok {
		for _, w := range p.Workers {
			out = append(out, WorkerAccess{Worker: string(w.ID), URL: w.URL})
		}
	}
	return out
}

// Workers asks the node of the pool.
func (c *httpControl) Workers(ctx context.Context, pool poolregistry.PoolKey) ([]WorkerAccess, error) {
	n, ok := c.reg.View().Node(pool.Node)
	if !ok {
		return nil, poolregistry.NodeUnknown
	}
	if strings.HasPrefix(string(n.ID), staticNodes) {
		return ownAccess(n, pool.Pool), nil
	}
	if n.Address == "" {
		return nil, errors.New("orchestrator: the node is in this process and has no address")
	}
	list, err := c.client.Workers(ctx, n.Address, pool.Pool)
	if err != nil {
		return nil, err
	}
	out := make([]WorkerAccess, len(list))
	for i, w := range list {
		out[i] = WorkerAccess{Worker: string(w.WorkerID), URL: w.URL, Token: w.Token}
	}
	return out, nil
}
