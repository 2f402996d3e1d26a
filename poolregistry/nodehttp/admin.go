package nodehttp

import (
	"net/http"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

func (h *handler) cordon(r *http.Request, _ nodeapi.Principal) (any, error) {
	return h.command(r, h.Registry.Cordon)
}

func (h *handler) uncordon(r *http.Request, _ nodeapi.Principal) (any, error) {
	return h.command(r, h.Registry.Uncordon)
}

func (h *handler) clear(r *http.Request, _ nodeapi.Principal) (any, error) {
	return h.command(r, h.Registry.ClearFailed)
}

// maxDrain is the longest deadline that a drain may state: a year.
const maxDrain = 366 * 24 * time.Hour

func (h *handler) drain(r *http.Request, _ nodeapi.Principal) (any, error) {
	var d nodeapi.DrainRequest
	if err := decode(r, &d, poolregistry.InvalidNode); err != nil {
		return nil, err
	}
	if d.DeadlineMS < 0 || d.DeadlineMS > maxDrain.Milliseconds() {
		return nil, refusal(poolregistry.InvalidNode, "deadline_ms: range")
	}
	return h.command(r, func(id poolregistry.NodeID) error {
		return h.Registry.Drain(id, time.Duration(d.DeadlineMS)*time.Millisecond)
	})
}

func (h *handler) fail(r *http.Request, _ nodeapi.Principal) (any, error) {
	var f nodeapi.FailRequest
	if err := decode(r, &f, poolregistry.InvalidNode); err != nil {
		return nil, err
	}
	return h.command(r, func(id poolregistry.NodeID) error { return h.Registry.Fail(id, f.Reason) })
}

// release answers 204: the node is not there any more.
func (h *handler) release(r *http.Request, _ nodeapi.Principal) (any, error) {
	id, err := idOf(r)
	if err != nil {
		return nil, err
	}
	return nil, h.Registry.Release(id)
}

func (h *handler) releaseGuard(*http.Request, nodeapi.Principal) (any, error) {
	h.Registry.ReleaseGuard()
	return nil, nil
}

// command runs one command on the node of the path and answers with the node as
// it is now, or with 204 if it is known only by what was wanted of it.
func (h *handler) command(r *http.Request, do func(poolregistry.NodeID) error) (any, error) {
	id, err := idOf(r)
	if err != nil {
		return nil, err
	}
	if err := do(id); err != nil {
		return nil, err
	}
	if n, ok := h.Registry.View().Node(id); ok {
		return n, nil
	}
	return nil, nil
}
