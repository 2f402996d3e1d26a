package nodehttp

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

func (h *handler) register(r *http.Request, p nodeapi.Principal) (any, error) {
	var reg poolregistry.Registration
	if err := decode(r, &reg, poolregistry.InvalidNode); err != nil {
		return nil, err
	}
	reg.Principal = p.ID
	return answer(h.Registry.Register(r.Context(), reg))
}

func (h *handler) heartbeat(r *http.Request, p nodeapi.Principal) (any, error) {
	id, err := h.own(r, p)
	if err != nil {
		return nil, err
	}
	var b poolregistry.Beat
	if err := decode(r, &b, poolregistry.InvalidBeat); err != nil {
		return nil, err
	}
	if b.NodeID != id {
		return nil, refusal(poolregistry.InvalidBeat, "node_id: mismatch")
	}
	return answer(h.Registry.Beat(r.Context(), b))
}

func (h *handler) leave(r *http.Request, p nodeapi.Principal) (any, error) {
	id, err := h.own(r, p)
	if err != nil {
		return nil, err
	}
	return nil, h.Registry.Leave(r.Context(), id, r.Header.Get(nodeapi.HeaderLease))
}

// answer turns a typed pair into the endpoint's.
func answer[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

// own returns the node id of the path, if the caller may act on it. An id that
// cannot exist is unknown.
func (h *handler) own(r *http.Request, p nodeapi.Principal) (poolregistry.NodeID, error) {
	n, err := h.lookup(r)
	switch {
	case err != nil:
		return "", err
	case n.Principal != p.ID:
		return "", refusal(poolregistry.Forbidden)
	}
	return n.ID, nil
}

func (h *handler) lookup(r *http.Request) (*poolregistry.Node, error) {
	if id, err := poolregistry.ParseNodeID(r.PathValue("id")); err == nil {
		if n, ok := h.Registry.View().Node(id); ok {
			return n, nil
		}
	}
	return nil, refusal(poolregistry.NodeUnknown)
}

func (h *handler) node(r *http.Request, _ nodeapi.Principal) (any, error) {
	return answer(h.lookup(r))
}

const maxPage = 1000

// nodes lists all nodes, whatever their state, filtered and paged as asked.
func (h *handler) nodes(r *http.Request, _ nodeapi.Principal) (any, error) {
	q := r.URL.Query()
	limit := maxPage
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPage {
			return nil, refusal(poolregistry.InvalidNode, "limit: range")
		}
		limit = n
	}
	after := poolregistry.NodeID(q.Get("after"))
	v := h.Registry.View()
	list := nodeapi.NodeList{
		Nodes: []*poolregistry.Node{}, Total: len(v.Nodes), Online: v.Online, Suspect: v.Suspect, Offline: v.Offline,
		GuardHeld: v.GuardHeld, Detecting: v.Detecting,
	}
	for _, n := range v.Nodes {
		if n.ID <= after || !matches(n, q["status"], q["label"]) {
			continue
		}
		if len(list.Nodes) == limit {
			list.Next = list.Nodes[limit-1].ID
			break
		}
		list.Nodes = append(list.Nodes, n)
	}
	return list, nil
}

// matches reports whether n has one of the statuses and all of the labels, which
// are written "key" or "key=value".
func matches(n *poolregistry.Node, statuses, labels []string) bool {
	ok := len(statuses) == 0
	for _, s := range statuses {
		ok = ok || strings.EqualFold(s, string(n.Liveness))
	}
	for _, l := range labels {
		key, want, exact := strings.Cut(l, "=")
		have, there := n.Labels[key]
		ok = ok && there && (!exact || have == want)
	}
	return ok
}
