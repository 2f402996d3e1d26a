package nodehttp

import (
	"context"
	"net/http"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/wirecode"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// Static takes workers on machines without a node daemon and keeps them
// registered. A worker whose id is there already is replaced. Its errors are
// those of Registry.Register. It is called at any time, also concurrently.
type Static interface {
	Put(ctx context.Context, w nodeapi.StaticWorker, principal string) error
}

func (h *handler) static(r *http.Request, p nodeapi.Principal) (any, error) {
	if h.Static == nil {
		return nil, refusal(wirecode.NotFound)
	}
	var w nodeapi.StaticWorker
	if err := decode(r, &w, poolregistry.InvalidNode); err != nil {
		return nil, err
	}
	if err := h.Static.Put(r.Context(), w, p.ID); err != nil {
		return nil, err
	}
	return text("OK"), nil
}
