package orchestrator

import (
	"slices"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/poolregistry"
)

// resolveModel finds the model that a request means, and the digest that its worker
// must report, "" = any: MODEL_DEPRECATED, UNTRUSTED_ARTIFACT.
func (o *Orchestrator) resolveModel(s *Spec) (model, digest string, err error) {
	m, ok := o.catalog.now.Load().find(s.Model)
	switch {
	case o.cfg.StrictModels && (m.Digest == "" || o.catalog.denied(m.ID, m.Digest)):
		return "", "", taskapi.NewError(taskapi.UntrustedArtifact)
	case !ok:
		return s.Model, "", nil
	case m.State == taskapi.ModelRetired:
		e := taskapi.NewError(taskapi.ModelDeprecated)
		if m.Successor != "" {
			e = e.With("successor", m.Successor)
		}
		return "", "", e
	}
	return m.ID, m.Digest, nil
}

// report keeps the newest list of workers.
func (c *catalog) report(list []*placement.Worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = list
}

// offer gives the loop the workers as they count now.
func (o *Orchestrator) offer() {
	o.catalog.mu.Lock()
	defer o.catalog.mu.Unlock()
	o.loop.post(sched.Workers{List: o.catalog.now.Load().trusted(o.catalog.list)})
}

// failed returns the nodes where a model has failed its last verification, sorted.
func (e *entries) failed(id string) (nodes []string) {
	for _, v := range e.byID[id].Verified {
		if v.Result == verdictFail {
			nodes = append(nodes, v.Node)
		}
	}
	return nodes
}

// trusted returns the workers with the digests taken out that a node has failed.
func (e *entries) trusted(list []*placement.Worker) []*placement.Worker {
	out, copied := list, false
	for id := range e.byID {
		nodes := e.failed(id)
		if len(nodes) == 0 {
			continue
		}
		for i, w := range out {
			if w.Digest == "" || !slices.Contains(nodes, w.Node) || !slices.Contains(w.Models, id) {
				continue
			}
			if !copied {
				out, copied = slices.Clone(list), true
			}
			bare := *w
			bare.Digest = ""
			out[i] = &bare
		}
	}
	return out
}

// holders returns a pool of each node that has a model, by node.
func (c *catalog) holders(id string) (out []poolregistry.PoolKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[string]bool)
	for _, w := range c.list {
		if !seen[w.Node] && (slices.Contains(w.Models, id) || slices.ContainsFunc(w.OnDisk, func(d placement.OnDisk) bool { return d.Model == id })) {
			seen[w.Node] = true
			out = append(out, poolregistry.PoolKey{Node: poolregistry.NodeID(w.Node), Pool: poolregistry.PoolID(w.Pool)})
		}
	}
	return out
}

// denied reports whether workers serve a model and none of them has the digest.
func (c *catalog) denied(id, digest string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	serve := false
	for _, w := range c.now.Load().trusted(c.list) {
		if slices.Contains(w.Models, id) {
			if w.Digest == digest {
				return false
			}
			serve = true
		}
	}
	return serve
}
