package nodehttp

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
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
	body, err := read(r, poolregistry.InvalidBeat)
	if err != nil {
		return nil, err
	}
	var b poolregistry.Beat
	if err := parse(body, &b, poolregistry.InvalidBeat); err != nil {
		if b, err = signOfLife(body, err); err != nil {
			return nil, err
		}
	}
	if b.NodeID != id {
		return nil, refusal(poolregistry.InvalidBeat, "node_id: mismatch")
	}
	return answer(h.Registry.Beat(r.Context(), b))
}

// signOfLife returns what a beat proves whose content cannot be decoded, perhaps
// because its node is newer than this program; fault says what is wrong with it.
func signOfLife(body []byte, fault error) (poolregistry.Beat, error) {
	var sign struct {
		NodeID     poolregistry.NodeID `json:"node_id"`
		LeaseToken string              `json:"lease_token"`
		Seq        uint64              `json:"seq"`
	}
	e, ok := errors.AsType[*poolregistry.Error](fault)
	if !ok || parse(body, &sign, poolregistry.InvalidBeat) != nil {
		return poolregistry.Beat{}, fault
	}
	return poolregistry.Beat{NodeID: sign.NodeID, LeaseToken: sign.LeaseToken, Seq: sign.Seq, Unread: e.Fields}, nil
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

// idOf returns the node id of the path.
func idOf(r *http.Request) (poolregistry.NodeID, error) {
	id, err := poolregistry.ParseNodeID(r.PathValue("id"))
	if err != nil {
		return "", refusal(poolregistry.NodeUnknown)
	}
	return id, nil
}

func (h *handler) lookup(r *http.Request) (*poolregistry.Node, error) {
	id, err := idOf(r)
	if err != nil {
		return nil, err
	}
	n, ok := h.Registry.View().Node(id)
	if !ok {
		return nil, refusal(poolregistry.NodeUnknown)
	}
	return n, nil
}

func (h *handler) node(r *http.Request, _ nodeapi.Principal) (any, error) {
	return answer(h.lookup(r))
}

const (
	maxPage  = 1000
	maxWords = 32 // filters of one kind in one query: each node is compared with all of them
)

// A page is what part of a list is asked for.
type page struct {
	limit            int
	after            poolregistry.NodeID
	statuses, labels []string
}

// statusWords are what Node.Status says.
func statusWords() []string {
	return []string{"registering", "online", "draining", "suspect", "offline", "failed"}
}

func parsePage(q url.Values) (page, error) {
	p := page{maxPage, poolregistry.NodeID(q.Get("after")), q["status"], q["label"]}
	var bad []string
	if q.Has("limit") {
		n, err := strconv.Atoi(q.Get("limit"))
		if p.limit = n; err != nil || n < 1 || n > maxPage {
			bad = append(bad, "limit: range")
		}
	}
	if _, err := poolregistry.ParseNodeID(string(p.after)); err != nil && p.after != "" {
		bad = append(bad, "after: syntax")
	}
	if len(p.labels) > maxWords {
		bad = append(bad, "label: too_long")
	}
	if len(p.statuses) > maxWords {
		bad, p.statuses = append(bad, "status: too_long"), nil
	}
	for i, s := range p.statuses {
		p.statuses[i] = strings.ToLower(s)
		if !slices.Contains(statusWords(), p.statuses[i]) {
			bad = append(bad, "status: unknown")
			break
		}
	}
	if len(bad) > 0 {
		return page{}, refusal(poolregistry.InvalidNode, bad...)
	}
	return p, nil
}

// nodes lists all nodes, whatever their state, filtered and paged as asked.
func (h *handler) nodes(r *http.Request, _ nodeapi.Principal) (any, error) {
	p, err := parsePage(r.URL.Query())
	if err != nil {
		return nil, err
	}
	v := h.Registry.View()
	list := nodeapi.NodeList{
		Nodes: []*poolregistry.Node{}, Total: len(v.Nodes), Online: v.Online, Suspect: v.Suspect, Offline: v.Offline,
		Failed: v.Failed, GuardHeld: v.GuardHeld, Detecting: v.Detecting,
	}
	for _, n := range v.Nodes {
		if n.ID <= p.after || !p.has(n) {
			continue
		}
		if len(list.Nodes) == p.limit {
			list.Next = list.Nodes[p.limit-1].ID
			break
		}
		list.Nodes = append(list.Nodes, n)
	}
	return list, nil
}

// has reports whether n has one of the statuses and all of the labels, which are
// written "key" or "key=value".
func (p page) has(n *poolregistry.Node) bool {
	if len(p.statuses) > 0 && !slices.Contains(p.statuses, n.Status()) {
		return false
	}
	return !slices.ContainsFunc(p.labels, func(l string) bool {
		key, want, exact := strings.Cut(l, "=")
		have, there := n.Labels[key]
		return !there || exact && have != want
	})
}
