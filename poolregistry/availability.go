package poolregistry

import (
	"maps"
	"slices"
)

// Availability says which models are where, counted by node and never by pool.
// Nodes that are not online are listed and count nowhere else. Every list is
// sorted and none is nil.
type Availability struct {
	Nodes            map[NodeID]AvailableNode `json:"nodes"`
	Models           []AvailableModel         `json:"models"` // sorted by ID
	TotalModels      int                      `json:"total_models"`
	ReplicatedModels []string                 `json:"replicated_models"`  // on every online node, of which there are two at least
	SingleNodeModels []string                 `json:"single_node_models"` // on exactly one
}

// An AvailableNode is what one node has.
type AvailableNode struct {
	NodeID  NodeID   `json:"node_id"`
	Address string   `json:"address"`
	Online  bool     `json:"online"`
	Models  []string `json:"models"` // of all its pools
	Pools   []struct {
		PoolID PoolID   `json:"pool_id"`
		Ready  bool     `json:"ready"`
		Models []string `json:"models"` // on disk or loaded
	} `json:"pools"` // sorted by PoolID
}

// An AvailableModel is where one model is.
type AvailableModel struct {
	ID            string   `json:"model_id"`
	Nodes         []NodeID `json:"nodes"`          // online ones
	TotalNodes    int      `json:"total_nodes"`    // how many those are
	TotalCapacity int      `json:"total_capacity"` // slots in all, of their pools that take work
	LoadedNodes   int      `json:"loaded_nodes"`   // on how many of them an engine has it loaded
}

// Availability returns the catalogue over all nodes of the view.
func (v *View) Availability() Availability {
	a := Availability{
		Nodes: make(map[NodeID]AvailableNode, len(v.Nodes)), Models: []AvailableModel{},
		ReplicatedModels: []string{}, SingleNodeModels: []string{},
	}
	models := map[string]*AvailableModel{}
	for _, n := range v.Nodes {
		a.Nodes[n.ID] = n.available(models)
	}
	for _, id := range slices.Sorted(maps.Keys(models)) {
		m := models[id]
		a.Models = append(a.Models, *m)
		if m.TotalNodes == 1 {
			a.SingleNodeModels = append(a.SingleNodeModels, id)
		}
		if m.TotalNodes >= 2 && m.TotalNodes == v.Online {
			a.ReplicatedModels = append(a.ReplicatedModels, id)
		}
	}
	a.TotalModels = len(a.Models)
	return a
}

// available returns what n has, and counts it in models if it is online.
func (n *Node) available(models map[string]*AvailableModel) AvailableNode {
	out := AvailableNode{NodeID: n.ID, Address: n.Address, Online: n.Liveness == Online, Models: []string{}}
	loaded := map[string]bool{}
	for i := range n.Pools {
		p := &n.Pools[i]
		refs := p.models()
		row := extend(&out.Pools)
		row.PoolID, row.Ready, row.Models = p.ID, p.Ready, refs
		out.Models = append(out.Models, refs...)
		for _, ref := range p.ModelsLoaded {
			loaded[ref] = true
		}
	}
	if out.Pools == nil {
		out.Pools = slices.Grow(out.Pools, 1)
	}
	slices.Sort(out.Models)
	out.Models = slices.Compact(out.Models)
	if !out.Online {
		return out
	}
	for _, ref := range out.Models {
		m, ok := models[ref]
		if !ok {
			m = &AvailableModel{ID: ref, Nodes: []NodeID{}}
			models[ref] = m
		}
		m.Nodes = append(m.Nodes, n.ID)
		m.TotalNodes++
		if loaded[ref] {
			m.LoadedNodes++
		}
	}
	for i, p := range out.Pools {
		if !n.Pools[i].Available() {
			continue
		}
		for _, ref := range p.Models {
			models[ref].TotalCapacity += n.Pools[i].SlotsTotal
		}
	}
	return out
}

// models returns the references of what the pool has on disk or has loaded.
func (p *Pool) models() []string {
	refs := make([]string, 0, len(p.ModelsAvailable)+len(p.ModelsLoaded))
	for _, m := range p.ModelsAvailable {
		refs = append(refs, m.Ref)
	}
	refs = append(refs, p.ModelsLoaded...)
	slices.Sort(refs)
	return slices.Compact(refs)
}

// extend appends a zero element to a list and returns it.
func extend[T any](list *[]T) *T {
	*list = append(*list, *new(T))
	return &(*list)[len(*list)-1]
}
